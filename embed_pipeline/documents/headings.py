"""Headings of texts without markup: what a numbered or set-apart line says about itself.

Belongs here: the typographic rules that plain text and PDF share. Does not belong here: reading either.
"""

import re

_NUMERAL = r"[一二三四五六七八九十百零〇\d]{1,6}"
_CHINESE = (
    (re.compile(rf"^第\s?{_NUMERAL}\s?[编篇部]"), 1),
    (re.compile(rf"^第\s?{_NUMERAL}\s?章"), 2),
    (re.compile(rf"^第\s?{_NUMERAL}\s?节"), 3),
)
_NAMED = (
    (re.compile(r"^(?:part|titre|teil|title)\s+(?:[IVXLC]+|\d+)\b", re.IGNORECASE), 1),
    (re.compile(r"^(?:chapter|chapitre|kapitel|annex|annexe|anhang)\s+(?:[IVXLC]+|\d+|[A-Z])\b", re.IGNORECASE), 2),
    (re.compile(r"^item\s+\d{1,2}[A-C]?\.(?:\s|$)", re.IGNORECASE), 2),
    (re.compile(r"^(?:section|abschnitt)\s+(?:[IVXLC]+|\d+)\b", re.IGNORECASE), 3),
    (re.compile(r"^(?:article|artikel)\s+(?:\d+[a-z]?|[IVXLC]+|premier)\b", re.IGNORECASE), 4),
)
_NUMBERED = re.compile(r"^(\d{1,2}(?:\.\d{1,2}){0,3})\.?\s+\S")
_LONGEST, _LONGEST_CHINESE = 90, 40
_ENDS_A_SENTENCE = re.compile(r"[.。;；,，:：!?！？…]$")


def heading_level(line: str) -> int | None:
    """The level of a line that looks like a heading, from 1; None for any other line.

    第一编, 第一章, 第一节; Part I, Chapter 2, Item 1A., Section 3, Article 4; 1.2 Title; a short line in capitals.
    """
    line = " ".join(line.split())
    if not line or len(line) > (_LONGEST_CHINESE if re.search(r"[\u4e00-\u9fff]", line) else _LONGEST):
        return None
    for pattern, level in (*_CHINESE, *_NAMED):
        if pattern.match(line):
            return None if re.search(r"[;；,，。]$", line) else level
    if _ENDS_A_SENTENCE.search(line):
        return None
    if match := _NUMBERED.match(line):
        rest = line[match.end(1) :].lstrip(". ")
        return 2 + match.group(1).count(".") if rest[:1].isupper() or "\u4e00" <= rest[:1] <= "\u9fff" else None
    letters = [c for c in line if c.isalpha()]
    is_capitals = len(letters) >= 6 and all(c.isupper() for c in letters) and len(line.split()) >= 2
    return 3 if is_capitals and line.isascii() else None
