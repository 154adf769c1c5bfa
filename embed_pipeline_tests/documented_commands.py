"""The commands that a page shows: which there are, and whether each could be typed.

Belongs here: reading pages. Does not belong here: running what they show (test_documented_commands).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import click

from embed_pipeline.cli import main

_BLOCK = re.compile(r"^```(?P<language>\w+)(?P<info>[^\n]*)\n(?P<text>.*?)^```$", flags=re.S | re.M)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a page: its language, the file that its title names, its lines; and the whole with its fence."""

    language: str
    title: str | None
    text: str
    whole: str


def read_blocks(page: str) -> list[Block]:
    """Every block that names a language, in the order of the page."""
    found = []
    for block in _BLOCK.finditer(page):
        title = re.search(r'title="([^"]+)"', block["info"])
        found.append(Block(block["language"], title[1] if title else None, block["text"], block[0]))
    return found


def text_commands(page: str) -> list[str]:
    """Every command in the blocks of a page, without its comment; of a console, what stands after the prompt."""
    found = []
    for block in read_blocks(page):
        lines = block.text.splitlines()
        if block.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        elif block.language != "sh":
            continue
        found += [re.sub(r"(^|\s)#.*$", "", line).strip() for line in lines]
    return [line for line in found if line]


def parse_command(words: Sequence[str], place: str) -> None:
    """See that `embed-pipeline` knows a command and all of its options, and that no argument is missing.

    Raises:
        AssertionError: it does not; the message begins with `place`.
    """
    context = click.Context(main, info_name="embed-pipeline")
    _, rest = _parsed(main, context, words, place)
    if rest:
        command = main.get_command(context, rest[0])
        assert command is not None, f"{place}: no such command"
        given, left = _parsed(command, click.Context(command, parent=context), rest[1:], place)
        needed = [parameter.name for parameter in command.params if parameter.required]
        assert not left, f"{place}: {left} is more than the command takes"
        assert [name for name in needed if not given.get(name)] == [], f"{place}: something is missing"


def _parsed(
    command: click.Command, context: click.Context, words: Sequence[str], place: str
) -> tuple[dict[str, object], list[str]]:
    try:
        given, rest, _ = command.make_parser(context).parse_args(list(words))
    except click.UsageError as error:
        raise AssertionError(f"{place}: {error.format_message()}") from error
    return given, rest
