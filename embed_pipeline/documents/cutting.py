"""Documents cut into passages: whole sentences of one section, as many as the token limit holds.

Belongs here: where a sentence ends, in Chinese and in European languages, and where a passage begins and ends. Does not
belong here: what is a heading or an article (headings), writing passages to files (passages).
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from embed_pipeline.dataset.normalisation import normalise_text, passage_id
from embed_pipeline.documents.document import Block, Document
from embed_pipeline.documents.headings import article_name
from embed_pipeline.documents.settings import DocumentSettings
from embed_pipeline.records import Passage

TokenCounter = Callable[[Sequence[str]], list[int]]
"""The number of tokens of every text, without special tokens."""

HEADING_SEPARATOR = " › "

_CLAUSE_END = re.compile(r"[，,;:、：]\s*")
_SPACE = re.compile(r"\s+")
_CHARACTERS_PER_TOKEN = 16
"""Where more characters than that per token of the limit are too long, what is longer need not be counted."""
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


@dataclass(frozen=True, slots=True)
class _Section:
    """Blocks that stand under one path of headings, and under one article where articles count."""

    headings: tuple[str, ...]
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is not cut any more: a sentence, or a part of one that is longer than a passage."""

    span: Span
    tokens: int
    page: int | None


def cut_document(document: Document, settings: DocumentSettings, count_tokens: TokenCounter) -> Iterator[Passage]:
    """The passages of a document in reading order; none of them has more than `passage_tokens` tokens.

    Text is `document.text[start:end]`, normalised, with the path of headings before it where the settings ask for it.
    Attributes: file, start, end, and heading and page where they are known. A heading is in the path of the passages
    below it and in none of their texts.
    """
    sections = list(_sections(document, settings))
    pieces = iter(_cut_pieces(document, sections, settings, count_tokens))
    for section, own in zip(sections, pieces, strict=True):
        prefix = _prefix(section, settings, count_tokens)
        limit = settings.passage_tokens - (count_tokens([prefix])[0] if prefix else 0)
        for first, last in _pack(document, own, limit, settings.overlap_tokens, count_tokens):
            yield _passage(document, section, prefix, own[first], own[last])


def _sections(document: Document, settings: DocumentSettings) -> Iterator[_Section]:
    headings: tuple[str, ...] = ()
    article, own = "", list[Block]()
    for block in document.blocks:
        name = article_name(document.text[block.start : block.end]) if settings.cut == "article" else ""
        if block.kind == "heading" or block.headings != headings or name:
            if own:
                yield _Section(_path(headings, article), tuple(own))
            headings, own = block.headings, []
            article = "" if block.kind == "heading" else name
        if block.kind != "heading":
            own.append(block)
    if own:
        yield _Section(_path(headings, article), tuple(own))


def _path(headings: tuple[str, ...], article: str) -> tuple[str, ...]:
    return (*headings, article) if article and not (headings and article_name(headings[-1]) == article) else headings


def _cut_pieces(
    document: Document, sections: Sequence[_Section], settings: DocumentSettings, count_tokens: TokenCounter
) -> list[list[_Piece]]:
    """The pieces of every section; all sentences of a document are counted in one call."""
    spans = [
        [(span, block.page) for block in section.blocks for span in _spans_of(document, block)] for section in sections
    ]
    flat = [(span, page) for own in spans for span, page in own]
    counts = iter(count_tokens([normalise_text(document.text[span.start : span.end]) for span, _ in flat]))
    found = []
    for section, own in zip(sections, spans, strict=True):
        prefix = _prefix(section, settings, count_tokens)
        limit = settings.passage_tokens - (count_tokens([prefix])[0] if prefix else 0)
        pieces: list[_Piece] = []
        for span, page in own:
            tokens = next(counts)
            if tokens <= limit:
                pieces.append(_Piece(span, tokens, page))
            else:
                pieces += [_Piece(part, n, page) for part, n in _split_long(document.text, span, limit, count_tokens)]
        found.append(pieces)
    return found


def _spans_of(document: Document, block: Block) -> Iterator[Span]:
    for span in sentence_spans(document.text[block.start : block.end]):
        yield Span(block.start + span.start, block.start + span.end)


