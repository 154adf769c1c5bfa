"""Which language a text is in, by its script and its most frequent small words.

Belongs here: a guess that a person reads and corrects. Does not belong here: anything that a result depends on.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

# The first word of a letter's Unicode name tells its script. Japanese and Korean texts hold Han letters too.
_SCRIPTS = {
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "CJK": "zh",
    "CYRILLIC": "ru",
    "ARABIC": "ar",
    "GREEK": "el",
    "THAI": "th",
    "DEVANAGARI": "hi",
    "LATIN": "latin",
}
_SMALL_WORDS = {
    "en": "the of and to in is that it for was on are with as how what do my can i",
    "de": "der die das und ist nicht ein eine zu den mit von wie ich für auf dem was wird kann",
    "fr": "le la les et des est une un du que pour dans en qui sur pas je au quel comment",
    "es": "el la los las de que y en un una por con para es se cómo qué del no mi",
    "it": "il la di che è e un una per con non del della le i sono come gli nel mi",
    "pt": "o a os as de que e em um uma para com não é do da como por no meu",
    "nl": "de het een en van is dat niet op te zijn met voor hoe ik wat er aan mijn kan",
}
_WORDS = {language: frozenset(words.split()) for language, words in _SMALL_WORDS.items()}
_LETTERS_READ = 20_000
_MIXED_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class LanguageGuess:
    """An ISO 639 code and what it was guessed from."""

    code: str
    reason: str


def guess_language(texts: Iterable[str]) -> LanguageGuess:
    """The language of the texts; English where nothing says anything else."""
    sample = " ".join(texts)[:_LETTERS_READ].casefold()
    scripts = Counter(_script(letter) for letter in sample if letter.isalpha())
    scripts.pop("", None)
    total = scripts.total()
    if not total:
        return LanguageGuess("en", "no letters; English is assumed")
    for mixed in ("ja", "ko"):
        if scripts[mixed] >= _MIXED_SHARE * total:
            return LanguageGuess(mixed, f"{scripts[mixed] / total:.0%} of the letters are {mixed} script")
    script, count = min(scripts.items(), key=lambda item: (-item[1], item[0]))
    if script != "latin":
        return LanguageGuess(script, f"{count / total:.0%} of the letters are {script} script")
    words = Counter(re.findall(r"[^\W\d_]+", sample))
    hits = {language: sum(words[word] for word in small) for language, small in _WORDS.items()}
    best = max(hits, key=lambda language: hits[language])
    if not hits[best]:
        return LanguageGuess("en", "Latin letters without a known small word; English is assumed")
    return LanguageGuess(best, f"{hits[best]} of {words.total()} words are frequent small words of {best}")


def _script(letter: str) -> str:
    return _SCRIPTS.get(unicodedata.name(letter, "").partition(" ")[0], "")
