"""mteb measures what we measure: each type of task against another implementation, and no network at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from embed_pipeline.dataset.formats import RetrievalDataset, build_dataset
from embed_pipeline.evaluation.measures import Measure, measure_queries, parse_measure
from embed_pipeline.evaluation.mteb_folder import read_local_task, read_local_tasks
from embed_pipeline.evaluation.mteb_run import TaskScore, measure_variant, run_tasks
from embed_pipeline.evaluation.mteb_tasks import MtebEncoder, language_code, retrieval_task
from embed_pipeline.records import Judgment, Passage, Query
from embed_pipeline.retrieval.faiss_index import build_index
from embed_pipeline.retrieval.search import DenseRetriever
from embed_pipeline_tests.evaluation.mteb_data import TYPES, random_dataset, write_task
from embed_pipeline_tests.fakes import FakeEncoder

ROOT = Path(__file__).parents[2]
MEASURES = {
    "ndcg_at_10": "ndcg@10",
    "mrr_at_10": "mrr@10",
    "recall_at_5": "recall@5",
    "recall_at_10": "recall@10",
    "map_at_10": "map@10",
    "precision_at_3": "precision@3",
    "hit_rate_at_5": "hit_rate@5",
}


def _run(encoder: FakeEncoder, *tasks, cache: Path) -> tuple[TaskScore, ...]:
    return run_tasks(encoder, tasks, cache_directory=cache, variant="small", show_progress=False)


def _our_means(encoder: FakeEncoder, dataset: RetrievalDataset) -> dict[Measure, float]:
    vectors = encoder.encode_passages([passage.text for passage in dataset.passages])
    ids = [passage.id for passage in dataset.passages]
    index = build_index(ids, vectors, encoder_fingerprint=encoder.fingerprint)
    queries = dataset.queries_of("test")
    hits = DenseRetriever(index, encoder).search(queries, 20)
    measures = [parse_measure(text) for text in MEASURES.values()]
    values = measure_queries(hits, dataset.judgments, [query.id for query in queries], measures=measures)
    return {measure: float(np.mean([v.value for v in values if v.measure == measure])) for measure in measures}


@pytest.mark.parametrize("instruction", ["", "find: "])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_data_set_scores_in_mteb_what_our_measures_say(tmp_path: Path, seed: int, instruction: str) -> None:
    encoder, dataset = FakeEncoder(query_instruction=instruction), random_dataset(seed)
    (score,) = measure_variant(
        encoder, dataset, name="small", variant="v", cache_directory=tmp_path, show_progress=False
    )
    ours = _our_means(encoder, dataset)
    assert 0.05 < score.value < 0.95
    assert score.value == score.scores["ndcg_at_10"]
    for theirs, measure in MEASURES.items():
        assert score.scores[theirs] == pytest.approx(ours[parse_measure(measure)], abs=1e-5), theirs


def test_a_grade_counts_in_ndcg(tmp_path: Path) -> None:
    encoder, dataset = FakeEncoder(), random_dataset()
    binary = build_dataset(
        dataset.queries,
        dataset.passages,
        [Judgment(j.query_id, j.passage_id, min(j.grade, 1)) for j in dataset.judgments],
    )
    graded, flat = (
        _run(encoder, retrieval_task(each, "small"), cache=tmp_path / str(number))[0]
        for number, each in enumerate((dataset, binary))
    )
    assert graded.scores["ndcg_at_10"] != flat.scores["ndcg_at_10"]
    assert graded.scores["recall_at_10"] == flat.scores["recall_at_10"]


def test_a_reranking_task_ranks_the_candidates_alone(tmp_path: Path) -> None:
    folder = write_task(tmp_path / "task", "reranking")
    encoder, dataset = FakeEncoder(), random_dataset()
    (score,) = _run(encoder, read_local_task(folder), cache=tmp_path / "cache")
    lists = [json.loads(line) for line in (folder / "top_ranked.jsonl").read_text().splitlines()]
    texts = {passage.id: passage.text for passage in dataset.passages}
    gains = []
    for query, candidates in zip(dataset.queries, [item["corpus-ids"] for item in lists], strict=True):
        assert lists[len(gains)]["query-id"] == query.id
        scores = encoder.encode_passages([texts[id] for id in candidates]) @ encoder.encode_queries([query.text])[0]
        grades = np.array([dataset.relevant()[query.id].get(candidates[at], 0) for at in np.argsort(-scores)])
        discounts = 1 / np.log2(np.arange(2, len(grades) + 2))
        gains.append((grades * discounts)[:10].sum() / (np.sort(grades)[::-1] * discounts)[:10].sum())
    assert score.scores["ndcg_at_10"] == pytest.approx(np.mean(gains), abs=1e-5)
    assert score.main_score_name == "map_at_1000"


def test_pairs_are_scored_by_the_inner_product_of_passages(tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    for type in ("pair_classification", "sts"):
        write_task(folder / type, type)
    encoder = FakeEncoder(query_instruction="find: ")
    pairs, sts = _run(encoder, *read_local_tasks(folder), cache=tmp_path / "cache")
    for score, field in ((pairs, "labels"), (sts, "score")):
        rows = [json.loads(line) for line in (folder / _type(score) / "test.jsonl").read_text().splitlines()]
        first, second = (encoder.encode_passages([row[name] for row in rows]) for name in ("sentence1", "sentence2"))
        similarity, answer = (first * second).sum(axis=1), [row[field] for row in rows]
        if field == "labels":
            assert score.scores["dot_ap"] == pytest.approx(average_precision_score(answer, similarity), abs=1e-5)
            assert score.value == score.scores["max_ap"] > 0.7
        else:
            assert score.value == pytest.approx(spearmanr(answer, similarity)[0], abs=1e-5)


def test_planted_classes_are_found(tmp_path: Path) -> None:
    tasks = [read_local_task(write_task(tmp_path / type, type)) for type in ("classification", "clustering")]
    assert [(s.main_score_name, s.value) for s in _run(FakeEncoder(), *tasks, cache=tmp_path / "cache")] == [
        ("accuracy", 1.0),
        ("v_measure", 1.0),
    ]


def test_a_query_without_a_relevant_passage_is_not_asked(tmp_path: Path) -> None:
    dataset = random_dataset()
    more = build_dataset(
        [*dataset.queries, Query("unjudged", "abc", "test"), Query("refused", "abc", "test"), Query("x", "x", "train")],
        dataset.passages,
        [*dataset.judgments, Judgment("refused", "p000", 0), Judgment("x", "p000", 1)],
    )
    tasks = retrieval_task(dataset, "small"), retrieval_task(more, "small")
    assert tasks[0].metadata.revision == tasks[1].metadata.revision
    with pytest.raises(ValueError, match="relevant passage in the split validation, found none"):
        retrieval_task(dataset, "small", split="validation")


def test_a_task_has_the_languages_that_its_records_name() -> None:
    language = {"language": "zh"}
    dataset = build_dataset([Query("q", "x", "test")], [Passage("p", "y", language)], [Judgment("q", "p")])
    assert retrieval_task(dataset, "small").metadata.eval_langs == ["zho-Hans"]
    assert retrieval_task(random_dataset(), "small").metadata.eval_langs == ["und-Zyyy"]
    assert {language_code(code) for code in ("en", "eng", "eng-Latn")} == {"eng-Latn"}
    with pytest.raises(ValueError, match="found 'klingon'"):
        language_code("klingon")


def test_the_model_is_named_after_the_variant_and_versioned_by_its_weights() -> None:
    from mteb.models.models_protocols import EncoderProtocol

    encoder = FakeEncoder(dimension=8)
    model = MtebEncoder(encoder, "tuned", max_tokens=512)
    meta = model.mteb_model_meta
    assert isinstance(model, EncoderProtocol)
    assert (meta.name, meta.revision) == ("embed-pipeline/tuned", encoder.fingerprint)
    assert (meta.embed_dim, meta.max_tokens, meta.n_parameters, meta.license) == (8, 512, None, None)
    with pytest.raises(ValueError, match="name of a variant"):
        MtebEncoder(encoder, " ")


def test_every_type_runs_without_a_network_and_writes_nothing_at_home(tmp_path: Path) -> None:
    """A process that may not connect or look up a host, with another home."""
    for type in TYPES:
        write_task(tmp_path / "tasks" / type, type)
    home = tmp_path / "home"
    home.mkdir()
    code = """
