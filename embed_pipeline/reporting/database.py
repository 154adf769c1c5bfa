"""The metrics table: one DuckDB file, appended to and never changed; damaged, it is made again from the store.

Belongs here: the schema, appending a batch, reading rows, which rows stand. Does not belong here: computing or showing
them.

Grain of `metrics`: one row per (batch, data set, variant, split, measured_on, slice, measure, cutoff); a batch is what
one evaluation appended. The view `metrics_newest` is what everybody shows: of each variant that still exists the rows
of the newest batch that has it, with `outdated` where they are of other data or another recipe than today; such rows
are compared with nothing.
"""

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embed_pipeline.artifacts.backends import open_address
from embed_pipeline.replacing import replacing
from embed_pipeline.reporting.metrics_table import BASE_MODEL, MetricRow
from embed_pipeline.reporting.table_file import (
    LOCK_TIMEOUT_SECONDS,
    WAL_SUFFIX,
    DamagedTableError,
    Say,
    Turn,
    mark_path,
    read_mark,
    set_aside,
    state_of,
    write_mark,
)

if TYPE_CHECKING:
    import duckdb

_KEY = "dataset, variant, split, measured_on, slice, measure, cutoff"

_SCHEMA = f"""
CREATE SEQUENCE IF NOT EXISTS metrics_batch;
CREATE TABLE IF NOT EXISTS metrics (
    batch BIGINT NOT NULL,
    dataset VARCHAR NOT NULL, variant VARCHAR NOT NULL, split VARCHAR NOT NULL,
    measured_on VARCHAR NOT NULL, slice VARCHAR NOT NULL,
    measure VARCHAR NOT NULL, cutoff INTEGER NOT NULL,
    value DOUBLE NOT NULL, low DOUBLE NOT NULL, high DOUBLE NOT NULL,
    queries INTEGER NOT NULL, synthetic VARCHAR, ceiling DOUBLE NOT NULL,
    baseline VARCHAR, difference DOUBLE, difference_low DOUBLE, difference_high DOUBLE,
    p_value DOUBLE, p_adjusted DOUBLE, detectable DOUBLE, verdict VARCHAR,
    cost_usd DOUBLE, latency_p50_ms DOUBLE, latency_p95_ms DOUBLE, passages_per_second DOUBLE,
    dimension INTEGER, max_length INTEGER,
    raw_digest VARCHAR NOT NULL, cleaned_digest VARCHAR NOT NULL, negatives_digest VARCHAR,
    checkpoint_digest VARCHAR, index_digest VARCHAR, query_metrics_digest VARCHAR NOT NULL,
    recipe JSON NOT NULL, seed BIGINT, precision VARCHAR, dtype VARCHAR, git_commit VARCHAR, run_id VARCHAR,
    evaluated_at TIMESTAMP NOT NULL,  -- UTC
    PRIMARY KEY (batch, {_KEY})
);
CREATE TABLE IF NOT EXISTS metrics_batches (batch BIGINT PRIMARY KEY, fingerprint VARCHAR, occasion VARCHAR);
CREATE TABLE IF NOT EXISTS metrics_standing (
    dataset VARCHAR, variant VARCHAR, query_metrics_digest VARCHAR NOT NULL, outdated VARCHAR,
    PRIMARY KEY (dataset, variant)
);
"""
_COMPARISON = (
    "baseline",
    "difference",
    "difference_low",
    "difference_high",
    "p_value",
    "p_adjusted",
    "detectable",
    "verdict",
)
# A batch holds all rows of a variant: a slice that the newest one lacks is gone. A comparison stands as long as both
# sides do; where nobody said what stands, as in a table of an earlier version, all does.
_NEWEST = f"""
WITH newest AS (
    SELECT * FROM metrics QUALIFY batch = max(batch) OVER (PARTITION BY dataset, variant, split)
), judged AS (
    SELECT newest.*, standing.outdated,
        standing.variant IS NOT NULL AND (
            standing.outdated IS NOT NULL OR newest.baseline <> '{BASE_MODEL}' AND NOT EXISTS (
                FROM metrics_standing AS base JOIN metrics AS measured USING (dataset, variant, query_metrics_digest)
                WHERE base.dataset = newest.dataset AND base.variant = newest.baseline AND base.outdated IS NULL
                    AND measured.batch = newest.batch
            )
        ) AS alone
    FROM newest LEFT JOIN metrics_standing AS standing USING (dataset, variant)
    WHERE standing.variant IS NOT NULL OR NOT EXISTS (FROM metrics_standing)
)
SELECT * EXCLUDE (alone) REPLACE ({", ".join(f"if(alone, NULL, {name}) AS {name}" for name in _COMPARISON)})
FROM judged
"""
_ADDED_COLUMNS = {"synthetic": "VARCHAR", "precision": "VARCHAR", "dtype": "VARCHAR"}
"""What earlier versions did not write; a file of theirs gets the column, NULL in every row."""

