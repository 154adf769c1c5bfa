"""What is printed says what a text says: the terminal obeys nothing that a file name, a question or a model wrote.

Does not belong here: what is printed (commands, reporting.terminal); the characters themselves (paths.printable).
"""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from embed_pipeline.paths import printable


class SafeConsole(Console):
    """A console whose every text is printable, wherever in a table or a line it stands; its own colours stay."""

    def render_str(self, text: str, **options: Any) -> Text:
        # Before the layout, so that columns stay as wide as what is in them.
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
