"""What the tests under faults share: their figures, printed as a table at the end, and the projects they begin with."""

import os
import platform
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
_FIGURES = pytest.StashKey[list[tuple[str, str, str]]]()
Figure = Callable[[str, object], None]
"""Gets what was counted and the count; it stands in the table at the end."""


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Puts a line into the table at the end, also where the test fails afterwards."""
    found = request.config.stash.setdefault(_FIGURES, [])
    part = request.node.path.stem.removeprefix("test_")

    def add(name: str, value: object) -> None:
        found.append((part, name, str(value)))

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The figures of this run, with the processor that they are of."""
    rows = config.stash.get(_FIGURES, [])
    table = Table("part", "what", "figure", title=f"Figures under faults, on {processor()}", title_justify="left")
    for part, name, value in rows:
        table.add_row(part, name, value)
    if rows:
        terminalreporter.ensure_newline()
        Console().print(table)


def processor() -> str:
    """The processor's name and how many of its cores are here."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"
