"""What a line says about itself: headings of texts without markup, and where an article of a statute begins.

Belongs here: the typographic rules that plain text, PDF and cutting share. Does not belong here: reading or cutting.
"""

import re
from collections.abc import Sequence
from itertools import dropwhile, takewhile

_NUMERAL = r"[一二三四五六七八九十百零〇\d]{1,6}"
_OF = r"\s+(?:of|de|du|der|des|and|et|und)\b"
_REFERS = rf"(?!\s*,|{_OF})"
# A comma before a capital, with no number behind it, stands before a title: "Annex A, List of Forms".
_REFERS_UNTITLED = rf"(?!\s*,(?!\s*[A-ZÀ-Þ]\D*$)|{_OF})"
_CHINESE = (
    (re.compile(rf"^第\s?{_NUMERAL}\s?[编篇部](?![的、]|规定|至第)"), 1),
    (re.compile(rf"^第\s?{_NUMERAL}\s?章(?![的、]|规定|至第)"), 2),
    (re.compile(rf"^第\s?{_NUMERAL}\s?节(?![的、]|规定|至第)"), 3),
)
# Case counts in what makes a reference: "Titre II des statuts" is one, "TITRE II DES ABSENTS" a heading.
_NAMED = tuple(
    (re.compile(rf"^{name}(?-i:{_REFERS_UNTITLED})", re.IGNORECASE), level)
    for name, level in (
        (r"(?:part|titre|teil|title)\s+(?:[IVXLC]+|\d+)\b", 1),
        (r"(?:chapter|chapitre|kapitel|annex|annexe|anhang)\s+(?:[IVXLC]+|\d+|[A-Z])\b", 2),
        (r"item\s+\d{1,2}[A-C]?\.(?:\s|$)", 2),
        (r"(?:section|abschnitt)\s+(?:[IVXLC]+|\d+)\b", 3),
        (r"(?:article|artikel)\s+(?:\d+[a-z]?|[IVXLC]+|premier)\b", 4),
    )
)
_NUMBERED = re.compile(r"^(\d{1,2}(?:\.\d{1,2}){0,3})\.?\s+\S")
_LONGEST, _LONGEST_CHINESE = 90, 40
_ENDS_A_SENTENCE = re.compile(r"[.。;；,，:：!?！？…]$")
_ROW_OF_FIGURES = re.compile(r"(?:\s[-+(]?[\d.,]*\d[)%]?){2,}$")
# No heading ends in one of these; in one of those that follow it may ("Signing in"), but a sentence goes on behind it.
_CUT_OFF = re.compile(
    r"\b(?:the|and|or|of|und|oder|der|die|das|dem|den|des|von|vom|zum|zur|im|et|ou|de|du|la|le|les|au|aux)$",
    re.IGNORECASE,
)
_GOES_ON = re.compile(
    rf"[,，、]$|{_CUT_OFF.pattern}|"
    r"\b(?:an?|in|to|by|for|with|from|within|under|at|as|per|mit|nach|für|bei|seit|bis|pour|par|sur|dans|en|avec)$",
    re.IGNORECASE,
)
# The number that follows is what a sentence names; behind "the section" none does.
_CITES = re.compile(
    r"(?<!\bthe )(?<!\bthis )"
    r"\b(?:section|article|chapter|paragraph|clause|annex|part|abschnitt|artikel|absatz|kapitel|chapitre|paragraphe)$",
    re.IGNORECASE,
)
_LINES_AROUND, _FULL, _HALF = 4, 0.75, 0.5
_MOST_WORDS = 5
_ARTICLE_NUMERAL = r"[一二三四五六七八九十百千零〇两\d]{1,9}"
_ARTICLE = re.compile(
    rf"""^[\s#*>]*(?:
        第\s?{_ARTICLE_NUMERAL}\s?条(?:[之の]{_ARTICLE_NUMERAL})?(?=[\s:：、，\u3000【〔［\[]|[（(](?!{_NUMERAL}[）)])|[\u4e00-\u9fff]|$)
      | (?:article|artikel|artículo|articolo|artigo)\s+(?:\d+[a-z]?|premier|[ivxlc]+)\b
        {_REFERS}
      | art\.\s?\d+[a-z]?\b(?!\s*,)
      | §+\s?\d+[a-z]?\b(?!\s*,)
      | section\s+\d+[a-z]?\s?\.(?!\d)
    )""",
    re.VERBOSE | re.IGNORECASE,
)


