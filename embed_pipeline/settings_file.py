"""What people write in YAML: read within limits, and what is wrong with it said in few words.

Belongs here: parsing, what a file may hold at most, how a wrong value is shown. Does not belong here: which fields a
file has (the settings of each stage).
"""

import reprlib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from embed_pipeline.nearest import nearest_text

MOST_BYTES = 512 << 10
MOST_LEVELS = 60
MOST_VALUES = 100_000
"""Of a whole file, each alias counted as all that it stands for: ten lines of aliases can stand for ten billions."""
_MOST_LINES = 20
_MOST_CHARACTERS = 600
_LONGEST_NAME, _SIMILAR = 100, 50
"""Of a field that is not known: what of its name is compared, and how alike of 100 a known one has to be."""

_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = _SHOWN.maxlong = 200
_SHOWN.maxlevel = 3


class _Loader(yaml.SafeLoader):
    """Plain values, and an error where a mapping names a field twice: one of the two would count for nothing."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)  # pyright: ignore[reportArgumentType]  # the stub is wrong
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"{shown(key.value)} is there twice", problem_mark=key.start_mark
                    )
                seen.add((key.tag, key.value))
        return node


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ValueError: it is no UTF-8, larger than MOST_BYTES, no mapping, or as `parse_yaml`.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(
            f"{path}: expected settings of at most {MOST_BYTES:,} bytes, found {size:,}. Shorten the file."
        )
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected YAML in UTF-8, found {error}. Save it as UTF-8.") from error
    content = parse_yaml(text, str(path))
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a mapping of settings, found {type(content).__name__}. Correct the file.")
    return content


def parse_yaml(text: str, place: str, *, first_line: int = 1) -> object:
    """The value of a YAML text; `place` and `first_line` are where the text stands, for the error.

    Raises:
        ValueError: it is no YAML, names a field twice, is nested deeper than MOST_LEVELS or stands for more than
            MOST_VALUES values.
    """
    try:
        _check_size(text)
        return yaml.load(text, _Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        at = f", line {error.problem_mark.line + first_line}" if error.problem_mark else ""
        raise ValueError(f"{place}{at}: expected YAML, found: {clip(str(error.problem))}. Correct the line.") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ValueError(f"{place}: expected YAML, found: {clip(str(error))}. Correct the file.") from error


def shown(value: object) -> str:
    """A value as an error shows it: its repr, whatever its size in at most some hundred characters."""
    return clip(_SHOWN.repr(value))


def clip(text: str) -> str:
    """A text of some hundred characters at most, for an error; what was longer says how long it was."""
    if len(text) <= _MOST_CHARACTERS:
        return text
    half = _MOST_CHARACTERS // 2
    return f"{text[:half]} ... {text[-half // 4 :]} ({len(text):,} characters)"


def join_problems(lines: Iterable[str]) -> str:
    """A message of one line for each problem, the first ones if there are many."""
    found = [clip(line) for line in lines]
    left = len(found) - _MOST_LINES
    return "\n".join([*found[:_MOST_LINES], *([f"and {left} more"] if left > 0 else [])])


def _check_size(text: str) -> None:
    """Look at the events of the parser, which expand no alias, before anything is made of them."""
    values_of: dict[str, int] = {}
    levels_of: dict[str, int] = {}
    # Of each collection that is open: its anchor, its values so far, the levels below it.
    stack: list[list[Any]] = [[None, 0, 0]]

    def add(values: int, levels: int, mark: yaml.Mark | None) -> None:
        stack[-1][1] += values
        stack[-1][2] = max(stack[-1][2], levels)
        if stack[-1][1] > MOST_VALUES:
            raise yaml.MarkedYAMLError(problem=f"more than {MOST_VALUES:,} values", problem_mark=mark)
        if len(stack) + levels > MOST_LEVELS:
            raise yaml.MarkedYAMLError(problem=f"more than {MOST_LEVELS} levels", problem_mark=mark)

    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            name = event.anchor
            if any(name == anchor for anchor, _, _ in stack):
                raise yaml.MarkedYAMLError(problem=f"{shown(name)} stands inside itself", problem_mark=mark)
            # An alias of an anchor that does not exist is the loader's error.
            add(values_of.get(name, 1), levels_of.get(name, 0), mark)
        elif isinstance(event, yaml.CollectionStartEvent):
            stack.append([event.anchor, 1, 0])
            add(0, 0, mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, values, levels = stack.pop()
            add(values, levels + 1, mark)
            if anchor is not None:
                values_of[anchor], levels_of[anchor] = values, levels + 1
        elif isinstance(event, yaml.ScalarEvent):
            add(1, 0, mark)
            if event.anchor is not None:
                values_of[event.anchor], levels_of[event.anchor] = 1, 0


def describe_problems(error: ValidationError, model: type[BaseModel], *, kinds: Collection[str] = ()) -> list[str]:
    """What is wrong with settings of `model`, a line for each problem: the field, what was expected, what was found.

    The value of a field that is not known is not repeated: it may be a key that somebody wrote there.

    kinds: names that pydantic puts into an error's location for the kinds of a union, which no file holds.
    """
    lines = []
    for problem in error.errors():
        *outer, name = (part for part in problem["loc"] if part not in kinds) if problem["loc"] else ("",)
        field = ".".join(map(str, (*outer, name))) or "settings"
        if problem["type"] == "missing":
            lines.append(f"{field}: expected a value, found none. Add the field.")
        elif problem["type"] == "extra_forbidden":
            known = _field_names(model, outer)
            nearest = nearest_text(str(name)[:_LONGEST_NAME], known, score_cutoff=_SIMILAR)
            near = f" Nearest: {nearest.text!r}." if nearest else f" Known: {', '.join(known)}."
            lines.append(f"{field}: no such field.{near} Remove or rename it.")
        elif problem["type"] == "value_error":  # a sentence of ours, which says what it found
            lines.append(f"{field}: {problem['msg'].removeprefix('Value error, ').rstrip('.')}. Correct it.")
        else:
            expected = problem["msg"].removeprefix("Input should be ").removeprefix("String should ")
            lines.append(f"{field}: expected {expected}, found {shown(problem['input'])}. Correct it.")
    return lines


def _field_names(model: type[BaseModel], location: Iterable[int | str]) -> list[str]:
    """The fields of the sections that stand at a place of a model."""
    found = [model]
    for part in location:
        if not isinstance(part, int):
            found = [one for outer in found if (field := outer.model_fields.get(part)) for one in _sections(field)]
    return list(dict.fromkeys(name for one in found for name in one.model_fields))


def _sections(field: FieldInfo) -> Iterable[type[BaseModel]]:
    waiting: list[object] = [field.annotation]
    while waiting:
        one = waiting.pop()
        if isinstance(one, type) and issubclass(one, BaseModel):
            yield one
        else:
            waiting += get_args(one)
