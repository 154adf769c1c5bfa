"""What a user sees of runs: in a terminal a bar while one is under way and one line in the end, elsewhere plain lines.

Belongs here: how runs are drawn. Does not belong here: what is run (run), how far a step is (embed_pipeline.progress).
"""

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from embed_pipeline.commands.terminal import console, terminal_stream
from embed_pipeline.console import SafeConsole
from embed_pipeline.interruption import Interruption
from embed_pipeline.progress import Reading, format_seconds, read_progress

if TYPE_CHECKING:
    from embed_pipeline.defs.running import Tell

_BAR_WIDTH = 24


class RunScreen:
    """Shows runs on the terminal's standard output, one after another or several `together`."""

    def __init__(self, interruption: Interruption) -> None:
        self.interruption = interruption
        self.live = console.is_terminal and not console.is_dumb_terminal
        self._together: list[_Shown] | None = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Inside, several runs may be under way at a time, none of them in this process: one drawing shows them all."""
        self._together = []
        with self._drawn(self, console) if self.live else nullcontext():
            yield

    @contextmanager
    def under_way(self, label: str, reasons: Sequence[str]) -> "Iterator[Tell]":
        """Inside, the run is under way: what is told to what this gives is shown."""
        from embed_pipeline.defs.running import PlainWords

        if not self.live:
            console.print(f"[bold]{escape(label)}[/bold]  {escape('; '.join(reasons))}", soft_wrap=True)
            beside = self._together is not None
            yield PlainWords(lambda line: print(f"{label}:{line[3:]}" if beside else line, file=sys.stderr))
        elif self._together is not None:
            shown = _Shown(label, console)
            self._together.append(shown)
            try:
                yield shown.tell
            finally:
                self._together.remove(shown)
        else:
            with terminal_stream(sys.stdout) as stream, _other_output_hidden():
                screen = SafeConsole(file=stream, highlight=False, force_terminal=True)
                shown = _Shown(label, screen)
                with self._drawn(shown, screen):
                    yield shown.tell

    @contextmanager
    def _drawn(self, shown: "RunScreen | _Shown", screen: SafeConsole) -> Iterator[None]:
        with (
            Live(shown, console=screen, transient=True, redirect_stdout=False, redirect_stderr=False) as live,
            self.interruption.announced_by(lambda line: screen.print(escape(line), soft_wrap=True)),
            self.interruption.last_act(live.stop),
        ):
            yield

    def __rich__(self) -> RenderableType:
        return Group(*(self._together or ()))

    def ended(self, label: str, reasons: Sequence[str], errors: Sequence[str], seconds: float) -> None:
        """Say how the run went."""
        took = f"{seconds:.1f} s"
        if self.live:
            how = "[red]failed[/red]" if errors else "[green]done[/green]  "
            told = f"{how} [bold]{escape(label)}[/bold]  {took}  [dim]{escape('; '.join(reasons))}[/dim]"
            console.print(told, no_wrap=True, overflow="ellipsis")
        elif not errors:
            console.print(f"  [green]done[/green]{'' if self._together is None else f' {escape(label)}'} in {took}")
        for error in errors:
            console.print(f"  [red]failed[/red]: {escape(error)}", soft_wrap=True)


class _Shown:
    """The run that is under way, as it is drawn four times a second."""

    def __init__(self, label: str, screen: SafeConsole) -> None:
        self.label, self.screen = label, screen
        self.step, self.words, self.reading = "", "", None
        self.reading: Reading | None
        self.started = time.monotonic()
        is_unicode = screen.encoding.startswith("utf")
        self.spinner, self.bar = Spinner("dots" if is_unicode else "line"), "━─" if is_unicode else "#-"

    def tell(self, step: str, level: int, words: str) -> None:
        """See defs.running.Tell: warnings stay on the screen, the rest makes room for what comes next."""
        if step != self.step or not words:
            self.step, self.words, self.reading = step, "", None
        reading = read_progress(words)
        if reading:
            self.reading = reading
        elif logging.INFO <= level < logging.WARNING:
            self.words, self.reading = words, None
        elif level == logging.WARNING:
            self.screen.print(f"[yellow]warning[/yellow] {escape(words)}", soft_wrap=True)

    def __rich__(self) -> RenderableType:
        head = Table.grid(padding=(0, 1))
        elapsed = Text(format_seconds(time.monotonic() - self.started), style="dim")
        head.add_row(self.spinner, Text(self.label, style="bold"), elapsed)
        return Group(head, self._step_line())

    def _step_line(self) -> Text:
        reading, line = self.reading, Text(f"  {self.step}", no_wrap=True, overflow="ellipsis")
        if reading is None:
            return line.append(f"  {self.words}")
        share = reading.done / max(reading.total, 1)
        drawn = round(_BAR_WIDTH * share)
        line.append(f" {reading.activity} ").append(self.bar[0] * drawn, style="green")
        line.append(self.bar[1] * (_BAR_WIDTH - drawn), style="dim").append(f" {share:4.0%} ")
        return line.append("; ".join(part for part in (reading.pace, reading.facts) if part), style="dim")


@contextmanager
def _other_output_hidden() -> Iterator[None]:
    """Inside, what libraries print leads nowhere: it would tear the drawing. Dagster keeps the output of each step."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept, nowhere = [os.dup(number) for number in (1, 2)], os.open(os.devnull, os.O_WRONLY)
    try:
        for number in (1, 2):
            os.dup2(nowhere, number)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)
