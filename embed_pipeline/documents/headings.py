"""What a line says about itself: headings of texts without markup, and where an article of a statute begins.

Belongs here: the typographic rules that plain text, PDF and cutting share. Does not belong here: reading or cutting.
"""

import re
from collections.abc import Sequence

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
_LINES_AROUND, _FULL, _HALF = 4, 0.75, 0.5
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
    """
    lines = [" ".join(line.split()) for line in lines]
    levels: list[int | None] = []
    for at, line in enumerate(lines):
        level = heading_level(line)
        if level is not None and (_is_in_a_sentence(lines, levels, at) or _is_in_a_list(lines, at)):
            level = None
        levels.append(level)
    return levels


def is_mark(text: str) -> bool:
    """Whether a heading is the number of a part and no title: `Article 5`, `CHAPTER II`, `第三章`."""
    text = text.strip()
    marks = (pattern.match(text) for pattern, _ in (*_CHINESE, *_NAMED))
    return article_name(text) == text or any(mark is not None and mark.end() == len(text) for mark in marks)


def _is_in_a_sentence(lines: Sequence[str], levels: Sequence[int | None], at: int) -> bool:
    before, line, after = (lines[i] if 0 <= i < len(lines) else "" for i in (at - 1, at, at + 1))
    goes_on = _begins_small(after)
    if _CUT_OFF.search(line) or (goes_on and _NUMBERED.match(line)):
        return True
    if not before or levels[at - 1] is not None or re.search(r"[.。;；:：!?！？…]$", before):
        return False
    longest = max(map(len, lines[max(0, at - _LINES_AROUND) : at + _LINES_AROUND + 1]))
    is_wrapped = len(before) >= _FULL * longest and len(line) >= _HALF * longest and not _ROW_OF_FIGURES.search(before)
    return goes_on or is_wrapped or _GOES_ON.search(before) is not None


def _is_in_a_list(lines: Sequence[str], at: int) -> bool:
    if _is_named(lines[at]):
        return False
    own = _numbers(lines[at])
    if not own:
        beside = (*lines[max(0, at - 1) : at], *lines[at + 1 : at + 2])
        return any(_is_in_capitals(line) and not _is_named(line) for line in beside)
    before, before_is_apart = _numbers_beside(lines, range(at - 1, -1, -1))
    after, after_is_apart = _numbers_beside(lines, range(at + 1, len(lines)))
    return _continues(before, own, before_is_apart) or _continues(own, after, after_is_apart)


def _numbers_beside(lines: Sequence[str], side: range) -> tuple[tuple[int, ...], bool]:
    """The numbers of the nearest line but for those that one goes on in, and whether an empty one lies between."""
    is_apart = False
    for at in side:
        if lines[at] and not _begins_small(lines[at]):
            return _numbers(lines[at]), is_apart
        is_apart = is_apart or not lines[at]
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


def _numbers(line: str) -> tuple[int, ...]:
    """What a line is numbered with, `1.2` as two numbers."""
    match = _NUMBERED.match(line)
    return tuple(map(int, match.group(1).split("."))) if match else ()


def _is_in_capitals(line: str) -> bool:
    letters = [c for c in line if c.isalpha()]
    return len(letters) >= 6 and all(c.isupper() for c in letters) and len(line.split()) >= 2


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
