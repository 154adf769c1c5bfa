"""Ten nights of one project: quiet ones in processes of their own as the daemon starts them, one drop, one edit."""

import json
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from embed_pipeline.definitions import build_definitions
from embed_pipeline.defs.running import NIGHTLY_TAG
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.small_project import edit_yaml, write_yaml

pytestmark = pytest.mark.slow

FIRST_NIGHT = datetime(2026, 3, 1, 2, 0)
MODEL_LIBRARIES = {"torch", "transformers", "FlagEmbedding", "sentence_transformers", "gensim", "openai"}
VARIANTS = ("bm25", "base", "tuned", "fused")
ALERTED, EDITED = 4, 7
QUIET = ((1, 3), (5, 6), (8, 10))
_ROWS = """
    SELECT batch, dataset || '/' || variant, count(*), count(*) FILTER (before IS DISTINCT FROM index_digest)
    FROM (
        SELECT *, lag(index_digest) OVER (
            PARTITION BY dataset, variant, split, measured_on, slice, measure, cutoff ORDER BY batch
        ) AS before FROM metrics
    ) GROUP BY ALL
"""


def let_pass(root: Path, first: int, last: int) -> Iterator[dict[str, Any]]:
    """Do what the schedule asks for, night by night: the runs, and the libraries of models that are loaded then."""
    project = PipelineProject(root)
    with dg.DagsterInstance.local_temp(str(root / "dagster")) as instance:
        for night in range(first, last + 1):
            definitions = build_definitions(project.pipeline)
            schedule = definitions.resolve_schedule_def("nightly_reevaluation")
            context = dg.build_schedule_context(
                instance=instance,
                scheduled_execution_time=FIRST_NIGHT + timedelta(days=night - 1),
                repository_def=definitions.get_repository_def(),
            )
            (request,) = schedule.evaluate_tick(context).run_requests or []
            job = definitions.resolve_job_def(schedule.job_name)
            result = job.execute_in_process(instance=instance, tags=request.tags, raise_on_error=False)
            own = instance.get_runs(filters=dg.RunsFilter(tags={NIGHTLY_TAG: request.tags[NIGHTLY_TAG]}))
            yield {
                "success": result.success,
                "runs": [" ".join(filter(None, (r.job_name, r.tags.get("dagster/partition")))) for r in reversed(own)],
                "libraries": sorted(MODEL_LIBRARIES & set(sys.modules)),
            }


