"""What a model folder's files were when they were written: a record that lies with them.

Belongs here: writing the record, telling by it whether the folder is whole, by content or at the price of a look at
sizes and times, and making a folder once. Does not belong here: which files decide a vector (model_directory.py).
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from embed_pipeline.paths import digest_of

RECORD_FILE = "files.json"


class RecordedFile(NamedTuple):
    """One file: its content, and what `stat` said while it was known to have that content."""

    sha256: str
    size: int
    modified_ns: int


def record_files(folder: Path) -> None:
    """Write the record of everything below the folder."""
    found = {
        path.relative_to(folder).as_posix(): [digest_of(path), path.stat().st_size, path.stat().st_mtime_ns]
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != RECORD_FILE
    }
    (folder / RECORD_FILE).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def is_as_recorded(folder: Path) -> bool:
    """Whether every recorded file has its size and time still; nothing is read. False without a record."""
    recorded = _read_record(folder)
    return bool(recorded) and all(_is_unchanged(folder / name, file) for name, file in recorded.items())


def verify_files(folder: Path) -> bool:
    """Whether every recorded file has its content still; those of a copied folder are recorded anew."""
    if is_as_recorded(folder):
        return True
    recorded = _read_record(folder)
    whole = bool(recorded) and all(
        (folder / name).is_file() and digest_of(folder / name) == file.sha256 for name, file in recorded.items()
    )
    if whole:
        record_files(folder)
    return whole


def make_once(folder: Path, write: Callable[[Path], None]) -> Path:
    """The folder, made by the first who asks: `write` fills an empty one beside it, which is recorded and moved there.

    Others wait meanwhile; nobody sees half a folder, and one that was damaged is made again.
    """
    if is_as_recorded(folder):
        return folder
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f"{folder.name}.lock"):
        if verify_files(folder):
            return folder
        for left in folder.parent.glob(f".{folder.name}-*"):  # of a process that was killed; the lock says it is gone
            shutil.rmtree(left, ignore_errors=True)
        beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        try:
            write(beside)
            record_files(beside)
            beside.chmod(0o755)
            shutil.rmtree(folder, ignore_errors=True)
            beside.rename(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return folder


def recorded_sha256(folder: Path, name: str) -> str | None:
    """The digest of a file that is as it was recorded, without reading it; None where only reading would tell."""
    file = _read_record(folder).get(name)
    return file.sha256 if file is not None and _is_unchanged(folder / name, file) else None


def _is_unchanged(path: Path, file: RecordedFile) -> bool:
    if not path.is_file():
        return False
    state = path.stat()
    return (state.st_size, state.st_mtime_ns) == (file.size, file.modified_ns)


def _read_record(folder: Path) -> dict[str, RecordedFile]:
    """Empty where there is none, or none that can be read."""
    try:
        content = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
        return {name: RecordedFile(*values) for name, values in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
