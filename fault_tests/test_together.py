"""Several at once: eight runs of one project, three writers of its table."""

import multiprocessing
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import dagster as dg

from embed_pipeline.reporting.database import append_metrics, read_history
from embed_pipeline_tests.reporting.metric_rows import ROW
from fault_tests.commands import Command, call, group_of
from fault_tests.conftest import Figure
from fault_tests.project import copy_of, state_of, write_short_project

RUNS, WRITERS, BATCHES = 8, 3, 20


def test_eight_runs_at_once_publish_what_one_does_and_repeat_no_work(tmp_path: Path, figure: Figure) -> None:
    template = write_short_project(tmp_path / "template", "bm25", "base", "tuned")
    alone = copy_of(template, tmp_path / "project")
    started = time.monotonic()
    assert call(alone, "run")[0] == 0
    one, expected, due = time.monotonic() - started, state_of(alone), _runs(alone)
    project = copy_of(template, tmp_path / "project")
    started = time.monotonic()
    with group_of([Command(project, "run") for _ in range(RUNS)]) as commands:
        codes = [command.wait(900) for command in commands]
        said = [command.said() for command in commands]
    eight = time.monotonic() - started
    assert codes == [0] * RUNS and not any("Traceback" in one for one in said), said
    found = state_of(project)
    executed, history = _runs(project), read_history(project / ".embed_pipeline" / "metrics.duckdb")
    figure("seconds of one run alone, of eight at once", f"{one:.0f}, {eight:.0f}")
    figure("runs of jobs recorded by one run alone, by eight at once", f"{due.total()}, {executed.total()}")
    figure("rows of history after one run alone, after eight at once", f"{len(expected.rows)}, {len(history)}")
    assert found.objects == expected.objects and found.rows == expected.rows
    assert executed == due, executed


def _runs(project: Path) -> Counter[str]:
    """How often each job was run for each partition."""
    with dg.DagsterInstance.local_temp(str(project / ".embed_pipeline" / "dagster")) as instance:
        return Counter(f"{run.job_name} {run.tags.get('dagster/partition', '')}" for run in instance.get_runs())


def test_three_writers_of_the_table_lose_and_double_no_row(tmp_path: Path, figure: Figure) -> None:
    table, context = tmp_path / "metrics.duckdb", multiprocessing.get_context("forkserver")
    writers = [context.Process(target=_write, args=(table, name)) for name in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(300)
    assert [writer.exitcode for writer in writers] == [0] * WRITERS
    rows = Counter((row.variant, row.value) for row in read_history(table))
    assert rows == Counter((f"v{name}", at / 100) for name in range(WRITERS) for at in range(BATCHES))
    figure(f"rows of {WRITERS} writers with {BATCHES} batches each, lost or doubled", f"{rows.total()}, 0")


def _write(table: Path, name: int) -> None:
    for at in range(BATCHES):
        append_metrics(table, [replace(ROW, variant=f"v{name}", value=at / 100)])
