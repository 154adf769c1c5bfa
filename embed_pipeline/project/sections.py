"""The sections of dataset.yaml that belong to later stages, checked against the settings of their stage.

Belongs here: reading a section. Does not belong here: the rest of the file (dataset.settings).
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from embed_pipeline.dataset.nearest import nearest_text

Section = TypeVar("Section", bound=BaseModel)


def read_section(model: type[Section], content: Mapping[str, Any], place: str) -> Section:
    """The settings in a section; `place` is file and field, as `data/a/dataset.yaml, documents`.

    Raises:
        ValueError: a field is unknown, missing or out of range; a line for each.
    """
    try:
        return model.model_validate(dict(content))
    except ValidationError as error:
        lines = [_describe(model, place, item["loc"], item["type"], item["msg"]) for item in error.errors()]
        raise ValueError("\n".join(lines)) from error


def _describe(model: type[BaseModel], place: str, location: tuple[int | str, ...], kind: str, message: str) -> str:
    field = ".".join([place.rpartition(", ")[2], *map(str, location)])
    file = place.rpartition(", ")[0]
    # The value is not repeated: it may be a key that someone wrote into the file.
    if kind == "extra_forbidden":
        nearest = nearest_text(str(location[-1]), list(model.model_fields)) if len(location) == 1 else None
        hint = f" Nearest: {nearest.text!r}." if nearest else ""
        return f"{file}, {field}: no such field.{hint} Remove or rename it; docs/documents.md has all fields."
    found = message.removeprefix("Value error, ").rstrip(".")
    return f"{file}, {field}: {found}. Correct it; docs/documents.md has all fields."
