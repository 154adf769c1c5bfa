"""Laws of the metrics table, with real processes where several write."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from embed_pipeline.reporting.database import Batch, Standing, append_metrics, newest_batch, read_history, read_newest
from embed_pipeline.reporting.metrics_table import MetricRow
from embed_pipeline.reporting.table_file import DamagedTableError
from embed_pipeline_tests.reporting.metric_rows import ROW, compared

REPOSITORY = Path(__file__).parents[2]


def start_writer(body: str, *arguments: str) -> subprocess.Popen:
    script = "import sys, time\nfrom dataclasses import replace\nfrom pathlib import Path\n"
    script += "from embed_pipeline_tests.reporting.metric_rows import ROW\n"
    script += "from embed_pipeline.reporting.database import append_metrics\n"
    script += body
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_rows_come_back_as_they_were(tmp_path):
    rows = (ROW, compared(ROW, 0.12, 0.001, variant="minilm_finetuned", checkpoint_digest="c" * 64))
    append_metrics(tmp_path / "m.duckdb", rows)
    assert read_newest(tmp_path / "m.duckdb") == rows


def test_a_re_evaluation_appends_and_the_view_shows_the_newest(tmp_path):
    path = tmp_path / "m.duckdb"
    append_metrics(path, [ROW, replace(ROW, cutoff=1)])
    later = replace(ROW, value=0.6, evaluated_at=ROW.evaluated_at + timedelta(days=1))
    append_metrics(path, [later])
    assert [row.value for row in read_history(path)] == [0.5, 0.5, 0.6]
    assert read_newest(path) == (later,), "what the newest evaluation of a variant lacks is gone"


def test_the_same_evaluation_again_is_a_new_point(tmp_path):
    path = tmp_path / "m.duckdb"
    assert [append_metrics(path, [ROW]) for _ in range(3)] == [1, 2, 3]
    assert read_history(path) == (ROW, ROW, ROW)
    assert read_newest(path) == (ROW,)


def test_filters_narrow_and_do_not_mix(tmp_path):
    path = tmp_path / "m.duckdb"
    rows = [replace(ROW, dataset=d, variant=v) for d in ("disease", "finance") for v in ("bm25", "minilm")]
    append_metrics(path, rows)
    assert [row.variant for row in read_newest(path, dataset="finance")] == ["bm25", "minilm"]
    assert [row.dataset for row in read_history(path, variant="bm25")] == ["disease", "finance"]
    assert read_newest(path, split="validation") == ()


def test_a_batch_with_a_bad_row_leaves_nothing(tmp_path):
    path = tmp_path / "m.duckdb"
    append_metrics(path, [ROW])
    with pytest.raises(duckdb.Error):
        append_metrics(path, [replace(ROW, cutoff=1), replace(ROW, cutoff=2, raw_digest=None)])
    assert read_history(path) == (ROW,)


def test_a_batch_with_one_key_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="found 1 repeated"):
        append_metrics(tmp_path / "m.duckdb", [ROW, replace(ROW, value=0.9)])
    assert not (tmp_path / "m.duckdb").exists()


def test_no_rows_change_nothing(tmp_path):
    assert append_metrics(tmp_path / "m.duckdb", []) == 0
    with pytest.raises(FileNotFoundError, match="no metrics yet"):
        read_newest(tmp_path / "m.duckdb")


def test_a_table_of_another_version_is_refused_with_the_columns(tmp_path):
    path = tmp_path / "m.duckdb"
    append_metrics(path, [ROW])
    with duckdb.connect(str(path)) as connection:
        connection.execute("DROP VIEW metrics_newest; ALTER TABLE metrics ADD COLUMN mood VARCHAR")
    with pytest.raises(ValueError, match=r"unknown \['mood'\]"):
        append_metrics(path, [ROW])


def test_processes_that_append_at_once_lose_no_row(tmp_path):
    path = tmp_path / "m.duckdb"
    body = """
for step in range(5):
    append_metrics(Path(sys.argv[1]), [replace(ROW, variant=sys.argv[2], run_id=str(step), cutoff=k) for k in (1, 2)])
