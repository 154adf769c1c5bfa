"""What every command shares: where it prints, and how bad input ends.

Belongs here: the console and the group of commands. Does not belong here: a command.
"""

import click
from rich.console import Console

WIDTH_WITHOUT_TERMINAL = 150

console = Console(highlight=False)
if not console.is_terminal:
    console = Console(highlight=False, width=WIDTH_WITHOUT_TERMINAL)


class CommandGroup(click.Group):
    """Bad input ends in one message, not in a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ValueError as error:
            raise click.ClickException(str(error)) from error
