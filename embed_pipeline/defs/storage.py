"""Dagster's own storage: opened by one process at a time, mended where two began it, named where it is damaged.

Belongs here: the folder with Dagster's SQLite files. Does not belong here: what is recorded there (running, liveness).
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import dagster as dg
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from dagster._core.storage import sql
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from sqlalchemy.exc import SQLAlchemyError

from embed_pipeline.artifacts.workspace import exclusive

_NOT_IN_A_PATH = "%?#"
"""Dagster writes the folder into a URL as it is: % is decoded, and what follows ? or # is no longer the path."""


def check_storage_folder(folder: Path) -> None:
    """Guarantees that Dagster keeps its storage in this folder and no other; raises ValueError otherwise."""
    if found := [sign for sign in _NOT_IN_A_PATH if sign in str(folder)]:
        raise ValueError(
            f"{folder}: expected a path without {' '.join(_NOT_IN_A_PATH)} for Dagster's storage, found {found[0]!r}; "
            "Dagster would use another folder. Rename the folder, or set EMBED_PIPELINE_DAGSTER_STORAGE to one "
            "elsewhere."
        )


@contextmanager
def open_storage(folder: Path) -> Iterator[dg.DagsterInstance]:
    """The instance whose SQLite files lie in the folder, or of which DAGSTER_HOME says where they are.

    Raises:
        ValueError: the storage is damaged; the message has the command that sets it aside.
    """
    # Two processes that create the files at once leave them with two versions, and fail.
    with exclusive(folder, "storage"):
        instance = _get(folder)
    with instance:
        yield instance


def describe_storage_error(folder: Path, error: Exception) -> str:
    """What to do about an error of SQLAlchemy or SQLite in Dagster's storage."""
    cause = getattr(error, "orig", None) or error
    told = f"{folder}: Dagster's storage: {cause}"
    if not isinstance(cause, sqlite3.Error | CommandError):
        return f"{told}. Check that its database runs and that dagster.yaml names it."
    if "locked" in str(cause):
        return f"{told}. Another process writes to it. Wait for that one and run again."
    if "full" in str(cause) or "disk I/O" in str(cause):
        return f"{told}. Free some space on its disk and run again."
    if "readonly" in str(cause) or "unable to open" in str(cause):
        return f"{told}. Make the folder writable for you and run again."
    return (
        f"{told}. It holds the records of past runs and nothing that a result depends on. Set it aside and run again:\n"
        f"mv '{folder}' '{folder}.damaged'"
    )


def _get(folder: Path) -> dg.DagsterInstance:
    try:
        try:
            return dg.DagsterInstance.get()
        except CommandError:
            if not _mend_versions(folder):
                raise
            return dg.DagsterInstance.get()
    except (SQLAlchemyError, sqlite3.Error, CommandError) as error:
        raise ValueError(describe_storage_error(folder, error)) from error


def _mend_versions(folder: Path) -> bool:
    """Keep the newest of several versions that files say they have; whether there were some.

    Whoever made the tables made all of them as the newest version has them, and then wrote down its version; a second
    process took them for tables of an earlier one, and wrote that down too.
    """
    config = sql.get_alembic_config(sqlite_run_storage.__file__)
    newest, mended = ScriptDirectory.from_config(config).as_revision_number("head"), False
    for path in sorted(folder.rglob("*.db")):
        with closing(sqlite3.connect(path)) as connection, connection:
            try:
                versions = {row[0] for row in connection.execute("SELECT version_num FROM alembic_version")}
            except sqlite3.OperationalError:  # no such table: another file's
                continue
            if len(versions) > 1 and newest in versions:
                connection.execute("DELETE FROM alembic_version WHERE version_num <> ?", (newest,))
                mended = True
    return mended