"""
    writers = [start_writer(body, str(path), f"v{i}") for i in range(5)]
    errors = [writer.communicate(timeout=60)[1] for writer in writers]
    assert [line for line in "".join(errors).splitlines() if "waiting for at most" not in line] == []
    assert [writer.returncode for writer in writers] == [0] * 5
    history = read_history(path)
    assert sorted((row.variant, row.run_id, row.cutoff) for row in history) == [
        (f"v{i}", str(step), k) for i in range(5) for step in range(5) for k in (1, 2)
    ]
    for i in range(5):  # the appends of one writer keep their order
        assert [row.run_id for row in history if row.variant == f"v{i}" and row.cutoff == 1] == list("01234")


def test_a_writer_killed_anywhere_leaves_whole_batches(tmp_path):
    path = tmp_path / "m.duckdb"
    append_metrics(path, [ROW])
    body = """
while True:
    append_metrics(Path(sys.argv[1]), [replace(ROW, variant="victim", cutoff=k) for k in range(1, 31)])
    print("ready", flush=True)
"""
    for delay in (0.0, 0.01, 0.03, 0.06):  # into the second append, the third, …
        writer = start_writer(body, str(path))
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        time.sleep(delay)
        os.kill(writer.pid, signal.SIGKILL)
        writer.communicate()
        victims = [row for row in read_history(path) if row.variant == "victim"]
        assert len(victims) % 30 == 0
        append_metrics(path, [ROW])
    assert len(victims) >= 4 * 30


def test_a_lock_that_is_never_released_is_named(tmp_path):
    path = tmp_path / "m.duckdb"
    append_metrics(path, [ROW])
    body = 'import duckdb\nheld = duckdb.connect(sys.argv[1])\nprint("held", flush=True)\ntime.sleep(60)\n'
    holder = start_writer(body, str(path))
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(TimeoutError, match=r"still locked by another process after 0\.3 s"):
            append_metrics(path, [ROW], timeout_seconds=0.3)
    finally:
        holder.kill()
        holder.communicate()
    assert append_metrics(path, [ROW]) == 2


def test_a_file_that_is_no_database_fails_at_once(tmp_path):
    (tmp_path / "m.duckdb").write_text("not a database, " * 1000)
    with pytest.raises(DamagedTableError, match=r"m\.duckdb: expected the table of metrics.*makes it again"):
        read_newest(tmp_path / "m.duckdb")


def test_a_row_with_half_a_comparison_is_refused():
    with pytest.raises(ValueError, match="go together"):
        replace(ROW, baseline="bm25", difference=0.1)


def test_a_row_without_a_time_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        replace(ROW, evaluated_at=ROW.evaluated_at.replace(tzinfo=None))


def test_every_field_of_a_row_is_stored(tmp_path):
    append_metrics(tmp_path / "m.duckdb", [ROW])
    with duckdb.connect(str(tmp_path / "m.duckdb")) as connection:
        stored = {row[0] for row in connection.execute("SELECT name FROM pragma_table_info('metrics')").fetchall()}
    assert stored == {"batch", *MetricRow.__dataclass_fields__} - {"outdated"}


def test_a_table_from_before_a_column_gets_it_and_keeps_its_rows(tmp_path):
    path = tmp_path / "m.duckdb"
    append_metrics(path, [ROW])
    with duckdb.connect(str(path)) as connection:
        connection.execute("DROP VIEW metrics_newest; ALTER TABLE metrics DROP COLUMN synthetic")
        connection.execute(
            "CREATE VIEW metrics_newest AS SELECT * FROM metrics QUALIFY row_number() OVER "
            "(PARTITION BY dataset, variant, split, measured_on, slice, measure, cutoff ORDER BY batch DESC) = 1"
        )
    assert read_newest(path) == (ROW,)
    append_metrics(path, [replace(ROW, synthetic="chat qwen3")])
    assert [row.synthetic for row in read_history(path)] == [None, "chat qwen3"]
    assert [row.synthetic for row in read_newest(path)] == ["chat qwen3"]


def hold(path, how):
    """A process that has the file open; `how` are the arguments of duckdb.connect beside the path."""
    body = f'import duckdb\nheld = duckdb.connect(sys.argv[1]{how})\nprint("held", flush=True)\ntime.sleep(60)\n'
    holder = start_writer(body, str(path))
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    return holder


def test_the_table_is_read_beside_others_who_read_it(tmp_path):
    path = tmp_path / "m.duckdb"
    append_metrics(path, [ROW])
    holder, said = hold(path, ", read_only=True"), []
    try:
        assert read_newest(path, say=said.append) == read_history(path) == (ROW,)
        assert newest_batch(path) == 1
        assert said == []
        with pytest.raises(TimeoutError, match="Close the program that has it open"):
            append_metrics(path, [ROW], timeout_seconds=2, say=said.append)
        assert len(said) == 1 and "another program has it open; waiting for at most 2 s" in said[0]
    finally:
        holder.kill()
        holder.communicate()


DAMAGES = {
    "emptied": lambda content: b"",
    "cut off": lambda content: content[: len(content) // 3],
    "cut to a few bytes": lambda content: content[:100],
    "overwritten": lambda content: b"x" * len(content),
    "flipped": lambda content: bytes(b ^ 0xFF if 12_288 <= at < len(content) else b for at, b in enumerate(content)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_table_is_named_and_the_next_batch_makes_it_again_from_the_earlier_ones(tmp_path, damage):
    path, said = tmp_path / "m.duckdb", []
    append_metrics(path, [replace(ROW, cutoff=k, run_id=f"run {k}") for k in range(1, 200)])
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(DamagedTableError, match=r"m\.duckdb: expected the table of metrics.*found"):
        read_history(path)
    assert newest_batch(path) == 0, "so that publishing is due"
    before = replace(ROW, value=0.3)
    assert append_metrics(path, [ROW], earlier=lambda: [Batch(rows=[before])], say=said.append) == 2
    assert read_history(path) == (before, ROW) and newest_batch(path) == 2
    assert len(said) == 1 and "It is set aside as m.duckdb.damaged-" in said[0]
    assert len(list(tmp_path.glob("m.duckdb.damaged-*"))) == 1


def test_a_table_that_is_gone_gets_its_earlier_batches_back(tmp_path):
    path = tmp_path / "m.duckdb"
    before = replace(ROW, value=0.3)
    assert append_metrics(path, [ROW], earlier=lambda: [Batch(rows=[before])]) == 2
    assert append_metrics(path, [ROW], earlier=lambda: pytest.fail("it is there")) == 3


def test_a_process_killed_while_it_makes_the_table_leaves_none_and_nothing_damaged(tmp_path):
    path, said = tmp_path / "m.duckdb", []
    body = "import os, signal\nfrom embed_pipeline.reporting import database\n"
    body += "database._append_batch = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
    writer = start_writer(f"{body}append_metrics(Path(sys.argv[1]), [ROW])\n", str(path))
    assert writer.wait(60) == -signal.SIGKILL
    writer.communicate()
    assert not path.exists() and newest_batch(path) == 0
    before = replace(ROW, value=0.3)
    assert append_metrics(path, [ROW], earlier=lambda: [Batch(rows=[before])], say=said.append) == 2
    assert read_history(path) == (before, ROW) and not said
    assert sorted(found.name for found in tmp_path.iterdir()) == ["m.duckdb", "m.duckdb.batch", "m.duckdb.lock"]


def test_what_duckdb_had_not_put_into_a_table_that_is_gone_is_not_put_into_the_next(tmp_path):
    path, said = tmp_path / "m.duckdb", []
    (tmp_path / "m.duckdb.wal").write_bytes(b"of another table")
    assert append_metrics(path, [ROW], say=said.append) == 1
    assert read_history(path) == (ROW,) and len(list(tmp_path.glob("m.duckdb.damaged-*.wal"))) == 1


@pytest.mark.parametrize("content", [b"", b"1", b"1\n", b"x y z", b"\xff"])
def test_a_mark_that_a_power_cut_left_is_read_from_the_database(tmp_path, content):
    path, mark = tmp_path / "m.duckdb", tmp_path / "m.duckdb.batch"
    append_metrics(path, [ROW])
    append_metrics(path, [ROW])
    mark.write_bytes(content)
    assert newest_batch(path) == 2
    assert mark.read_bytes().startswith(b"2 ")
    mark.unlink()
    assert newest_batch(path) == 2


def test_a_batch_whose_mark_cannot_be_written_counts_and_is_not_written_again(tmp_path, monkeypatch):
    path = tmp_path / "m.duckdb"
    append_metrics(path, [ROW], standing=())

    def full(place, content):
        raise OSError(28, "No space left on device", str(place))

    monkeypatch.setattr("embed_pipeline.reporting.table_file.write_whole", full)
    batch = Batch(rows=[replace(ROW, value=0.6)], fingerprint="f")
    assert append_metrics(path, batch) == append_metrics(path, batch) == newest_batch(path) == 2
    assert len(read_history(path)) == 2


def test_the_same_evaluation_is_one_batch_except_on_another_occasion(tmp_path):
    path = tmp_path / "m.duckdb"
    batches = [("f", ""), ("f", ""), ("f", "night 1"), ("f", "night 1"), ("f", ""), ("f", "night 2"), ("g", "")]
    numbers = [append_metrics(path, Batch(rows=[ROW], fingerprint=f, occasion=o)) for f, o in batches]
    assert numbers == [1, 1, 2, 2, 2, 3, 4]


BASE = replace(ROW, variant="bm25", query_metrics_digest="1" * 64)
COMPARED = compared(replace(ROW, query_metrics_digest="2" * 64), 0.1, 0.001)
OTHER = compared(replace(ROW, variant="hosted", query_metrics_digest="3" * 64), 0.1, 0.001)


def standing(*rows, **outdated):
    found = []
    for row in rows:
        names = {"dataset": row.dataset, "variant": row.variant, "query_metrics_digest": row.query_metrics_digest}
        found.append(Standing(**names, outdated=outdated.get(row.variant)))
    return found


def test_rows_of_what_no_longer_exists_are_left_out_and_stay_in_the_history(tmp_path):
    path, gone = tmp_path / "m.duckdb", replace(BASE, dataset="folder_is_gone", measured_on="folder_is_gone")
    append_metrics(path, [BASE, COMPARED, OTHER, gone], standing=standing(BASE, COMPARED))
    assert read_newest(path) == (BASE, COMPARED)
    assert len(read_history(path)) == 4


def test_rows_of_other_data_are_marked_and_compared_with_nothing(tmp_path):
    path = tmp_path / "m.duckdb"
    append_metrics(path, [BASE, COMPARED, OTHER], standing=standing(BASE, COMPARED, OTHER, hosted="other data"))
    base, hosted, minilm = read_newest(path)
    assert (base, minilm) == (BASE, COMPARED)
    assert hosted.outdated == "other data" and hosted.value == OTHER.value
    assert hosted.verdict is hosted.baseline is hosted.p_value is None


def test_nothing_is_compared_with_a_baseline_that_is_outdated_itself(tmp_path):
    path = tmp_path / "m.duckdb"
    append_metrics(path, [BASE, COMPARED], standing=standing(BASE, COMPARED, bm25="other data"))
    assert [row.verdict for row in read_newest(path)] == [None, None]


def test_a_comparison_of_an_earlier_batch_stands_as_long_as_its_baseline_does(tmp_path):
    path, newer = tmp_path / "m.duckdb", replace(BASE, query_metrics_digest="9" * 64)
    append_metrics(path, [BASE, OTHER], standing=standing(BASE, OTHER))
    append_metrics(path, [BASE], standing=standing(BASE, OTHER))  # hosted, on request, took no part
    assert read_newest(path) == (BASE, OTHER)
    append_metrics(path, [newer], standing=standing(newer, OTHER))
    assert [row.verdict for row in read_newest(path, variant="hosted")] == [None]


def test_the_view_in_the_file_says_the_same_as_the_package(tmp_path):
    path = tmp_path / "m.duckdb"
    append_metrics(path, [BASE, COMPARED, OTHER], standing=standing(BASE, OTHER, hosted="another recipe"))
    with duckdb.connect(str(path), read_only=True) as connection:
        found = connection.execute("SELECT variant, verdict, outdated FROM metrics_newest ORDER BY variant").fetchall()
    assert found == [(row.variant, row.verdict, row.outdated) for row in read_newest(path)]
