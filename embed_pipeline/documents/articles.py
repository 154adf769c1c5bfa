"""Where an article of a statute or a contract begins.

Belongs here: recognising it. Does not belong here: cutting there (cutting).
"""

import re

_NUMERAL = r"[一二三四五六七八九十百千零〇两\d]{1,9}"
_ARTICLE = re.compile(
    rf"""^[\s#*>]*(?:
        第\s?{_NUMERAL}\s?条(?:之{_NUMERAL})?(?=[\s:：、，\u3000]|[\u4e00-\u9fff]|$)
      | (?:article|artikel|artículo|articolo|artigo)\s+(?:\d+[a-z]?|premier|[ivxlc]+)\b
        (?!\s*,|\s+(?:of|de|du|der|des|and|et|und)\b)
      | art\.\s?\d+[a-z]?\b(?!\s*,)
      | §+\s?\d+[a-z]?\b(?!\s*,)
      | section\s+\d+[a-z]?\s?\.(?!\d)
    )""",
    re.VERBOSE | re.IGNORECASE,
)


def begins_article(text: str) -> bool:
    """Whether a block or heading begins an article: 第三条, 第3条之一, Article 3, Art. 3, § 7, Section 4.

    A reference at the start of a sentence ("Article 3 of the act", "Art. 3, paragraph 2") is none.
    """
    return _ARTICLE.match(text) is not None


def article_name(text: str) -> str:
    """The article's mark as it stands there, as `第三条`; empty where none begins."""
    match = _ARTICLE.match(text)
    return match.group().lstrip(" \t\n#*>").strip() if match else ""
