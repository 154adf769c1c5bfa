"""One written form per text, and the ids that are taken from it.

Belongs here: what makes two texts the same. Does not belong here: what makes them nearly the same (near_duplicates).
"""

import hashlib
import re
import unicodedata
from collections.abc import Sequence


class _ControlsOut(dict[int, str | None]):
    """Translation table filled as characters turn up: controls that are white space become a space, others go."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        if unicodedata.category(character) in ("Cc", "Cf", "Cs"):  # control, zero-width and direction marks, half pairs
            self[code] = " " if character.isspace() else None
        else:
            self[code] = character
        return self[code]


class _LettersAndDigits(dict[int, str | None]):
    """Translation table that keeps letters, numbers and the marks that belong to letters (vowel signs)."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        self[code] = character if unicodedata.category(character)[0] in "LNM" else None
        return self[code]


# Behind a digit, where NFKC would write another number: 10⁹ as 109, 1½ as 11⁄2.
_BEHIND_A_DIGIT = re.compile(r"[⁺⁻⁰¹²³⁴-⁹ⁿ¼½¾⅐-⅞↉](?<=\d.)(?:(?<![⁺⁻])|(?=[⁰¹²³⁴-⁹ⁿ]))")
_CONTROLS_OUT = _ControlsOut()
_LETTERS_AND_DIGITS = _LettersAndDigits()


def normalise_text(text: str) -> str:
    """The text in NFKC, runs of white space as one space, stripped, without control and zero-width characters.

    What NFKC would join to the digits before it stays apart: 10⁹ is 10^9, 1½ is 1 1/2. Normalising twice changes
    nothing. May be empty.
    """
    text = text.translate(_CONTROLS_OUT)
    text = text if text.isascii() else _BEHIND_A_DIGIT.sub(_apart, text)
    return " ".join(unicodedata.normalize("NFKC", text).split())


def split_cell(text: str, separators: Sequence[str]) -> list[str]:
    """The texts that separators part in a cell, in their order, each once; empty ones are none.

    Full-width and half-width forms part alike: ";" also at "；". Without separators the text as it is, whatever it is.
    """
    if not separators:
        return [text]
    parts = re.split(separator_pattern(separators), fold_cell(text))
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def separator_pattern(separators: Sequence[str]) -> str:
    """What finds the separators in a folded cell; of several at one place the first that is named."""
    return "|".join(re.escape(unicodedata.normalize("NFKC", separator)) for separator in separators)


def fold_cell(text: str) -> str:
    """The text of a cell in NFKC, its line ends as one kind, for separators to be found in.

    What normalise_text keeps apart from a digit waits for it: the line of a fraction is no separator.
    """
    around = re.split(f"({_BEHIND_A_DIGIT.pattern})", text.replace("\r\n", "\n").replace("\r", "\n"))
    return "".join(one if at % 2 else unicodedata.normalize("NFKC", one) for at, one in enumerate(around))


def canonical_form(text: str) -> str:
    """Letters and digits of the text, casefolded: the key that decides whether two questions are the same group.

    A text without any (only punctuation or emoji) is its own key. Empty only for an empty text.
    """
    folded = unicodedata.normalize("NFKC", normalise_text(text).casefold())
    return folded.translate(_LETTERS_AND_DIGITS) or folded


def query_id(text: str) -> str:
    """`q-` and 16 hexadecimal digits of the normalised text's sha256."""
    return f"q-{_digest(text)[:16]}"


def passage_id(text: str) -> str:
    """`p-` and 12 hexadecimal digits of the normalised text's sha256."""
    return f"p-{_digest(text)[:12]}"


def _apart(match: re.Match[str]) -> str:
    written = unicodedata.normalize("NFKC", match.group())
    return f" {written.replace('⁄', '/')}" if "⁄" in written else f"^{match.group()}"


def _digest(text: str) -> str:
    return hashlib.sha256(normalise_text(text).encode()).hexdigest()
