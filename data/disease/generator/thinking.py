"""The Thinking column: from what the customer wrote to the labels.

Belongs here: one or two sentences of reasoning. Does not belong here: the question itself.
"""

from collections.abc import Mapping, Sequence
from random import Random

from grammar import Grammar
from mentions import Mention


def explain(mentions: Sequence[Mention], facts: Mapping[str, str], grammar: Grammar, random: Random) -> str:
    """Why the mentions mean their labels, and why the disease named in passing is none."""
    reasons = [
        grammar.expand(f"think_{mention.kind}", random, {"label": mention.label, "t": mention.text})
        for mention in mentions
    ]
    thinking = "；".join(reasons) + "。"
    if "other" in facts:
        thinking += grammar.expand("think_aside", random, facts) + "。"
    return thinking
