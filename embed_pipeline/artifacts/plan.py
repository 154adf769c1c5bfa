"""What is to be built, before it is: the identity of a piece of work, and how two pieces differ by name.

Does not belong here: whether it was built already (store), what came out (manifest), how differences are printed.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from embed_pipeline.artifacts.digests import JSON, canonical_json, checked_object, sha256_of_json

_Name = TypeVar("_Name", str, tuple[str, ...])


@dataclass(frozen=True)
class Difference:
    """One changed thing. `before` and `after` are text, a setting's as JSON; None means that it was not there."""

    kind: Literal["code", "setting", "input"]
    name: str
    before: str | None
    after: str | None


class Described(Protocol):
    """Work that says what decides its bytes: a plan or a manifest."""

    @property
    def code_version(self) -> str: ...
    @property
    def settings(self) -> Mapping[str, JSON]: ...
    @property
    def inputs(self) -> Mapping[str, str]: ...


def differences(before: Described, after: Described) -> tuple[Difference, ...]:
    """Every difference: the code, then settings, then inputs by name. Nested settings have dotted names, lists are
    compared whole. Empty for equal work."""
    found: list[Difference] = []
    if before.code_version != after.code_version:
        found.append(Difference("code", "code_version", before.code_version, after.code_version))
    old, new = dict(_fields(before.settings, ())), dict(_fields(after.settings, ()))
    for path in _changed(old, new):
        found.append(Difference("setting", ".".join(path), old.get(path), new.get(path)))
    for name in _changed(before.inputs, after.inputs):
        found.append(Difference("input", name, before.inputs.get(name), after.inputs.get(name)))
    return tuple(found)


def _fields(value: JSON | Mapping[str, JSON], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    # Paths stay tuples until they are shown: {"a.b": 1} and {"a": {"b": 1}} are different settings.
    if isinstance(value, Mapping) and (value or not path):
        for key, item in value.items():
            yield from _fields(item, (*path, key))
    else:
        yield path, canonical_json(value)


def _changed(before: Mapping[_Name, str], after: Mapping[_Name, str]) -> Iterable[_Name]:
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One asset's partition with all that decides its bytes. `inputs` maps "asset[partition]" to an object digest."""

    asset: str
    partition: str
    code_version: str
    settings: Mapping[str, JSON]
    inputs: Mapping[str, str]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_]+", self.asset):
            raise ValueError(f"asset must be letters, digits and underscores, found {self.asset!r}. Rename the asset.")
        where = f"{self.asset}[{self.partition}]"
        # Copies, so that a later change of what was passed in cannot change the fingerprint.
        object.__setattr__(self, "settings", checked_object(self.settings, f"{where} settings"))
        object.__setattr__(self, "inputs", dict(self.inputs))
        for name, digest in self.inputs.items():
            if not isinstance(digest, str):
                raise ValueError(f"{where} inputs: {name} must be a digest, found {digest!r}. Pass manifest.digest.")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of asset, code version, settings and inputs; not of the partition, a name changes no bytes."""
        return sha256_of_json(
            {
                "asset": self.asset,
                "code_version": self.code_version,
                "settings": self.settings,
                "inputs": self.inputs,
            }
        )

    def differences(self, manifest: Described) -> tuple[Difference, ...]:
        """What changed since the manifest was built; empty if this plan would be a hit on it."""
        return differences(manifest, self)
