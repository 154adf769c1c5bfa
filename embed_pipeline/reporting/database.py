"""The metrics table: one DuckDB file, appended to and never changed.

Belongs here: the schema, appending a batch, reading rows. Does not belong here: computing or showing them.

Grain of `metrics`: one row per (batch, data set, variant, split, measured_on, slice, measure, cutoff); a batch is what
one evaluation appended. The view `metrics_newest` has, per key without the batch, the row that was appended last.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embed_pipeline.paths import write_whole
from embed_pipeline.reporting.metric_row import MetricRow

if TYPE_CHECKING:
    import duckdb

LOCK_TIMEOUT_SECONDS = 60.0

BATCH_SUFFIX = ".batch"
"""Of the file beside the database that holds the number of the newest batch, to be read without opening it."""

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
"""
_NEWEST_VIEW = f"""
CREATE OR REPLACE VIEW metrics_newest AS
    SELECT * FROM metrics QUALIFY row_number() OVER (PARTITION BY {_KEY} ORDER BY batch DESC) = 1;
"""
_ADDED_COLUMNS = {"synthetic": "VARCHAR", "precision": "VARCHAR", "dtype": "VARCHAR"}
"""What earlier versions did not write; a file of theirs gets the column, NULL in every row."""

_COLUMNS = tuple(field.name for field in fields(MetricRow))