import sys
from pathlib import Path

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        raise RuntimeError(f"{event} {arguments}")

sys.addaudithook(refuse)
from embed_pipeline.evaluation.mteb_folder import read_local_tasks
from embed_pipeline.evaluation.mteb_run import run_tasks
from embed_pipeline_tests.fakes import FakeEncoder

tasks = read_local_tasks(Path(sys.argv[1]) / "tasks")
for score in run_tasks(FakeEncoder(), tasks, cache_directory=Path(sys.argv[1]) / "cache", variant="small"):
    print(score.task, score.value)
"""
    environment = os.environ | {"HOME": str(home), "HF_HUB_OFFLINE": "1", "HTTPS_PROXY": "http://127.0.0.1:9"}
    for name in ("MTEB_CACHE", "HF_HOME", "HF_DATASETS_CACHE", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert [line.split()[0] for line in run.stdout.splitlines()] == sorted(f"small-{type}" for type in TYPES)
    assert "Evaluating task" in run.stderr
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_a_missing_mteb_names_the_extra() -> None:
    code = """
import sys
sys.modules["mteb"] = None
from pathlib import Path
from embed_pipeline.evaluation.mteb_folder import read_local_task
try:
    read_local_task(Path("nowhere"))
except ValueError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "pip install 'embed-pipeline[mteb]'" in run.stdout


def _type(score: TaskScore) -> str:
    return score.task.removeprefix("small-")
