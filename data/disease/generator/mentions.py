"""Which words of the knowledge table a question uses for its labels.

Belongs here: drawing an expression per label, with or without the label itself. Does not belong here: sentences.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import MappingProxyType

from grammar import fill_slots
from knowledge import Disease

# Names go behind a verb ("有…"); the other kinds are clauses that stand on their own.
NAME_KINDS = frozenset({"label", "alias", "abbreviation", "typo"})

# How often each kind is used; customers talk in symptoms, reports in findings.
SPOKEN: Mapping[str, int] = MappingProxyType(
    {"alias": 27, "abbreviation": 7, "colloquial": 25, "symptom": 16, "treatment": 17, "typo": 6, "finding": 6}
)
WRITTEN: Mapping[str, int] = MappingProxyType(
    {"finding": 70, "alias": 17, "abbreviation": 9, "treatment": 5, "typo": 1}
)


@dataclass(frozen=True, slots=True)
class Mention:
    """An expression of a disease as it stands in a question, slots filled."""

    label: str
    kind: str
    text: str

    @property
    def is_name(self) -> bool:
        """Whether the expression names the disease instead of describing it."""
        return self.kind in NAME_KINDS


def contains_label(text: str, labels: Sequence[str]) -> bool:
    """Whether one of the labels stands verbatim in the text, full-width characters and white space aside."""
    plain = "".join(unicodedata.normalize("NFKC", text).split()).casefold()
    return any("".join(unicodedata.normalize("NFKC", label).split()).casefold() in plain for label in labels)


def draw_mentions(
    diseases: Sequence[Disease], kinds: Mapping[str, int], random: Random, *, verbatim: bool
) -> tuple[Mention, ...]:
    """A mention per disease in random order: at least one the label itself if `verbatim`, else none holds any."""
    labels = [disease.label for disease in diseases]
    named = {random.choice(labels)} | {x for x in labels if random.random() < 0.35} if verbatim else set[str]()
    mentions = [
        Mention(disease.label, "label", disease.label)
        if disease.label in named
        else _draw_mention(disease, () if verbatim else labels, kinds, random)
        for disease in diseases
    ]
    random.shuffle(mentions)
    return tuple(mentions)


def add_clues(
    mentions: Sequence[Mention],
    diseases: Mapping[str, Disease],
    share: float,
    kinds: Mapping[str, int],
    random: Random,
) -> tuple[Mention, ...]:
    """The mentions, a share of the names followed by a second expression of the disease that is no name."""
    clues = {kind: weight for kind, weight in kinds.items() if kind not in NAME_KINDS}
    barred = [mention.label for mention in mentions]
    told: list[Mention] = []
    for mention in mentions:
        told.append(mention)
        disease = diseases[mention.label]
        if mention.is_name and random.random() < share and any(kind in disease.expressions for kind in clues):
            clue = _draw_mention(disease, barred, clues, random)
            told.append(clue)
    return tuple(told)


def _draw_mention(disease: Disease, barred: Sequence[str], kinds: Mapping[str, int], random: Random) -> Mention:
    usable = {
        kind: [text for text in texts if not contains_label(text, barred)]
        for kind, texts in disease.expressions.items()
        if kind != "label"
    }
    kinds_left = [kind for kind in kinds if usable.get(kind)] or [kind for kind in usable if usable[kind]]
    if not kinds_left:
        raise ValueError(f"{disease.label}: every expression contains the label. Add one that does not.")
    kind = random.choices(kinds_left, weights=[kinds.get(kind, 1) for kind in kinds_left])[0]
    texts = usable[kind]
    # The first expressions of a list are the usual ones, so that they come back in other rows.
    text = random.choices(texts, weights=[1 / (1 + 0.3 * position) for position in range(len(texts))])[0]
    return Mention(disease.label, kind, fill_slots(text, random))
