"""What was paid to hosted models so far, read from their logs.

Belongs here: adding up. Does not belong here: the logs (encoding/usage), limits.
"""

import json
from pathlib import Path

COST_DETAIL = "cost_usd"
"""The name of what a build paid, among the details of its manifest."""


def spent_usd(*folders: Path) -> float:
    """What the answered requests in the usage logs of the folders cost; 0.0 where there is none.

    Raises:
        ValueError: a line of a log is no JSON.
    """
    lines = (line for folder in folders for log in sorted(folder.glob("*.jsonl")) for line in _lines(log))
    answered = (entry for entry in lines if entry.get("event") == "answered")
    return sum(float(entry.get("cost_usd", 0.0)) for entry in answered)


def _lines(log: Path) -> list[dict]:
    # A line that is being written has no end yet; the request it tells of counts in the next build.
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines(keepends=True) if line[-1] == "\n"]