_COLUMNS = tuple(field.name for field in fields(MetricRow) if field.name != "outdated")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A declared variant: which figures of it are the newest, and why they are not of today, as `other data`."""

    dataset: str
    variant: str
    query_metrics_digest: str
    outdated: str | None = None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one evaluation appends. The same `fingerprint` is the same evaluation, except on another `occasion`."""

    rows: Sequence[MetricRow]
    fingerprint: str = ""
    occasion: str = ""


def append_metrics(
    path: Path,
    rows: Sequence[MetricRow] | Batch,
    *,
    standing: Sequence[Standing] | None = None,
    earlier: Callable[[], Sequence[Batch]] = tuple,
    timeout_seconds: float | None = None,
    say: Say | None = None,
) -> int:
    """Appends `rows` as one batch, all or none, and returns its number; no rows change nothing and give 0.

    The same rows again are a new batch: a re-evaluation is a point of the time series. A Batch with the fingerprint of
    the newest one is appended on a new occasion alone: a run that died after it had written, or came second, repeats
    nothing. Other processes may append at the same time; each waits for its turn. `standing` is what holds from now
    on; None leaves it. `earlier` gives the batches before this one, oldest first, for a file that is gone or damaged.

    Raises:
        ValueError: two rows have the same key, or the file has other columns.
        TimeoutError: another process kept the file locked for `timeout_seconds`.
        OSError: the disk is full, or the file may not be written; nothing was appended.
    """
    batch = rows if isinstance(rows, Batch) else Batch(rows=rows)
    if not batch.rows:
        return 0
    keys = {(row.dataset, row.variant, row.split, row.measured_on, row.slice, row.at) for row in batch.rows}
    if len(keys) < len(batch.rows):
        count = len(batch.rows) - len(keys)
        raise ValueError(f"a batch holds one row per ({_KEY}); found {count} repeated. Give each once.")
    path.parent.mkdir(parents=True, exist_ok=True)
    turn = Turn(path, timeout_seconds or LOCK_TIMEOUT_SECONDS, say or logging.getLogger(__name__).warning)
    with turn.taken():
        try:
            exists = path.exists()
            number = _append(turn, [batch], standing) if exists else _make(turn, [*earlier(), batch], standing)
        except DamagedTableError as error:
            turn.say(f"{error} It is set aside as {set_aside(path).name} and made again from the store.")
            number = _make(turn, [*earlier(), batch], standing)
        with suppress(OSError):  # without a mark the database itself is asked
            write_mark(path, number)
    return number


def newest_batch(path: Path) -> int:
    """The number of the batch that was appended last, 0 before the first and where the file is damaged.

    Reads the mark beside the file, and the database itself where the mark does not fit the file.
    """
    if not path.exists():
        return 0
    mark = read_mark(path)
    if mark and mark[1] == state_of(path):
        return mark[0]
    turn = Turn(path, LOCK_TIMEOUT_SECONDS if mark is None else 0.0, logging.getLogger(__name__).warning)
    try:
        with turn.taken():
            with turn.connected(read_only=True) as connection:
                number = _check(connection)
            with suppress(OSError):
                write_mark(path, number)
    except DamagedTableError:
        return 0
    except TimeoutError:
        if mark is None:
            raise
        return mark[0]
    return number


