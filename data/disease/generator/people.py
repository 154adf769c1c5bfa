"""The person a question is about: relation, sex, age, and the facts that phrases take from them.

Belongs here: drawing a person whom all labels of a row fit. Does not belong here: sentences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import yaml
from grammar import Grammar
from knowledge import Population


@dataclass(frozen=True, slots=True)
class Relation:
    """A line of people.yaml."""

    relation: str
    sex: str
    ages: tuple[int, int]
    he: str
    him: str
    share: int


@dataclass(frozen=True, slots=True)
class Person:
    """Someone with a relation to the customer, a sex and an age."""

    relation: Relation
    sex: str
    age: int

    @property
    def is_customer(self) -> bool:
        """Whether customers ask for themselves."""
        return self.relation.relation == "我"


def read_relations(path: Path) -> tuple[Relation, ...]:
    """The lines of people.yaml."""
    lines = yaml.safe_load(path.read_text(encoding="utf-8"))
    return tuple(Relation(**{**line, "ages": tuple(line["ages"])}) for line in lines)


def shared_age_range(labels: Sequence[str], population: Population) -> tuple[int, int]:
    """The ages at which a person can have all of the labels; the first exceeds the second when there is none."""
    return max(population.ages[label][0] for label in labels), min(population.ages[label][1] for label in labels)


def shared_sexes(labels: Sequence[str], population: Population) -> frozenset[str]:
    """The sexes that can have all of the labels."""
    barred = {{"female": "male", "male": "female"}[population.sexes[x]] for x in labels if x in population.sexes}
    return frozenset({"female", "male"} - barred)


def draw_person(labels: Sequence[str], population: Population, relations: Sequence[Relation], random: Random) -> Person:
    """A person who can have all of the labels, relations by their share."""
    youngest, oldest = shared_age_range(labels, population)
    sexes = shared_sexes(labels, population)
    fitting = [
        relation
        for relation in relations
        if (relation.sex == "any" or relation.sex in sexes)
        and max(youngest, relation.ages[0]) <= min(oldest, relation.ages[1])
    ]
    if not fitting:
        raise ValueError(
            f"people.yaml knows nobody with {list(labels)}. Widen the ages of one of them in population.yaml."
        )
    # Children's questions would drown in adults' where a disease is had at any age.
    weights = [relation.share * (3 if relation.ages[1] <= 16 else 1) for relation in fitting]
    relation = random.choices(fitting, weights=weights)[0]
    sex = random.choice(sorted(sexes)) if relation.sex == "any" else relation.sex
    return Person(relation, sex, random.randint(max(youngest, relation.ages[0]), min(oldest, relation.ages[1])))


def describe_person(person: Person, grammar: Grammar, random: Random, *, is_obese: bool) -> dict[str, str]:
    """What phrases may name about a person and the product asked for, as facts of the grammar."""
    age = person.age
    height = _draw_height(person, random)
    mass_index = (
        random.uniform(32, 38) if is_obese else random.uniform(15, 17) if age < 18 else random.uniform(19, 24.5)
    )
    facts = {
        "rel": person.relation.relation,
        "he": person.relation.he,
        "him": person.relation.him,
        "he_self": person.relation.relation,
        "he_possessive": "我的" if person.is_customer else f"{person.relation.relation}的",
        "sex": "男" if person.sex == "male" else "女",
        "age": str(age),
        "birth": f"{(2024 - age) % 100:02d}",
        "year": str(random.randint(max(2012, 2024 - age), 2024)),
        "years": str(random.randint(1, max(1, min(12, age - 1)))),
        "height": str(height),
        "weight": str(round(mass_index * (height / 100) ** 2)),
        "date": f"{random.randint(2022, 2024)}-{random.randint(1, 12):02d}-{random.randint(1, 28):02d}",
    }
    # Children and the old have their own jobs, products and small talk; the facts override the rules for grown-ups.
    group = "child_" if age < 18 else "senior_" if age >= 58 else ""
    facts["product"] = grammar.expand(f"{group}product", random, facts)
    facts["job"] = grammar.expand(f"{group}job", random, facts)
    facts["unrelated"] = grammar.expand(f"{group}unrelated", random, facts)
    facts["ask"] = grammar.expand("ask" if person.is_customer or random.random() < 0.5 else "ask_family", random, facts)
    facts["lead"] = grammar.expand("self_lead" if person.is_customer else "family_lead", random, facts)
    return facts


def _draw_height(person: Person, random: Random) -> int:
    if person.age < 18:
        return min(75 + person.age * 6, 172)
    return random.randint(164, 182) if person.sex == "male" else random.randint(153, 170)
