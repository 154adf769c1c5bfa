"""Where sentences end, in Chinese and in European languages.

Belongs here: the rules of full stops. Does not belong here: how sentences become passages (cutting).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_CLOSING = "\"'”’»）)】」』》〉]"
# Chinese marks end a sentence wherever they stand; of the others only those that a space, or the end, follows.
_END = re.compile(
    rf"(?:[。！？；…]+[{re.escape(_CLOSING)}]*)|(?:(?<![.!?])[.!?]+[{re.escape(_CLOSING)}]*(?=\s|$|[\u4e00-\u9fff]))|(?:\n\s*\n)"
)
_ABBREVIATION = re.compile(
    r"""(?:^|[\s(（"“„«\['’])(?:
        (?:art|arts|abs|al|approx|bzw|ca|cap|cf|ch|chap|co|corp|dept|dr|ed|eds|eq|etc|ex|fig|figs|ff|gen|hr|inc|jr|lit|
           ltd|max|mio|mme|mr|mrs|ms|min|no|nos|nr|op|p|par|para|pp|prof|resp|s|sec|sect|sr|st|str|tab|tel|u\.?a|usw|v|
           vgl|vol|vs|z|zzgl|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|okt|nov|dec|dez)
      | (?:[a-z]\.\s?)+[a-z]         # e.g., i.e., z. B., p. ex., U.S.
      | p\.\s?ex
      | [A-Z]                        # initials
      | \(?\d{1,3}                   # 1. of an enumeration or a date
    )\.$""",
    re.VERBOSE | re.IGNORECASE,
)
_LOOKED_BACK = 24


@dataclass(frozen=True, slots=True)
class Span:
    """The characters `text[start:end]`."""

    start: int
    end: int


def sentence_spans(text: str) -> list[Span]:
    """The sentences in their order, without white space around them; every other character is in exactly one.

    A full stop after an abbreviation, an initial or a number ends none, unless a blank line follows.
    """
    spans = []
    start = 0
    for end in _ends(text):
        spans.append((start, end))
        start = end
    spans.append((start, len(text)))
    return [stripped for start, end in spans if (stripped := strip_span(text, start, end)) is not None]


def strip_span(text: str, start: int, end: int) -> Span | None:
    """The span without white space at both ends; None where nothing is left."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return Span(start, end) if start < end else None


def _ends(text: str) -> Iterator[int]:
    for match in _END.finditer(text):
        mark = match.group()
        if not mark.isspace() and mark.rstrip(_CLOSING) == "." and _goes_on(text, match.start(), match.end()):
            continue
        yield match.end()


def _goes_on(text: str, stop: int, end: int) -> bool:
    following = text[end : end + 3].lstrip()
    if not following or "\n\n" in text[end : end + 3]:
        return False
    before = text[max(0, stop - _LOOKED_BACK) : stop + 1]
    return bool(_ABBREVIATION.search(before)) or following[0].islower()
