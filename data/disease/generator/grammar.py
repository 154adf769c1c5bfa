"""A small phrase grammar: rules with weighted choices, filled from phrases/*.yaml.

Belongs here: reading rules, expanding a rule, filling the slots of a finding. Does not belong here: which rule is used
when.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

import yaml

_RULE_NAME = re.compile(r"<([a-z_]+)>")
_WEIGHT = re.compile(r"^(.*?) \*(\d+)$", re.DOTALL)
_SLOT = re.compile(r"\{([^{}]+)\}")
_RANGE = re.compile(r"^(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)$")


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to say what a rule says, and how much likelier it is than a choice of weight 1."""

    text: str
    weight: int


@dataclass(frozen=True)
class Grammar:
    """Rules by name."""

    rules: Mapping[str, tuple[Choice, ...]]

    def expand(self, rule: str, random: Random, facts: Mapping[str, str]) -> str:
        """A text of the rule. A name in `facts` wins over a rule of that name; a fact's own text is taken as it is.

        Raises KeyError when a choice names neither a rule nor a fact.
        """
        if rule in facts:
            return facts[rule]
        choices = self.rules[rule]
        picked = random.choices(choices, weights=[choice.weight for choice in choices])[0]
        return _RULE_NAME.sub(lambda name: self.expand(name[1], random, facts), picked.text)


def read_grammar(directory: Path, *names: str) -> Grammar:
    """The rules of the named files; a later file overrides a rule of an earlier one."""
    rules: dict[str, tuple[Choice, ...]] = {}
    for name in names:
        for rule, texts in yaml.safe_load((directory / f"{name}.yaml").read_text(encoding="utf-8")).items():
            rules[rule] = tuple(_parse_choice(text) for text in texts)
    return Grammar(rules)


def _parse_choice(text: str) -> Choice:
    weighted = _WEIGHT.match(text)
    return Choice(weighted[1], int(weighted[2])) if weighted else Choice(text, 1)


def fill_slots(text: str, random: Random) -> str:
    """The text with {lo-hi} replaced by a number of as many decimals as written and {a|b} by one of its choices."""
    return _SLOT.sub(lambda slot: _fill_slot(slot[1], random), text)


def _fill_slot(slot: str, random: Random) -> str:
    bounds = _RANGE.match(slot)
    if bounds is None:
        return random.choice(slot.split("|"))
    decimals = max(len(bound.partition(".")[2]) for bound in bounds.groups())
    scale = 10**decimals
    return f"{random.randint(round(float(bounds[1]) * scale), round(float(bounds[2]) * scale)) / scale:.{decimals}f}"