def append_metrics(path: Path, rows: Sequence[MetricRow], *, timeout_seconds: float = LOCK_TIMEOUT_SECONDS) -> int:
    """Appends `rows` as one batch, all or none, and returns the batch number; no rows change nothing and give 0.

    The same rows again are a new batch: a re-evaluation is a point of the time series. Other processes may append at
    the same time; each waits for its turn.

    Raises:
        ValueError: two rows have the same key, or the file has other columns.
        TimeoutError: another process kept the file locked for `timeout_seconds`.
    """
    if not rows:
        return 0
    keys = {(row.dataset, row.variant, row.split, row.measured_on, row.slice, row.at) for row in rows}
    if len(keys) < len(rows):
        raise ValueError(f"a batch holds one row per ({_KEY}); found {len(rows) - len(keys)} repeated. Give each once.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _connect(path, timeout_seconds) as connection:
        connection.execute("BEGIN")
        connection.execute(_SCHEMA)
        _bring_up_to_date(path, connection)
        (batch,) = connection.execute("SELECT nextval('metrics_batch')").fetchall()[0]
        places = ", ".join("?" * (1 + len(_COLUMNS)))
        connection.executemany(
            f"INSERT INTO metrics (batch, {', '.join(_COLUMNS)}) VALUES ({places})",
            [[batch, *_to_stored(row)] for row in rows],
        )
        connection.execute("COMMIT")
        write_whole(path.with_name(path.name + BATCH_SUFFIX), f"{batch}\n".encode())
    return batch


def newest_batch(path: Path) -> int:
    """The number of the batch that was appended last, 0 before the first; opens no database."""
    marker = path.with_name(path.name + BATCH_SUFFIX)
    return int(marker.read_text(encoding="utf-8")) if path.exists() and marker.exists() else 0


def read_newest(
    path: Path, *, dataset: str | None = None, variant: str | None = None, split: str | None = None
) -> tuple[MetricRow, ...]:
    """The newest row per (data set, variant, split, measure, cutoff), ordered by that key; a filter of None takes all.

    Raises:
        FileNotFoundError: nothing was evaluated yet.
    """
    return _read(path, "metrics_newest", _KEY, {"dataset": dataset, "variant": variant, "split": split})


def read_history(
    path: Path, *, dataset: str | None = None, variant: str | None = None, split: str | None = None
) -> tuple[MetricRow, ...]:
    """Every row ever appended, oldest batch first, then by key; a filter of None takes all.

    Raises:
        FileNotFoundError: nothing was evaluated yet.
    """
    return _read(path, "metrics", f"batch, {_KEY}", {"dataset": dataset, "variant": variant, "split": split})


def _read(path: Path, relation: str, order: str, filters: dict[str, str | None]) -> tuple[MetricRow, ...]:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no metrics yet. Materialise the asset metrics_table first.")
    chosen = {name: value for name, value in filters.items() if value is not None}
    where = " AND ".join(["true", *(f"{name} = ?" for name in chosen)])
    with _connect(path, LOCK_TIMEOUT_SECONDS) as connection:
        _bring_up_to_date(path, connection)
        found = connection.execute(
            f"SELECT {', '.join(_COLUMNS)} FROM {relation} WHERE {where} ORDER BY {order}", list(chosen.values())
        ).fetchall()
    return tuple(_from_stored(dict(zip(_COLUMNS, values, strict=True))) for values in found)


@contextmanager
def _connect(path: Path, timeout_seconds: float) -> "Iterator[duckdb.DuckDBPyConnection]":
    """A connection that is closed, and with it every open transaction rolled back, on the way out.

    DuckDB lets one process at a time open a file, readers included while there is a writer. Its own lock comes too late
    for a new file: of two processes that find none, the second creates it over the first one's rows. So ours is taken
    before; DuckDB's remains for programs that do not know ours. Both go with the process, however it ends. Everyone
    opens for writing: two modes at once in one process are refused.
    """
    import filelock

    deadline = time.monotonic() + timeout_seconds
    try:
        with filelock.FileLock(path.with_name(f"{path.name}.lock"), timeout=timeout_seconds):
            connection = _open(path, deadline, timeout_seconds)
            try:
                yield connection
            finally:
                connection.close()
    except filelock.Timeout as error:
        raise TimeoutError(
            f"{path}: still locked by another run of embed-pipeline after {timeout_seconds:g} s. Wait for it and run "
            "again."
        ) from error


def _open(path: Path, deadline: float, timeout_seconds: float) -> "duckdb.DuckDBPyConnection":
    import duckdb

    pause = 0.01
    while True:
        try:
            return duckdb.connect(str(path))
        except duckdb.IOException as error:
            if "lock" not in str(error):
                raise
            if time.monotonic() + pause > deadline:
                raise TimeoutError(
                    f"{path}: still locked by another process after {timeout_seconds:g} s. Close the program that has "
                    f"it open (often a DuckDB shell) and run again. DuckDB says: {error}"
                ) from error
        time.sleep(pause)
        pause = min(2 * pause, 0.2)


def _bring_up_to_date(path: Path, connection: "duckdb.DuckDBPyConnection") -> None:
    found = {row[0] for row in connection.execute("SELECT name FROM pragma_table_info('metrics')").fetchall()}
    expected = {"batch", *_COLUMNS}
    missing = [name for name in _ADDED_COLUMNS if name not in found]
    if expected - found == set(missing) and not found - expected:
        for name in missing:
            connection.execute(f"ALTER TABLE metrics ADD COLUMN {name} {_ADDED_COLUMNS[name]}")
        connection.execute(_NEWEST_VIEW)
        return
    raise ValueError(
        f"{path}: table metrics has other columns than this version writes; missing {sorted(expected - found)}, "
        f"unknown {sorted(found - expected)}. Move the file aside and materialise metrics_table again, or add the "
        "columns with ALTER TABLE."
    )


def _to_stored(row: MetricRow) -> list[Any]:
    values = {name: getattr(row, name) for name in _COLUMNS}
    values["recipe"] = json.dumps(row.recipe, ensure_ascii=False, sort_keys=True, allow_nan=False)
    values["evaluated_at"] = row.evaluated_at.astimezone(UTC).replace(tzinfo=None)
    return list(values.values())


def _from_stored(values: dict[str, Any]) -> MetricRow:
    recipe = json.loads(values["recipe"])
    return MetricRow(**{**values, "recipe": recipe, "evaluated_at": values["evaluated_at"].replace(tzinfo=UTC)})