def heading_level(line: str) -> int | None:
    """The level of a line that looks like a heading, from 1; None for any other line.

    第一编, 第一章, 第一节; Part I, Chapter 2, Item 1A., Section 3, Article 4; 1.2 Title; a short line in capitals.
    """
    line = " ".join(line.split())
    if not line or len(line) > (_LONGEST_CHINESE if re.search(r"[\u4e00-\u9fff]", line) else _LONGEST):
        return None
    for pattern, level in (*_CHINESE, *_NAMED):
        if match := pattern.match(line):
            rest = line[match.end() :].lstrip()
            is_sentence = (rest[:1].islower() or rest[:1] == ",") and _ENDS_A_SENTENCE.search(line)
            return None if is_sentence or re.search(r"[;；,，。]$", line) else level
    if _ENDS_A_SENTENCE.search(line) or _ROW_OF_FIGURES.search(line):
        return None
    if match := _NUMBERED.match(line):
        rest = line[match.end(1) :].lstrip(". ")
        return 2 + match.group(1).count(".") if rest[:1].isupper() or "\u4e00" <= rest[:1] <= "\u9fff" else None
    return 3 if _is_in_capitals(line) and line.isascii() else None


def heading_levels(lines: Sequence[str]) -> list[int | None]:
    """The level of every line that is a heading where it stands, from 1; an empty line ends a paragraph.

    A line that looks like a heading is none inside a sentence that is wrapped, among numbered lines (a list, rows of a
    table) and among lines in capitals (a notice): what is taken for a heading is in no passage, so in doubt it is text.
    Of two lines in capitals the second stands below the first. A title, with no text of its own above the first
    section, stands above all: the level of its last line is 0, and that of the line above it -1.
    """
    lines = [" ".join(line.split()) for line in lines]
    levels: list[int | None] = []
    numbered: set[tuple[int, ...]] = {()}  # the numbers of the headings so far
    for at, line in enumerate(lines):
        level = heading_level(line)
        if level is not None:
            is_next = _is_next(line, numbered) and not (at and _CITES.search(lines[at - 1]))
            if _is_in_a_sentence(lines, levels, at, is_next) or _is_in_a_list(lines, at):
                level = None
            elif _is_plain_capitals(line):
                level += at > 0 and _is_plain_capitals(lines[at - 1])
            else:
                numbered.add(_numbers(line))
        levels.append(level)
    _raise_title(lines, levels)
    return levels


def is_mark(text: str) -> bool:
    """Whether a heading is the number of a part and no title: `Article 5`, `CHAPTER II`, `第三章`."""
    text = text.strip()
    marks = (pattern.match(text) for pattern, _ in (*_CHINESE, *_NAMED))
    return article_name(text) == text or any(mark is not None and mark.end() == len(text) for mark in marks)


def _is_in_a_sentence(lines: Sequence[str], levels: Sequence[int | None], at: int, is_next: bool) -> bool:
    before, line, after = (lines[i] if 0 <= i < len(lines) else "" for i in (at - 1, at, at + 1))
    longest = max(map(len, lines[max(0, at - _LINES_AROUND) : at + _LINES_AROUND + 1]))
    is_long = len(line) >= _HALF * longest
    goes_on = _goes_on_in(line, after) if is_next else _begins_small(after)
    if _CUT_OFF.search(line) or (goes_on and _NUMBERED.match(line)):
        return True
    if not before or levels[at - 1] is not None or re.search(r"[.。;；:：!?！？…]$", before):
        return False
    is_full = len(before) >= _FULL * longest and not _ROW_OF_FIGURES.search(before)
    ends_in_capitals = " ".join(before.split()[-2:]).isupper()
    is_title = is_next or (_is_plain_capitals(line) and line[0].isalpha() and not ends_in_capitals)
    is_wrapped = is_full and is_long and not is_title
    return goes_on or is_wrapped or _GOES_ON.search(before) is not None


def _is_next(line: str, numbered: set[tuple[int, ...]]) -> bool:
    """Whether a number with a full stop goes on from those of earlier headings: `3.` from 2, `4.1` from 4."""
    own = _numbers(line)
    if not own or not re.match(r"\d+\.", line):
        return False
    return ((*own[:-1], own[-1] - 1) if own[-1] > 1 else own[:-1]) in numbered


def _raise_title(lines: Sequence[str], levels: list[int | None]) -> None:
    """Puts the first headings in capitals above all others where another heading follows at once."""
    filled = list(dropwhile(lambda at: levels[at] is None, (at for at, line in enumerate(lines) if line)))
    titles = list(takewhile(lambda at: levels[at] is not None and _is_plain_capitals(lines[at]), filled))
    if all(levels[at] is None for at in filled[len(titles) : len(titles) + 1]):
        # The last one has a text of its own, and what stands directly above it belongs to it.
        titles = titles[:-1]
        while titles and lines[titles[-1] + 1]:
            titles.pop()
    for place, at in enumerate(titles, start=1):
        levels[at] = place - len(titles)


