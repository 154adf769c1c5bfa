"""A cached score belongs to the content of the weights and of the data, and to nothing else."""

from pathlib import Path

import pytest

from embed_pipeline.evaluation.mteb_folder import read_local_task
from embed_pipeline.evaluation.mteb_run import TaskScore, run_tasks
from embed_pipeline.evaluation.mteb_tasks import retrieval_task
from embed_pipeline_tests.evaluation.mteb_data import TYPES, random_dataset, write_task
from embed_pipeline_tests.fakes import FakeEncoder


def _run(encoder: FakeEncoder, *tasks, cache: Path, variant: str = "small") -> tuple[TaskScore, ...]:
    return run_tasks(encoder, tasks, cache_directory=cache, variant=variant, show_progress=False)


def _tasks(folder: Path, *types: str, seed: int = 0) -> list:
    return [read_local_task(write_task(folder / type, type, seed=seed)) for type in types]


def test_a_second_run_and_a_renamed_variant_are_served_without_encoding(tmp_path: Path) -> None:
    first, later = FakeEncoder(), FakeEncoder()
    measured = _run(first, *_tasks(tmp_path, *TYPES), cache=tmp_path / "cache")
    assert first.calls
    assert _run(later, *_tasks(tmp_path, *TYPES), cache=tmp_path / "cache") == measured
    assert _run(later, *_tasks(tmp_path, *TYPES), cache=tmp_path / "cache", variant="renamed") == measured
    assert later.calls == []


@pytest.mark.parametrize(
    "changed", [FakeEncoder(weights="retrained"), FakeEncoder(query_instruction="q: ")], ids=["weights", "instruction"]
)
def test_other_weights_under_the_same_name_are_never_served_a_stale_score(tmp_path: Path, changed: FakeEncoder) -> None:
    tasks = _tasks(tmp_path, "retrieval", "reranking")
    stale = _run(FakeEncoder(), *tasks, cache=tmp_path / "cache")
    found = _run(changed, *tasks, cache=tmp_path / "cache")
    assert found == _run(changed, *tasks, cache=tmp_path / "empty")
    assert found[0] != stale[0]
    assert _run(FakeEncoder(), *tasks, cache=tmp_path / "cache") == stale


def test_other_data_under_the_same_name_is_never_served_a_stale_score(tmp_path: Path) -> None:
    old, new = (_tasks(tmp_path / str(seed), "retrieval", "sts", seed=seed) for seed in (0, 1))
    stale = _run(FakeEncoder(), *old, cache=tmp_path / "cache")
    found = _run(FakeEncoder(), *new, cache=tmp_path / "cache")
    assert [score.task for score in found] == [score.task for score in stale]
    assert found == _run(FakeEncoder(), *new, cache=tmp_path / "empty")
    assert found[0] != stale[0]


def test_another_main_score_is_not_served_the_old_one(tmp_path: Path) -> None:
    encoder = FakeEncoder()
    (before,) = _run(encoder, read_local_task(write_task(tmp_path / "task", "retrieval")), cache=tmp_path)
    task = read_local_task(write_task(tmp_path / "task", "retrieval", main_score="recall_at_5"))
    (after,) = _run(encoder, task, cache=tmp_path)
    assert (after.main_score_name, after.value) == ("recall_at_5", before.scores["recall_at_5"])


def test_a_score_does_not_depend_on_who_was_measured_before(tmp_path: Path) -> None:
    task = read_local_task(write_task(tmp_path / "task", "clustering"))
    _run(FakeEncoder(weights="other"), task, cache=tmp_path / "one")
    after = _run(FakeEncoder(dimension=2), task, cache=tmp_path / "one")
    alone = _run(
        FakeEncoder(dimension=2), read_local_task(write_task(tmp_path / "task", "clustering")), cache=tmp_path / "two"
    )
    assert after == alone
    assert 0 < after[0].value < 1


@pytest.mark.parametrize("damage", ["", '{"task_name": "small', "{}"])
def test_a_damaged_score_is_measured_again(tmp_path: Path, damage: str) -> None:
    task = retrieval_task(random_dataset(), "small")
    measured = _run(FakeEncoder(), task, cache=tmp_path)
    (file,) = tmp_path.rglob("small.json")
    file.write_text(damage, encoding="utf-8")
    assert _run(FakeEncoder(), task, cache=tmp_path) == measured


def test_a_score_of_another_mteb_is_measured_again(tmp_path: Path) -> None:
    import mteb

    task = retrieval_task(random_dataset(), "small")
    measured = _run(FakeEncoder(), task, cache=tmp_path)
    (file,) = tmp_path.rglob("small.json")
    file.write_text(file.read_text(encoding="utf-8").replace(mteb.__version__, "2.20.0"), encoding="utf-8")
    encoder = FakeEncoder()
    assert _run(encoder, task, cache=tmp_path) == measured
    assert encoder.calls


def test_mteb_reads_the_cache_itself(tmp_path: Path) -> None:
    from mteb.cache import ResultCache

    encoder = FakeEncoder()
    (score,) = _run(encoder, retrieval_task(random_dataset(), "small"), cache=tmp_path, variant="tuned")
    (model,) = ResultCache(tmp_path).load_results(require_model_meta=False).model_results
    assert (model.model_name, model.model_revision) == ("embed-pipeline/tuned", encoder.fingerprint)
    assert model.task_results[0].get_score() == score.value


def test_two_tasks_of_one_name_are_refused(tmp_path: Path) -> None:
    tasks = [retrieval_task(random_dataset(seed), "small") for seed in (0, 1)]
    with pytest.raises(ValueError, match="small twice"):
        _run(FakeEncoder(), *tasks, cache=tmp_path)
    assert _run(FakeEncoder(), cache=tmp_path) == ()