def read_newest(
    path: Path,
    *,
    dataset: str | None = None,
    variant: str | None = None,
    split: str | None = None,
    say: Say | None = None,
) -> tuple[MetricRow, ...]:
    """The rows of metrics_newest, ordered by data set, variant, split, measure, cutoff; a filter of None takes all.

    Raises:
        FileNotFoundError: nothing was evaluated yet.
        DamagedTableError: the file is damaged.
        TimeoutError: another process keeps the file locked.
    """
    filters = {"dataset": dataset, "variant": variant, "split": split}
    return _read(path, f"({_NEWEST})", _KEY, filters, (*_COLUMNS, "outdated"), say)


def write_newest(path: Path, target: str | Path, *, dataset: str | None = None) -> int:
    """Write the rows of metrics_newest as one Parquet file to a path or an fsspec URL; returns how many.

    A reader sees the file of before or this one. A file of this machine that stands there is kept beside it, see
    `replacing`. Raises as `read_newest`.
    """
    read_newest(path, dataset=dataset)  # makes the view as it is today
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "metrics.parquet"
        turn = Turn(path, LOCK_TIMEOUT_SECONDS, logging.getLogger(__name__).warning)
        with turn.taken(), turn.connected(read_only=True) as connection:
            rows = connection.sql(
                f"FROM metrics_newest WHERE $1 IN (dataset, '') ORDER BY {_KEY}", params=[dataset or ""]
            )
            rows.write_parquet(str(made))
            ((count,),) = rows.count("*").fetchall()
        if isinstance(target, Path):
            with replacing(target) as place:
                shutil.copyfile(made, place)
        else:
            filesystem, place = open_address(target)
            filesystem.pipe_file(place, made.read_bytes())
    return count


def read_history(
    path: Path, *, dataset: str | None = None, variant: str | None = None, split: str | None = None
) -> tuple[MetricRow, ...]:
    """Every row ever appended, oldest batch first, then by key; a filter of None takes all. Raises as `read_newest`."""
    filters = {"dataset": dataset, "variant": variant, "split": split}
    return _read(path, "metrics", f"batch, {_KEY}", filters, _COLUMNS, None)


def _read(
    path: Path, relation: str, order: str, filters: dict[str, str | None], columns: Sequence[str], say: Say | None
) -> tuple[MetricRow, ...]:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no metrics yet. Materialise the asset metrics_table first.")
    chosen = {name: value for name, value in filters.items() if value is not None}
    where = " AND ".join(["true", *(f"{name} = ?" for name in chosen)])
    query = f"SELECT {', '.join(columns)} FROM {relation} WHERE {where} ORDER BY {order}"
    turn = Turn(path, LOCK_TIMEOUT_SECONDS, say or logging.getLogger(__name__).warning)
    with turn.taken():
        try:
            with turn.connected(read_only=True) as connection:
                current = _is_up_to_date(path, connection)
                found = connection.execute(query, list(chosen.values())).fetchall() if current else []
            if not current:
                with turn.connected(read_only=False) as connection:
                    _bring_up_to_date(path, connection)
                    found = connection.execute(query, list(chosen.values())).fetchall()
        except DamagedTableError:
            mark_path(path).unlink(missing_ok=True)  # so that the next run looks
            raise
    return tuple(_from_stored(dict(zip(columns, values, strict=True))) for values in found)


def _make(turn: Turn, batches: Sequence[Batch], standing: Sequence[Standing] | None) -> int:
    """A new file with the batches, made beside its place: killed while it makes one, DuckDB leaves a damaged file."""
    new = Turn(turn.path.with_name(f"{turn.path.name}.new"), turn.timeout_seconds, turn.say)
    for suffix in ("", WAL_SUFFIX):
        new.path.with_name(new.path.name + suffix).unlink(missing_ok=True)
    number = _append(new, batches, standing, is_new=True)
    if turn.path.with_name(turn.path.name + WAL_SUFFIX).exists():  # of a file that is gone: not of this one
        set_aside(turn.path)
    mark_path(turn.path).unlink(missing_ok=True)
    new.path.replace(turn.path)
    return number


