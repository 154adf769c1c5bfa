"""What a line says about itself: headings of texts without markup, and where an article of a statute begins.

Belongs here: the typographic rules that plain text, PDF and cutting share. Does not belong here: reading or cutting.
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
_ARTICLE_NUMERAL = r"[一二三四五六七八九十百千零〇两\d]{1,9}"
_ARTICLE = re.compile(
    rf"""^[\s#*>]*(?:
        第\s?{_ARTICLE_NUMERAL}\s?条(?:之{_ARTICLE_NUMERAL})?(?=[\s:：、，\u3000]|[\u4e00-\u9fff]|$)
      | (?:article|artikel|artículo|articolo|artigo)\s+(?:\d+[a-z]?|premier|[ivxlc]+)\b
        (?!\s*,|\s+(?:of|de|du|der|des|and|et|und)\b)
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


def begins_article(text: str) -> bool:
    """Whether a block or heading begins an article: 第三条, 第3条之一, Article 3, Art. 3, § 7, Section 4.

    A reference at the start of a sentence ("Article 3 of the act", "Art. 3, paragraph 2") is none.
    """
    return _ARTICLE.match(text) is not None


def article_name(text: str) -> str:
    """The article's mark as it stands there, as `第三条`; empty where none begins."""
    match = _ARTICLE.match(text)
    return match.group().lstrip(" \t\n#*>").strip() if match else ""