def _split_long(text: str, span: Span, limit: int, count_tokens: TokenCounter) -> list[tuple[Span, int]]:
    """A sentence above the limit in parts below it: at clause marks and spaces, else between characters."""
    sentence = text[span.start : span.end]
    clauses, spaces = ([span.start + m.end() for m in mark.finditer(sentence)] for mark in (_CLAUSE_END, _SPACE))
    clauses.append(span.end)
    parts: list[tuple[Span, int]] = []
    start = span.start
    while start < span.end:
        end = None
        for ends in (clauses, spaces, range(start + 1, span.end + 1)):
            end = end or _longest(text, start, ends, limit, count_tokens)
        end = end or start + 1  # a character of more tokens than the limit
        part = strip_span(text, start, end)
        if part is not None:
            parts.append((part, _count(text, part, count_tokens)))
        start = end
    return parts


def _longest(text: str, start: int, ends: Sequence[int], limit: int, count_tokens: TokenCounter) -> int | None:
    """The last of the ascending ends beyond `start` up to which the text stays within the limit; None where none does.

    Looks ahead in strides that double, so that the work grows with the part and not with what follows it.
    """
    first = bisect_right(ends, start)

    def fits(at: int) -> bool:
        sooner = start + _CHARACTERS_PER_TOKEN * limit
        for end in (sooner, ends[at]) if ends[at] > sooner else (ends[at],):
            part = strip_span(text, start, end)
            if part is not None and _count(text, part, count_tokens) > limit:
                return False
        return True

    low, stride = first, 1
    while low + stride - 1 < len(ends) and fits(low + stride - 1):
        low += stride
        stride *= 2
    high = min(low + stride - 1, len(ends))
    while low < high:
        middle = (low + high) // 2
        if fits(middle):
            low = middle + 1
        else:
            high = middle
    return ends[low - 1] if low > first else None


def _pack(
    document: Document, pieces: Sequence[_Piece], limit: int, overlap: int, count_tokens: TokenCounter
) -> Iterator[tuple[int, int]]:
    """First and last piece of every passage of a section.

    The pieces are spread evenly over as few passages as hold them, so that the last one is no small rest.
    """
    before = [0, *accumulate(piece.tokens for piece in pieces)]
    first = 0
    while first < len(pieces):
        left = before[-1] - before[first]
        target = left / max(1, -(-left // limit))
        last, tokens = first, pieces[first].tokens
        while last + 1 < len(pieces) and tokens + pieces[last + 1].tokens <= limit:
            if tokens + pieces[last + 1].tokens / 2 > target:
                break
            last += 1
            tokens += pieces[last].tokens
        # Joined sentences can have more tokens than their sum.
        while last > first and _count(document.text, _joined(pieces[first], pieces[last]), count_tokens) > limit:
            last -= 1
        yield first, last
        following = last + 1
        first = _overlap_start(pieces, first, following, overlap) if following < len(pieces) else following


def _overlap_start(pieces: Sequence[_Piece], first: int, following: int, overlap: int) -> int:
    start, tokens = following, 0
    while start - 1 > first and tokens + pieces[start - 1].tokens <= overlap:
        start -= 1
        tokens += pieces[start].tokens
    return start


def _joined(first: _Piece, last: _Piece) -> Span:
    return Span(first.span.start, last.span.end)


def _count(text: str, span: Span, count_tokens: TokenCounter) -> int:
    return count_tokens([normalise_text(text[span.start : span.end])])[0]


def _prefix(section: _Section, settings: DocumentSettings, count_tokens: TokenCounter) -> str:
    """The headings that go before the text: the innermost ones that leave it half of the limit."""
    if not settings.heading_in_text:
        return ""
    path = list(section.headings)
    while path and count_tokens([normalise_text(HEADING_SEPARATOR.join(path))])[0] > settings.passage_tokens // 2:
        path.pop(0)
    return normalise_text(HEADING_SEPARATOR.join(path))


def _passage(document: Document, section: _Section, prefix: str, first: _Piece, last: _Piece) -> Passage:
    span = _joined(first, last)
    body = normalise_text(document.text[span.start : span.end])
    text = f"{prefix}\n{body}" if prefix else body
    attributes = {"file": document.file, "start": str(span.start), "end": str(span.end)}
    if section.headings:
        attributes["heading"] = normalise_text(HEADING_SEPARATOR.join(section.headings))
    if first.page is not None:
        attributes["page"] = str(first.page)
    return Passage(passage_id(text), text, attributes)


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