def _append(turn: Turn, batches: Sequence[Batch], standing: Sequence[Standing] | None, *, is_new: bool = False) -> int:
    number = 0
    with turn.connected(read_only=False) as connection:
        if not is_new:
            _check(connection)
        connection.execute("BEGIN")
        connection.execute(_SCHEMA)
        _bring_up_to_date(turn.path, connection)
        for batch in batches:
            number = _append_batch(connection, batch)
        if standing is not None:
            connection.execute("DELETE FROM metrics_standing")
            values = [[one.dataset, one.variant, one.query_metrics_digest, one.outdated] for one in standing]
            if values:
                connection.executemany("INSERT INTO metrics_standing VALUES (?, ?, ?, ?)", values)
        mark_path(turn.path).unlink(missing_ok=True)  # before: one that is there always fits
        connection.execute("COMMIT")
    return number


def _append_batch(connection: "duckdb.DuckDBPyConnection", batch: Batch) -> int:
    newest = connection.execute("FROM metrics_batches ORDER BY batch DESC LIMIT 1").fetchall()
    if batch.fingerprint and newest:
        number, fingerprint, occasion = newest[0]
        if fingerprint == batch.fingerprint and batch.occasion in ("", occasion):
            return number
    (number,) = connection.execute("SELECT nextval('metrics_batch')").fetchall()[0]
    places = ", ".join("?" * (1 + len(_COLUMNS)))
    connection.executemany(
        f"INSERT INTO metrics (batch, {', '.join(_COLUMNS)}) VALUES ({places})",
        [[number, *_to_stored(row)] for row in batch.rows],
    )
    named = [number, batch.fingerprint, batch.occasion]
    connection.execute("INSERT INTO metrics_batches VALUES (?, ?, ?)", named)
    return number


def _check(connection: "duckdb.DuckDBPyConnection") -> int:
    """The number of the newest batch, after every block was read: DuckDB finds the damaged ones."""
    rows = connection.execute("SELECT max(batch), sum(hash(metrics)) FROM metrics").fetchall()
    return rows[0][0] or 0


def _is_up_to_date(path: Path, connection: "duckdb.DuckDBPyConnection") -> bool:
    tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    return {"metrics", "metrics_batches", "metrics_standing"} <= tables and not _missing(path, connection)


def _missing(path: Path, connection: "duckdb.DuckDBPyConnection") -> list[str]:
    """The columns of _ADDED_COLUMNS that the table does not have yet."""
    found = {row[0] for row in connection.execute("SELECT name FROM pragma_table_info('metrics')").fetchall()}
    expected = {"batch", *_COLUMNS}
    missing = [name for name in _ADDED_COLUMNS if name not in found]
    if expected - found == set(missing) and not found - expected:
        return missing
    raise ValueError(
        f"{path}: table metrics has other columns than this version writes; missing {sorted(expected - found)}, "
        f"unknown {sorted(found - expected)}. Move the file aside and materialise metrics_table again, or add the "
        "columns with ALTER TABLE."
    )


def _bring_up_to_date(path: Path, connection: "duckdb.DuckDBPyConnection") -> None:
    missing = _missing(path, connection)
    connection.execute(_SCHEMA)
    for name in missing:
        connection.execute(f"ALTER TABLE metrics ADD COLUMN {name} {_ADDED_COLUMNS[name]}")
    connection.execute(f"CREATE OR REPLACE VIEW metrics_newest AS {_NEWEST}")


def _to_stored(row: MetricRow) -> list[Any]:
    values = {name: getattr(row, name) for name in _COLUMNS}
    values["recipe"] = json.dumps(row.recipe, ensure_ascii=False, sort_keys=True, allow_nan=False)
    values["evaluated_at"] = row.evaluated_at.astimezone(UTC).replace(tzinfo=None)
    return list(values.values())


def _from_stored(values: dict[str, Any]) -> MetricRow:
    recipe = json.loads(values["recipe"])
    return MetricRow(**{**values, "recipe": recipe, "evaluated_at": values["evaluated_at"].replace(tzinfo=UTC)})
