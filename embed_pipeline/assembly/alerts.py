"""Telling people: a command or a webhook that is called when something got worse or a hosted model changed.

Belongs here: calling it. Does not belong here: deciding whether (checks).
"""

import json
import os
import shlex
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from embed_pipeline.assembly.hosted_samples import Sample
from embed_pipeline.evaluation.comparison import Drop

COMMAND_VARIABLE = "EMBED_PIPELINE_ALERT_COMMAND"
URL_VARIABLE = "EMBED_PIPELINE_ALERT_URL"
TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Alert:
    """What people are told: in words, and in figures for a program."""

    text: str
    found: Mapping[str, object]


def describe_drops(drops: Sequence[Drop]) -> Alert:
    """That variants are proven to be worse than in the evaluation before; the figures are in `drops`."""
    text = "Worse than in the evaluation before:\n" + "\n".join(f"  {drop}" for drop in drops)
    return Alert(text, {"drops": [asdict(drop) | {"measure": str(drop.measure)} for drop in drops]})


def describe_changed_models(samples: Sequence[Sample]) -> Alert:
    """That services answer with other vectors than before; the figures are in `changed_models`."""
    text = "A service changed its model behind an unchanged name:\n" + "\n".join(f"  {s}" for s in samples)
    return Alert(text, {"changed_models": [sample.model_dump(mode="json") for sample in samples]})


@dataclass(frozen=True)
class AlertHook:
    """Where to tell it: a command that gets JSON on its standard input, a URL that gets it by POST, both or none."""

    command: str | None = None
    url: str | None = None

    def call(self, alert: Alert, *, run_id: str) -> tuple[str, ...]:
        """Tells of it; returns what went wrong with that: an alert that fails must not fail the evaluation."""
        content = {"text": alert.text, **alert.found, "run_id": run_id}
        payload = json.dumps(content, ensure_ascii=False).encode()
        problems = []
        if self.command:
            problems += _run(self.command, payload)
        if self.url:
            problems += _post(self.url, payload)
        return tuple(problems)


def alert_hook(environment: Mapping[str, str] = os.environ) -> AlertHook:
    """The hook as the environment names it."""
    return AlertHook(environment.get(COMMAND_VARIABLE) or None, environment.get(URL_VARIABLE) or None)


def _run(command: str, payload: bytes) -> list[str]:
    try:
        done = subprocess.run(shlex.split(command), input=payload, capture_output=True, timeout=TIMEOUT_SECONDS)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return [f"{COMMAND_VARIABLE}: {type(error).__name__}. Correct the command or remove the variable."]
    if done.returncode == 0:
        return []
    return [f"{COMMAND_VARIABLE}: the command ended with {done.returncode}. Correct it or remove the variable."]


def _post(url: str, payload: bytes) -> list[str]:
    request = urllib.request.Request(url, data=payload, headers={"Content-Type": "application/json"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):
            return []
    except (OSError, ValueError) as error:  # HTTP errors are OSErrors; the address may hold a token, so it is not told
        status = f" {error.code}" if isinstance(error, urllib.error.HTTPError) else ""
        return [f"{URL_VARIABLE}: {type(error).__name__}{status}. Correct the address or remove the variable."]
