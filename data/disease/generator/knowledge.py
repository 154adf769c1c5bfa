"""The knowledge table: what each disease is called, how it shows, and who gets it.

Belongs here: reading and checking knowledge/*.yaml and population.yaml. Does not belong here: any
sentence around a disease.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import yaml

# The key in the YAML and what one expression under it is called everywhere else.
KIND_OF_KEY: Mapping[str, str] = MappingProxyType(
    {
        "aliases": "alias",
        "abbreviations": "abbreviation",
        "colloquial": "colloquial",
        "symptoms": "symptom",
        "findings": "finding",
        "treatments": "treatment",
        "typos": "typo",
    }
)

# Years of age at which a label is had unless population.yaml says otherwise.
GROWN_UP = (19, 78)


@dataclass(frozen=True, slots=True)
class Disease:
    """One label with its expressions by kind; kind "label" holds the label itself."""

    label: str
    expressions: Mapping[str, tuple[str, ...]]
    related: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Population:
    """How often each label is drawn, for which sex and ages, beside which labels never; what is named in passing.

    `strangers` are names that the knowledge table lacks.
    """

    weights: Mapping[str, int]
    sexes: Mapping[str, str]
    ages: Mapping[str, tuple[int, int]]
    exclusive: tuple[frozenset[str], ...]
    mentioned_in_passing: tuple[str, ...]
    strangers: tuple[str, ...]


def read_knowledge(directory: Path) -> tuple[Disease, ...]:
    """Every disease of the table, files in order of their names.

    Raises ValueError when two entries share a label, when one entry's other name is another's label, or when one
    expression stands under two labels: such a question would have no right answer.
    """
    diseases: list[Disease] = []
    place_of_label: dict[str, str] = {}
    for path in sorted(directory.glob("*.yaml")):
        for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
            label = entry["label"]
            if label in place_of_label:
                raise ValueError(
                    f"{path.name}: label {label} stands already in {place_of_label[label]}. Keep one of the two."
                )
            place_of_label[label] = path.name
            expressions = {kind: tuple(entry.get(key, ())) for key, kind in KIND_OF_KEY.items() if entry.get(key)}
            unknown_keys = sorted(set(entry) - set(KIND_OF_KEY) - {"label", "related"})
            if unknown_keys:
                raise ValueError(f"{path.name}, {label}: unknown keys {unknown_keys}. Known: {sorted(KIND_OF_KEY)}.")
            diseases.append(
                Disease(label, MappingProxyType({"label": (label,), **expressions}), tuple(entry.get("related", ())))
            )
    _require_one_owner_of_each_expression(diseases)
    return tuple(diseases)


def _require_one_owner_of_each_expression(diseases: Sequence[Disease]) -> None:
    owner: dict[str, str] = {disease.label: disease.label for disease in diseases}
    for disease in diseases:
        for text in (text for texts in disease.expressions.values() for text in texts):
            if owner.setdefault(text, disease.label) != disease.label:
                raise ValueError(f'"{text}" stands under {owner[text]} and under {disease.label}. Delete one of them.')


def read_population(path: Path, labels: Sequence[str]) -> Population:
    """What population.yaml says about the given labels. Raises ValueError for a label of both sexes."""
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    weights = {label: 6 if label in settings["common"] else 3 if label in settings["usual"] else 1 for label in labels}
    sexes: dict[str, str] = {}
    for sex in ("female", "male"):
        for label in labels:
            if any(word in label for word in settings[sex]) and sexes.setdefault(label, sex) != sex:
                raise ValueError(f"{path.name}: {label} contains a female and a male word. Make one longer.")
    ages = dict.fromkeys(labels, GROWN_UP)
    for group in settings["ages"]:
        youngest, oldest = group["years"]
        ages.update({label: (youngest, oldest) for label in labels if any(word in label for word in group["words"])})
    named = {*settings["common"], *settings["usual"], *(label for line in settings["exclusive"] for label in line)}
    return Population(
        weights,
        sexes,
        ages,
        tuple(frozenset(line) for line in settings["exclusive"]),
        tuple(settings["mentioned_in_passing"]),
        tuple(sorted(named - set(labels))),
    )
