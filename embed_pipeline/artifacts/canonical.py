"""One text for one JSON value, so that equal values have equal digests.

Does not belong here: what the values mean.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import TypeAlias

JSON: TypeAlias = bool | int | float | str | list["JSON"] | dict[str, "JSON"] | None


def checked_json(value: object, where: str) -> JSON:
    """A copy of a value that is JSON and nothing else; tuples become lists.

    Raises:
        ValueError: names the field that is not JSON. `json.dumps` would turn the key 1 into "1" and NaN into a word
            that is not JSON, so that two settings could share a fingerprint.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return [checked_json(item, f"{where}[{position}]") for position, item in enumerate(value)]
    if isinstance(value, Mapping):
        return checked_object(value, where)
    raise ValueError(
        f"{where} must be JSON (null, boolean, finite number, text, list or object), found {value!r} of type"
        f" {type(value).__name__}. Convert it first, for a pydantic model with model_dump(mode='json')."
    )


def checked_object(value: Mapping[str, object], where: str) -> dict[str, JSON]:
    """A copy of a mapping whose keys are text and whose values are JSON.

    Raises:
        ValueError: names the key or the field that is not.
    """
    for key in value:
        if not isinstance(key, str):
            raise ValueError(f"{where}: keys must be text, found {key!r} of type {type(key).__name__}. Use str(key).")
    return {key: checked_json(item, f"{where}.{key}") for key, item in value.items()}


def canonical_json(value: object) -> str:
    """The one text of a JSON value: keys sorted, no spaces, characters as they are."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_of_json(value: object) -> str:
    """SHA-256 in hex of the canonical text of a JSON value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
