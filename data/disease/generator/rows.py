"""Clean rows: which labels stand together, and the question about them.

Belongs here: label counts, co-occurrence, the form of a question, texts that stay distinct. Does not belong here: the
mess.
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import MappingProxyType

from grammar import Grammar
from knowledge import Disease, Population
from mentions import SPOKEN, WRITTEN, Mention, add_clues, contains_label, draw_mentions
from people import Relation, describe_person, draw_person, shared_age_range, shared_sexes
from questions import Phrasebook, write_chat, write_one_liner, write_report
from thinking import explain

# Share of rows with so many labels.
LABEL_COUNTS: Mapping[int, float] = MappingProxyType({1: 0.59, 2: 0.20, 3: 0.09, 4: 0.04, 5: 0.078, 6: 0.002})
SHARE_VERBATIM = 0.37
SHARE_IN_PASSING: Mapping[str, float] = MappingProxyType({"one-liner": 0.14, "chat": 0.3, "report": 0.1})
# Share of the names beside which a symptom, drug or value of the same disease stands too.
SHARE_OF_CLUES: Mapping[str, float] = MappingProxyType({"one-liner": 0.12, "chat": 0.25, "report": 0.6})


@dataclass(frozen=True, slots=True)
class Row:
    """A question with its reasoning and true labels."""

    question: str
    thinking: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Style:
    """What a batch reads like: weights of the three forms, and how long and talkative its questions may be."""

    forms: Mapping[str, int]
    max_characters: int
    max_extra_turns: int
    least_rows_per_label: int


@dataclass(frozen=True, slots=True)
class World:
    """Everything that rows are drawn from."""

    diseases: Mapping[str, Disease]
    population: Population
    relations: tuple[Relation, ...]
    phrases: Phrasebook
    reasons: Grammar


def draw_rows(world: World, count: int, style: Style, random: Random, taken: set[str]) -> list[Row]:
    """`count` rows whose texts differ from each other and from `taken`, to which they are added."""
    counts = [size for size, share in LABEL_COUNTS.items() for _ in range(round(share * count))]
    counts = (counts + [1] * count)[:count]
    random.shuffle(counts)
    labels = list(world.diseases)
    weights = [world.population.weights[label] for label in labels]
    starts = [label for label in labels for _ in range(style.least_rows_per_label)][:count]
    starts += random.choices(labels, weights=weights, k=count - len(starts))
    random.shuffle(starts)
    rows: list[Row] = []
    for start, size in zip(starts, counts, strict=True):
        row = _draw_row(world, _draw_company(world, start, size, random), style, random)
        while plain_text(row.question) in taken:
            row = _draw_row(world, row.labels, style, random)
        taken.add(plain_text(row.question))
        rows.append(row)
    return rows


def plain_text(text: str) -> str:
    """The text without white space and width differences, to tell copies."""
    return "".join(unicodedata.normalize("NFKC", text).split())


def _draw_company(world: World, start: str, size: int, random: Random) -> tuple[str, ...]:
    """The starting label with labels that co-occur with it; any that fits when no related one is left."""
    chosen = [start]
    while len(chosen) < size:
        near = Counter(x for label in chosen for x in world.diseases[label].related if x in world.diseases)
        near.update(x for x, disease in world.diseases.items() for label in chosen if label in disease.related)
        pool = [label for label in near if _fits(chosen, label, world)]
        if not pool or random.random() < 0.12:
            pool = [label for label in world.diseases if _fits(chosen, label, world)]
        weights = [world.population.weights[label] for label in pool]
        chosen.append(random.choices(pool, weights=weights)[0])
    return tuple(chosen)


def _fits(chosen: Sequence[str], label: str, world: World) -> bool:
    if label in chosen:
        return False
    youngest, oldest = shared_age_range([*chosen, label], world.population)
    # A range of a few years leaves no relation of that age in people.yaml.
    if oldest - youngest < 8 or not shared_sexes([*chosen, label], world.population):
        return False
    return not any(label in line and line & set(chosen) for line in world.population.exclusive)


def _draw_row(world: World, labels: Sequence[str], style: Style, random: Random) -> Row:
    form = _draw_form(style, len(labels), random)
    verbatim = random.random() < SHARE_VERBATIM
    for attempt in range(60):
        question, mentions, facts = _write(world, labels, form, style, random, verbatim=verbatim, spare=attempt >= 20)
        if len(question) <= style.max_characters and contains_label(question, labels) == verbatim:
            return Row(question, explain(mentions, facts, world.reasons, random), tuple(labels))
    raise ValueError(f"No question of at most {style.max_characters} characters about {list(labels)} in 60 attempts.")


def _draw_form(style: Style, labels: int, random: Random) -> str:
    # Many labels in one sentence read like a list; they come in reports and chats.
    weights = {**style.forms, "one-liner": style.forms["one-liner"] // (1 if labels <= 2 else 2 if labels == 3 else 4)}
    return random.choices(list(weights), weights=list(weights.values()))[0]


def _write(
    world: World, labels: Sequence[str], form: str, style: Style, random: Random, *, verbatim: bool, spare: bool
) -> tuple[str, tuple[Mention, ...], Mapping[str, str]]:
    diseases = [world.diseases[label] for label in labels]
    mentions = draw_mentions(diseases, WRITTEN if form == "report" else SPOKEN, random, verbatim=verbatim)
    if len(labels) <= 2 and not spare:
        share = SHARE_OF_CLUES[form]
        mentions = add_clues(mentions, world.diseases, share, WRITTEN if form == "report" else SPOKEN, random)
    person = draw_person(labels, world.population, world.relations, random)
    grammar = world.phrases.one_liners
    facts: dict[str, str] = describe_person(person, grammar, random, is_obese="肥胖症" in labels)
    # "A touch of" is said of what everybody has.
    facts["touch"] = "有点" if all(world.population.weights[label] == 6 for label in labels) else "有"
    facts["cousin"] = grammar.expand("cousin", random, facts)
    while facts["cousin"] == facts["rel"]:
        facts["cousin"] = grammar.expand("cousin", random, {})
    passing = _draw_passing(diseases, world.population, random)
    if form == "one-liner":
        question = write_one_liner(mentions, world.phrases, random, {**facts, "other": passing})
    else:
        if not spare and random.random() < SHARE_IN_PASSING[form]:
            facts["other"] = passing
        if form == "chat":
            extra = 0 if spare else random.randint(1, style.max_extra_turns)
            question = write_chat(mentions, world.phrases, random, facts, extra_turns=extra)
        else:
            normals = 0 if spare else random.choice((0, 1, 1, 2, 2, 3) if len(labels) < 3 else (0, 0, 1))
            question = write_report(mentions, world.phrases, random, facts, normals=normals)
    if passing in question:
        facts["other"] = passing
    return question, mentions, facts


def _draw_passing(diseases: Sequence[Disease], population: Population, random: Random) -> str:
    """A disease to deny or to say of a relative that no expression of the row's diseases contains, nor the reverse."""
    own = [text for disease in diseases for texts in disease.expressions.values() for text in texts]
    names = population.mentioned_in_passing
    return random.choice([name for name in names if not any(name in text or text in name for text in own)])
