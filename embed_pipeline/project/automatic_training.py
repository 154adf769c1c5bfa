"""`training: auto`: the settings of mining and training that follow from the data, each with its reason.

Belongs here: the rules. Does not belong here: the figures they read (dataset/facts.py), when they are applied
(graph). Why they are so, with the figures they stand on: docs/adr/0027-automatic-training.md.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from embed_pipeline.dataset.facts import DataFacts
from embed_pipeline.mining.settings import MiningSettings
from embed_pipeline.project.recipes import Recipe
from embed_pipeline.training.settings import TrainingSettings

_BATCH = 16
"""Questions of a step, of all processes together."""
_STEPS, _FEWEST_EPOCHS, _MOST_EPOCHS = 190, 6, 10
_MOST_QUERIES = 3000
_MANY_QUERIES = 600
"""So many can teach more than the uppermost layers, and passages in one epoch: 1,000 do, 300 do not."""
_FEW_LABELS, _SHARED_LABELS, _SHARED_PASSAGES = 100, 64, 32


@dataclass(frozen=True)
class AutomaticTraining:
    """What auto came to: the sections, and by field of `training` why."""

    facts: DataFacts
    mining: MiningSettings
    training: TrainingSettings
    reasons: Mapping[str, str]

    @property
    def summary(self) -> str:
        """The settings that matter most, on one line."""
        return summarise(self.training.model_dump(mode="json"))

    @property
    def lines(self) -> tuple[str, ...]:
        """A sentence per setting, with its reason."""
        values = self.training.model_dump(mode="json")
        return tuple(f"training.{name}: {values[name]}, because {why}" for name, why in self.reasons.items())


def summarise(training: Mapping[str, Any]) -> str:
    """The settings of a training that matter most, on one line; a manifest may be older than some of them."""
    passes = "1 epoch" if training["epochs"] == 1 else f"{training['epochs']:g} epochs"
    used = f"{training['max_queries']} questions, " if training.get("max_queries") else ""
    return (
        f"{used}{passes} at {training['learning_rate']:g}, candidates {training['candidates']}, "
        f"{training.get('freeze_layers', 0)} layers frozen"
    )


def choose_training(
    facts: DataFacts, *, layers: int, device: Literal["cpu", "cuda"], processes: int = 1
) -> AutomaticTraining:
    """The training that follows from the data's figures, the base's number of layers, the device and the processes.

    The same figures give the same settings on every machine of one kind; what a processor is good at decides the
    precision alone. Processes share a batch of the same size, so that they take as many steps as one.
    """
    batch = max(1, _BATCH // processes)
    together = batch * processes
    chosen = {
        **(
            _for_labels(facts, layers, device, together)
            if facts.is_label_list
            else _for_passages(facts, layers, device)
        ),
        **_in_common(facts, device, batch, processes),
    }
    return AutomaticTraining(
        facts=facts,
        mining=MiningSettings(number=0),
        training=TrainingSettings.model_validate({name: value for name, (value, _) in chosen.items()}),
        reasons={name: why for name, (_, why) in chosen.items()},
    )


Chosen = dict[str, tuple[Any, str]]
"""By field of `training` its value and why."""


def _in_common(facts: DataFacts, device: str, batch: int, processes: int) -> Chosen:
    shared = f"in each of {processes} processes, {batch * processes} a step: " if processes > 1 else ""
    found: Chosen = {
        "batch_size": (batch, f"{shared}more steps of few questions earned more than fewer of many"),
        "freeze_embeddings": (True, "most of a multilingual encoder's parameters, and few of them occur in the data"),
    }
    if _trained_queries(facts, device) < facts.train_queries:
        why = f"of {facts.train_queries:,}: minutes without a GPU; with one all are taken"
        found["max_queries"] = (_MOST_QUERIES, why)
    return found


def _for_labels(facts: DataFacts, layers: int, device: str, batch: int) -> Chosen:
    """`batch`: questions of a step, of all processes."""
    used = _trained_queries(facts, device)
    epochs = min(_MOST_EPOCHS, max(_FEWEST_EPOCHS, math.ceil(_STEPS * batch / max(1, used))))
    labels = f"{facts.passages} labels of some {facts.passage_length:.0f} characters"
    found: Chosen = {
        "learning_rate": (1e-4, "higher rates found no more and forgot what the base knew elsewhere"),
        "temperature": (0.03, "the contrast that all trainings with labels were measured with"),
        "epochs": (epochs, f"{used} questions are {math.ceil(epochs * used / batch)} steps so"),
    }
    if facts.passages <= _FEW_LABELS:
        found["candidates"] = ("corpus", f"{labels}: every one of them fits into a step")
    else:
        found["candidates"] = ("sample", f"{labels}: a draw of them takes .6 of the time and finds nearly as much")
        found["sample_size"] = (_SHARED_LABELS, "labels that the questions of a step share")
    found["freeze_layers"] = _frozen(layers, 3 / 4, facts, device)
    return found


def _for_passages(facts: DataFacts, layers: int, device: str) -> Chosen:
    few = facts.train_queries < _MANY_QUERIES
    return {
        "learning_rate": (5e-5, "half of what labels take: the base reads passages well already"),
        "temperature": (0.01, "the contrast that E5, the bundled encoder, was made with"),
        "epochs": (2, "a second found more of few questions") if few else (1, "so many questions teach enough in one"),
        "candidates": ("sample", f"{facts.passages:,} passages of some {facts.passage_length:.0f} characters: a draw"),
        "sample_size": (_SHARED_PASSAGES, "passages that the questions of a step share, beside the right ones of each"),
        "freeze_layers": _frozen(layers, 2 / 3, facts, device),
    }


def _frozen(layers: int, share: float, facts: DataFacts, device: str) -> tuple[int, str]:
    """`share` is that of the layers that stay as they are where questions are few."""
    if device == "cuda":
        return layers // 2, f"of {layers}: the upper half is trained; a GPU has the time"
    used = _trained_queries(facts, device)
    if used >= _MANY_QUERIES:
        return layers // 2, f"of {layers}: {used:,} questions can teach the upper half"
    frozen = min(layers - 1, int(share * layers))
    return frozen, f"of {layers}: {used:,} questions teach the uppermost as much as half of them"


def _trained_queries(facts: DataFacts, device: str) -> int:
    return facts.train_queries if device == "cuda" else min(facts.train_queries, _MOST_QUERIES)


def format_recipe(recipe: Recipe, chosen: AutomaticTraining | None) -> Iterator[str]:
    """The lines of a YAML file that states the recipe, and beside each value that auto chose the reason."""
    reasons = chosen.reasons if chosen else {}
    for section, content in recipe.model_dump(mode="json", exclude_unset=True).items():
        for line in yaml.safe_dump({section: content}, allow_unicode=True, sort_keys=False).splitlines():
            name = line.strip().partition(":")[0]
            why = reasons.get(name) if section == "training" and line.startswith(" ") else None
            yield f"{line}  # {why}" if why else line
