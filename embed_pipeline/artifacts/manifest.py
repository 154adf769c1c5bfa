"""How an object came to be: everything that a number needs to name the bytes it came from.

Does not belong here: where manifests are kept (catalog).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from embed_pipeline.artifacts.canonical import JSON, canonical_json, sha256_of_json


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One version of an asset's partition.

    `seconds`, `built_at`, `run_id`, `git_commit`, `packages` and `details` belong to the build that made the bytes,
    also where a later run found them in the memo: then `cached` is true. `parent` is the id of the manifest that this
    one replaced.
    """

    asset: str
    partition: str
    digest: str
    fingerprint: str
    code_version: str
    settings: Mapping[str, JSON]
    inputs: Mapping[str, str]
    parent: str | None
    cached: bool
    seconds: float
    built_at: str
    run_id: str | None
    git_commit: str | None
    packages: Mapping[str, str]
    details: Mapping[str, JSON]

    @property
    def id(self) -> str:
        """SHA-256 of everything but `cached`: found in the memo or just made, it is the same version."""
        fields = asdict(self)
        del fields["cached"]
        return sha256_of_json(fields)


def format_manifest(manifest: Manifest) -> bytes:
    """The canonical JSON text of a manifest."""
    return canonical_json(asdict(manifest)).encode()


def parse_manifest(text: bytes) -> Manifest:
    """The manifest that `format_manifest` wrote.

    Raises:
        ValueError: the text is not JSON or its fields are not those of a manifest.
    """
    fields = json.loads(text)
    if not isinstance(fields, dict) or set(fields) != set(Manifest.__dataclass_fields__):
        raise ValueError(f"a manifest must have the fields {', '.join(Manifest.__dataclass_fields__)}")
    return Manifest(**fields)
