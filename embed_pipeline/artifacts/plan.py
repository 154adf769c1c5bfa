"""What is to be built, before it is: the identity of a piece of work.

Does not belong here: whether it was built already (store) or what came out (manifest).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from embed_pipeline.artifacts.canonical import JSON, checked_object, sha256_of_json
from embed_pipeline.artifacts.differences import Described, Difference, differences


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
