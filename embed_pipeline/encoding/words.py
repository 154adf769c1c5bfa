"""Text as words: what BM25 counts and what word vectors belong to.

Belongs here: folding a text, and cutting it into words, per language. Does not belong here: scoring.
"""

import re
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jieba

Cutter = Callable[[str], list[str]]

_WORD = re.compile(r"[぀-ヿ㐀-䶿一-鿿豈-﫿]|[^\W_぀-ヿ㐀-䶿一-鿿豈-﫿]+")
"""A run of letters and digits; where a script has no spaces between words, each character."""


def fold(text: str) -> str:
    """The text NFKC-normalised and lower-cased: one form for full and half width, upper and lower case."""
    return unicodedata.normalize("NFKC", text).lower()


def word_cutter(language: str) -> Cutter:
    """The function that gives the words of a text, in their order, NFKC and lower-cased; none for punctuation.

    Chinese ("zh"): jieba in search mode, so a long word also gives the words inside it. Others: runs of letters and
    digits, single characters for Chinese and Japanese script.
    """
    return _cut_chinese if language == "zh" else _cut_words


def _cut_words(text: str) -> list[str]:
    return _WORD.findall(fold(text))


def _cut_chinese(text: str) -> list[str]:
    words = _jieba().cut_for_search(fold(text))
    return [word for word in words if any(character.isalnum() for character in word)]


@cache
def _jieba() -> "jieba.Tokenizer":
    import jieba

    # Filled by hand: initialize() would read and write a cache in the shared temporary directory, and log about it.
    tokenizer = jieba.Tokenizer()
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return tokenizer