def _is_in_a_notice(lines: Sequence[str], at: int) -> bool:
    """Whether a line in capitals is among others, unless they are two short ones above what they are the titles of."""
    first = last = at
    while first > max(0, at - 2) and _is_plain_capitals(lines[first - 1]):
        first -= 1
    while last < min(len(lines) - 1, at + 2) and _is_plain_capitals(lines[last + 1]):
        last += 1
    if last - first != 1:
        return last > first
    for line in lines[first : last + 1]:
        is_title = heading_level(line) is not None and line[0].isalpha() and not _CUT_OFF.search(line)
        if not is_title or "," in line or len(line.split()) > _MOST_WORDS:
            return True
    following = next((at for at in range(last + 1, len(lines)) if lines[at]), len(lines))
    below = lines[following] if following < len(lines) else ""
    is_text = (
        following == last + 1 and re.search(r"[^\W\d_]", below) and not below.isupper() and not _begins_small(below)
    )
    is_section = heading_level(below) is not None and not _is_plain_capitals(below)
    return not (is_text or is_section)


def _is_in_a_list(lines: Sequence[str], at: int) -> bool:
    if _is_named(lines[at]):
        return False
    own = _numbers(lines[at])
    if not own:
        return _is_in_a_notice(lines, at)
    before, before_is_apart = _numbers_beside(lines, range(at - 1, -1, -1))
    after, after_is_apart = _numbers_beside(lines, range(at + 1, len(lines)))
    return _continues(before, own, before_is_apart) or _continues(own, after, after_is_apart)


def _numbers_beside(lines: Sequence[str], side: range) -> tuple[tuple[int, ...], bool]:
    """The numbers of the nearest line but for those that one goes on in, and whether it is apart; none where it is the
    title of a section, as `3.2 Cooling` over an empty line.
    """
    is_apart = False
    for at in side:
        if lines[at] and not _begins_small(lines[at]):
            found, after = _numbers(lines[at]), lines[at + 1] if at + 1 < len(lines) else ""
            is_title = len(found) > 1 and heading_level(lines[at]) is not None and not _goes_on_in(lines[at], after)
            return () if is_apart and is_title else found, is_apart
        is_apart = is_apart or not lines[at] or not _goes_on_in(lines[at - 1], lines[at])
    return (), is_apart


def _continues(one: tuple[int, ...], other: tuple[int, ...], is_apart: bool) -> bool:
    """Whether a list goes on with a number: over an empty line only with the next, for a section may begin there."""
    if not one or len(one) != len(other):
        return False
    return one[:-1] == other[:-1] and other[-1] - one[-1] in (0, 1) if is_apart else one <= other


def _is_named(line: str) -> bool:
    return any(pattern.match(line) for pattern, _ in (*_CHINESE, *_NAMED))


def _begins_small(line: str) -> bool:
    """Whether a line begins with a small letter as a word does: `a)` and `iPhone` do not."""
    return re.match(r"\w[\w '’-]", line) is not None and line[:2].islower()


def _goes_on_in(line: str, after: str) -> bool:
    """Whether a line may be wrapped into one that begins small: a much shorter one is its title, `4.2 Notice`."""
    return _begins_small(after) and len(line) >= _HALF * len(after)


def _numbers(line: str) -> tuple[int, ...]:
    """What a line is numbered with, `1.2` as two numbers."""
    match = _NUMBERED.match(line)
    return tuple(map(int, match.group(1).split("."))) if match else ()


def _is_in_capitals(line: str) -> bool:
    letters = [c for c in line if c.isalpha()]
    return len(letters) >= 6 and all(c.isupper() for c in letters) and len(line.split()) >= 2


def _is_plain_capitals(line: str) -> bool:
    """Whether a line is in capitals and has no number of a section; `30 DAYS LATER` has none."""
    return _is_in_capitals(line) and not _is_named(line) and not re.match(r"\d+\.", line)


def begins_article(text: str) -> bool:
    """Whether a block or heading begins an article: 第三条, 第3条之一, 第三条（定义）, Article 3, Art. 3, § 7,
    Section 4.

    A reference at the start of a sentence ("Article 3 of the act", "Art. 3, paragraph 2") is none.
    """
    return _ARTICLE.match(text) is not None


def article_name(text: str) -> str:
    """The article's mark as it stands there, as `第三条`; empty where none begins."""
    match = _ARTICLE.match(text)
    return match.group().lstrip(" \t\n#*>").strip() if match else ""