def _sleep(root: Path, first: int, last: int) -> list[dict[str, Any]]:
    """Nights in a process that has loaded nothing yet; an alert would fail, for nobody listens there."""
    code = (
        "import json, sys; from pathlib import Path; from embed_pipeline_tests.test_nights import let_pass\n"
        "for night in let_pass(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])): print(json.dumps(night))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(root), str(first), str(last)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stderr
    return [json.loads(line) for line in found.stdout.splitlines()]


@pytest.fixture(scope="module")
def told() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook on 127.0.0.1: its address, and what it was told."""
    bodies: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/hook", bodies
        server.shutdown()


@pytest.fixture(scope="module")
def nights(
    finished: PipelineProject, tmp_path_factory: pytest.TempPathFactory, told: tuple[str, list[dict[str, Any]]]
) -> tuple[PipelineProject, dict[int, dict[str, Any]], list[dict[str, int]]]:
    """The project after ten nights, what each night did, and the stored vectors after each day's first nights."""
    root = tmp_path_factory.mktemp("nights") / "project"
    shutil.copytree(finished.root, root)
    project, found, vectors = PipelineProject(root), {}, []
    shutil.rmtree(root / "data" / "bilingual")
    settings = yaml.safe_load((project.dataset / "dataset.yaml").read_text(encoding="utf-8"))
    write_yaml(project.dataset / "dataset.yaml", settings | {"variants": list(VARIANTS)})
    project.run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBED_PIPELINE_ALERT_URL", told[0])
        for (first, last), awake in zip(QUIET, (_train_badly, _add_a_label, None), strict=True):
            found |= dict(zip(range(first, last + 1), _sleep(root, first, last), strict=True))
            vectors.append(project.vectors())
            if awake:
                awake(project)
                found |= {last + 1: next(let_pass(root, last + 1, last + 1))}
                vectors.append(project.vectors())
    return project, found, vectors


def _train_badly(project: PipelineProject) -> None:
    edit_yaml(project.root / "data" / "recipes" / "tuned.yaml", "training", learning_rate=0.5, epochs=1)
    project.execute("finetune_variant", "small/tuned")


def _add_a_label(project: PipelineProject) -> None:
    (project.dataset / "labels.txt").open("a", encoding="utf-8").write("肺炎\n")


def _rows(project: PipelineProject) -> list[tuple[Counter[str], Counter[str]]]:
    """Per night: each variant's rows in its batch, and how many of them stand on another index than before."""
    import duckdb

    with duckdb.connect(str(project.root / "home" / "metrics.duckdb")) as connection:
        rows = connection.execute(_ROWS).fetchall()
    batches = sorted({batch for batch, *_ in rows})[-10:]
    held, changed = ({batch: Counter[str]() for batch in batches} for _ in range(2))
    for batch, variant, count, other in rows:
        if batch in held:
            held[batch][variant] = count
            changed[batch] += Counter({variant: other})
    return [(held[batch], changed[batch]) for batch in batches]


Nights = tuple[PipelineProject, dict[int, dict[str, Any]], list[dict[str, int]]]


def test_every_night_appends_a_batch_and_recomputes_exactly_the_rows_that_the_day_touched(nights: Nights) -> None:
    rows = _rows(nights[0])
    assert len(rows) == 10
    touched = {ALERTED: {"small/tuned", "small/fused"}, EDITED: {f"small/{name}" for name in VARIANTS}}
    for night, (held, changed) in enumerate(rows, start=1):
        assert set(held) == {"general/bm25", *(f"small/{name}" for name in VARIANTS)}
        assert changed == {variant: held[variant] for variant in touched.get(night, ())}


def test_a_quiet_night_is_one_publication_and_loads_no_model(nights: Nights) -> None:
    found = nights[1]
    assert all(night["success"] for night in found.values())
    for night in set(found) - {ALERTED, EDITED}:
        assert found[night]["runs"] == ["reevaluate", "publish_metrics"]
        assert found[night]["libraries"] == []


def test_a_night_reads_the_files_itself_trains_nothing_and_encodes_only_what_is_new(nights: Nights) -> None:
    _, found, vectors = nights
    evaluated = [f"evaluate_variant small/{name}" for name in VARIANTS]
    prepared = ["reevaluate", "read_workbooks small", "prepare_dataset small"]
    assert found[EDITED]["runs"] == [*prepared, *evaluated, "publish_metrics"]
    assert "torch" in found[EDITED]["libraries"]  # else the quiet nights prove nothing
    before, after = vectors[2:4]
    # The added label, once for the base weights and once for the tuned ones.
    assert sorted(after[name] - before.get(name, 0) for name in after if after[name] != before.get(name)) == [1, 1]
    assert [vectors[at] for at in (0, 2, 4)] == [vectors[0], vectors[1], vectors[3]]


def test_of_ten_nights_one_alerts_and_names_what_got_worse(
    nights: Nights, told: tuple[str, list[dict[str, Any]]]
) -> None:
    (alert,) = told[1]
    assert {drop["variant"] for drop in alert["drops"]} <= {"small/tuned", "small/fused"}
    assert "small/tuned" in alert["text"] and all(drop["after"] < drop["before"] for drop in alert["drops"])
    with dg.DagsterInstance.local_temp(str(nights[0].root / "dagster")) as instance:
        key = dg.AssetCheckKey(dg.AssetKey("metrics_table"), "no_variant_got_worse")
        history = instance.event_log_storage.get_asset_check_execution_history(key, limit=10)
        events = [record.event.dagster_event for record in reversed(history) if record.event]
    states = [event.asset_check_evaluation_data.passed for event in events if event]
    assert states == [night != ALERTED for night in range(1, 11)]
