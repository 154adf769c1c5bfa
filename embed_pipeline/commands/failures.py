"""How a command that fails says so: one message with the place and what to do, whatever raised it.

Belongs here: the words for errors that left everything else. Does not belong here: an error that the code that meets it
can word better.
"""

import errno
import json
import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

_OURS = Path(__file__).parents[1]
_PLACES = ("path", "file", "marker", "source", "folder", "directory")
_REMEDIES = {
    errno.ENOSPC: "Free some space on this disk and run again; what was finished is kept.",
    errno.EDQUOT: "Free some of your space on this disk and run again; what was finished is kept.",
    errno.EROFS: "Put the state elsewhere with EMBED_PIPELINE_HOME.",
    errno.EACCES: "Make it accessible for you, or put the state elsewhere with EMBED_PIPELINE_HOME.",
    errno.EPERM: "Make it accessible for you, or put the state elsewhere with EMBED_PIPELINE_HOME.",
    errno.EEXIST: "A file lies where a folder must be. Move it, or put the state elsewhere with EMBED_PIPELINE_HOME.",
    errno.ENOTDIR: "A file lies where a folder must be. Move it, or put the state elsewhere with EMBED_PIPELINE_HOME.",
    errno.ENOENT: "It is gone, or was never there. Run again.",
    errno.EMFILE: "Close other programs, or raise the limit of open files (ulimit -n).",
}
_LIBRARIES = ("duckdb", "_duckdb", "sqlite3", "sqlalchemy", "alembic", "dagster", "safetensors", "safetensors_rust")
"""Those whose errors are about a file or a service; another library's say that embed-pipeline used it wrongly."""
_STORAGE = ("sqlite3", "sqlalchemy", "alembic")


def describe_failure(error: BaseException) -> str:
    """The message of an error: its own sentence, the sentences of what caused it, and where it happened."""
    told = [_words(error)]
    cause = error.__cause__
    while cause is not None:
        words = _words(cause)
        if not any(part in earlier for part in (str(cause) or words, words) for earlier in told):
            told.append(f"Cause: {words}")
        cause = cause.__cause__
    if not _is_foreseen(error):
        told.append("This is a fault of embed-pipeline; please report it with what --debug shows.")
    return "\n".join(told)


def print_traceback(error: BaseException) -> None:
    """What Python says, to stderr."""
    traceback.print_exception(error)


def _is_foreseen(error: BaseException) -> bool:
    return isinstance(error, ValueError | OSError | RuntimeError) or _library(error) in _LIBRARIES


def _words(error: BaseException) -> str:
    library, text = _library(error), str(error).strip()
    if isinstance(error, OSError) and error.strerror and not library.startswith(("duckdb", "sqlalchemy")):
        place = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else _place(error)
        remedy = _REMEDIES.get(error.errno or 0, "")
        return f"{place}: {error.strerror[:1].lower()}{error.strerror[1:]}. {remedy}".rstrip()
    if library in _STORAGE:
        # The caches that use SQLite word their own errors: what comes here is of Dagster.
        from embed_pipeline.defs.storage import describe_storage_error

        folder = os.environ.get("EMBED_PIPELINE_DAGSTER_STORAGE")
        if folder and isinstance(error, Exception):
            return describe_storage_error(Path(folder), error)
    plain = isinstance(error, ValueError | TimeoutError | RuntimeError) and library in ("builtins", "embed_pipeline")
    if plain and not isinstance(error, json.JSONDecodeError | UnicodeError):
        return text or type(error).__name__
    return f"{_place(error)}: {type(error).__name__}: {text}"


def _library(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]


def _place(error: BaseException) -> str:
    """The file that was worked on when the error was raised, else the line of ours that it came from."""
    frames = list(_frames(error))
    for frame in frames:
        found = next((frame.f_locals[name] for name in _PLACES if isinstance(frame.f_locals.get(name), Path)), None)
        if found is not None:
            return str(found)
    return f"{Path(frames[0].f_code.co_filename).name}, {frames[0].f_code.co_name}" if frames else "embed-pipeline"


def _frames(error: BaseException) -> Iterator[FrameType]:
    """The frames of ours that the error came through, innermost first."""
    found = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return (frame for frame in reversed(found) if Path(frame.f_code.co_filename).is_relative_to(_OURS))
