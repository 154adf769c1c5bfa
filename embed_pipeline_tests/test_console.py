"""A terminal obeys no text, wherever the text stands."""

import io
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Group
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from embed_pipeline.console import SafeConsole
from embed_pipeline.paths import printable
from embed_pipeline.reporting.terminal import print_metrics
from embed_pipeline_tests.reporting.metric_rows import ROW

HOSTILE = "a\x1b[2J\x1b]0;title\x07\x9b31m\rb\u202etxt"
"""Clears the screen, sets the window's title, colours, overwrites the line, turns the direction of writing."""


def _table(title: str, cell: object) -> Table:
    table = Table(title=title)
    table.add_column(title, footer=title)
    table.add_row(cell)  # type: ignore[arg-type]
    return table


@pytest.mark.parametrize(
    "renderable",
    [
        escape(HOSTILE),
        Text(HOSTILE),
        Text.assemble("x", (HOSTILE, "bold")),
        _table(HOSTILE, HOSTILE),
        _table("x", Text(HOSTILE)),
        Panel(Group(Text(HOSTILE), HOSTILE), title=HOSTILE),
    ],
    ids=["text", "Text", "part of a Text", "table", "cell", "panel"],
)
def test_what_is_printed_holds_no_command(renderable: object) -> None:
    file = io.StringIO()
    SafeConsole(file=file, color_system=None, width=200).print(renderable)
    said = file.getvalue()
    assert [c for c in said if c != "\n" and (unicodedata.category(c) == "Cc" or c == "\u202e")] == []
    assert "\\x1b[2J" in said


def test_the_consoles_own_colours_stay() -> None:
    file = io.StringIO()
    SafeConsole(file=file, force_terminal=True, color_system="standard").print("[red]a[/red]", Text(HOSTILE))
    assert "\x1b[31ma\x1b[0m" in file.getvalue() and "\x1b[2J" not in file.getvalue()


def test_the_metrics_table_obeys_no_name() -> None:
    file = io.StringIO()
    print_metrics([replace(ROW, variant=f"v{HOSTILE}", dataset=f"d{HOSTILE}", measured_on=f"d{HOSTILE}")], file=file)
    assert "\x1b" not in file.getvalue() and "\x9b" not in file.getvalue()
    assert "v" in file.getvalue()


@given(text=st.text())
def test_a_text_is_shown_without_what_is_hidden_and_a_second_time_changes_nothing(text: str) -> None:
    shown = printable(text)
    assert [c for c in shown if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cs")] == []
    assert printable(shown) == shown
