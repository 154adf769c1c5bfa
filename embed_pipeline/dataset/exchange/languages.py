"""Which language texts are in, as py3langid has it.

Belongs here: a guess that a person reads and corrects. Does not belong here: anything that a result depends on.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

_LETTERS_READ = 20_000
_LEAST_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class LanguageGuess:
    """An ISO 639 code and what it was guessed from."""

    code: str
    reason: str


def guess_language(texts: Iterable[str]) -> LanguageGuess:
    """The language of the texts; English where they hold no letters, or names and numbers alone."""
    sample = " ".join(texts)[:_LETTERS_READ]
    if not any(map(str.isalpha, sample)):
        return LanguageGuess("en", "no letters; English is assumed")
    (code, share), (second, _) = _identifier().rank(sample)[:2]
    if share < _LEAST_SHARE:
        return LanguageGuess("en", f"no language is plain to see ({code} {share:.0%}); English is assumed")
    return LanguageGuess(code, f"guessed from {len(sample):,} characters, {share:.0%} sure; {second} comes next")


@cache
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    found = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    # Those of three letters are written by few (wuu, yue) and would take a share of Chinese.
    found.set_languages([code for code in found.labels if len(code) == 2])
    return found
