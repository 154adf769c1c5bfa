"""Copies of a passage count as if they were not in the corpus: held against the same corpus without them."""

from dataclasses import replace
from pathlib import Path

import pytest

from embed_pipeline.assembly.variant_encoder import describe_search
from embed_pipeline.dataset.formats import RetrievalDataset, build_dataset
from embed_pipeline.evaluation.measures import Measure, QueryMeasure
from embed_pipeline.evaluation.measuring import HITS_FILE, measure_own_queries, measure_split
from embed_pipeline.evaluation.query_metrics import read_hits
from embed_pipeline.evaluation.weighing import weigh_scores
from embed_pipeline.project.recipes import Recipe
from embed_pipeline.records import Judgment, Passage, Query
from embed_pipeline.retrieval.hybrid import HybridWeights
from embed_pipeline.retrieval.search import SecondStage
from embed_pipeline.retrieval.searching import Search, write_search_index
from embed_pipeline_tests.fakes import FakeEncoder
from embed_pipeline_tests.tiny_cross_encoder import FakePairScorer

PAIN, LOAN = "lumbar pain at night", "early repayment of a loan"
TEXTS = {
    "a": PAIN,
    "b": LOAN,
    "p": "lumbar pain at noon",
    "q": "lumbar pain",
    "r": "repayment of a loan",
    "s": "early morning",
    **{f"x{at:02}": f"chapter {at} of a book about ships" for at in range(12)},
}
COPIED = "ab"
ANSWERS = (("q0", "p"), ("q0", "q"), ("q1", "r"), ("q2", "b"))
LANGUAGES = {"a": "en", "p": "en", "q": "en", "b": "fr", "r": "fr"}


def data_set(copies: int, *, judged: str = "", languages: bool = False) -> RetrievalDataset:
    """Each text of COPIED stands under `copies` more ids, and answers on one are judged as `judged` says."""
    texts = TEXTS | {f"{one}{at:04}": TEXTS[one] for one in COPIED for at in range(copies)}

    def attributes(one: str) -> dict[str, str]:
        return {"language": LANGUAGES.get(one[0], "fr")} if languages else {}

    queries = []
    for split in ("test", "validation"):
        for name, text in (("q0", PAIN), ("q1", LOAN), ("q2", f"{LOAN}?")):
            query = Query(f"{split} {name}", text, split)
            queries.append(replace(query, attributes={"language": "en"}) if languages else query)
    passages = [Passage(one, text, attributes=attributes(one)) for one, text in texts.items()]
    judgments = [
        Judgment(query.id, passage + (judged if passage in COPIED else ""), 1)
        for query in queries
        for name, passage in ANSWERS
        if query.id.endswith(name)
    ]
    return build_dataset(queries, passages, judgments)


def search(kind: str, *, index: str = "flat", **changes: object) -> Search:
    sections = {
        "dense": {"encoder": {"model": "m"}, "index": {"kind": index}},
        "bm25": {},
        "tfidf": {},
        "fused": {"fusion": {"dense": "tuned", "depth": 3}},
        "hybrid": {
            "hybrid": {"dense": "tuned", "lexical_weights": [0, 0.5], "part_weights": [0, 1], "depth": 8, **changes}
        },
    }
    recipe = Recipe.model_validate({"description": "x", "retriever": kind, **sections[kind]})
    found = describe_search(recipe, "en", None if kind in ("bm25", "tfidf") else FakeEncoder())
    return replace(found, weights=HybridWeights(1.0, 0.5)) if kind == "hybrid" else found


def reranked(first: Search) -> Search:
    scorer = FakePairScorer({PAIN: 3.0, TEXTS["p"]: 2.0, LOAN: 1.0, TEXTS["r"]: 0.8})
    return replace(first, rerank=SecondStage(top_k=6, keep=5), scorer=scorer)


HNSW = "dense hnsw"
SEARCHES = {
    **{kind: search(kind) for kind in ("dense", "bm25", "tfidf", "fused", "hybrid")},
    **{f"dense {kind}": search("dense", index=kind) for kind in ("hnsw", "sq8")},
    **{f"reranked {kind}": reranked(search(kind)) for kind in ("dense", "bm25", "fused", "hybrid")},
}


def figures(measured: tuple[QueryMeasure, ...]) -> dict[tuple[str, Measure], float]:
    return {(one.query_id, one.measure): one.value for one in measured}


# In HNSW's graph hundreds of equal vectors know each other alone, and no search gets past them.
@pytest.mark.parametrize(
    ("kind", "copies"),
    [(kind, copies) for kind in SEARCHES for copies in (1, 30, 500) if (kind, copies) != (HNSW, 500)],
)
@pytest.mark.parametrize("judged", ["", "0000"])
def test_figures_are_those_of_the_corpus_without_copies(kind: str, copies: int, judged: str) -> None:
    found = figures(measure_split(SEARCHES[kind], data_set(copies, judged=judged), "validation"))
    alone = figures(measure_split(SEARCHES[kind], data_set(0), "validation"))
    assert found == alone
    assert alone["validation q0", Measure("mrr", 10)] == 0.5  # the text that is copied stands above the answer


@pytest.mark.parametrize("kind", ["dense", "dense sq8", "reranked dense"])
def test_all_files_of_an_evaluation_are_those_of_the_corpus_without_copies(kind: str, tmp_path: Path) -> None:
    written = []
    for copies in (0, 40):
        dataset = data_set(copies, languages=True, judged="0000" if copies else "")
        index, out = (tmp_path / f"{part} {copies}" for part in ("index", "out"))
        index.mkdir()
        out.mkdir()
        write_search_index(SEARCHES[kind], dataset.passages, index)
        measure_own_queries(SEARCHES[kind], index, dataset, out, wanted_precision=0.5)
        written.append({path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()})
    assert written[0] == written[1]
    assert {str(path) for path in written[0]} >= {HITS_FILE, "language_pairs/en-en.jsonl", "language_pairs/en-fr.jsonl"}


def test_a_corpus_without_copies_is_searched_once(tmp_path: Path) -> None:
    found, dataset = search("dense"), data_set(0)
    write_search_index(found, dataset.passages, tmp_path)
    assert isinstance(found.encoder, FakeEncoder)
    found.encoder.calls.clear()
    measure_own_queries(found, tmp_path, dataset, tmp_path, wanted_precision=0.5)
    assert found.encoder.calls == [
        query.text for split in ("test", "validation") for query in dataset.queries_of(split)
    ]
    hits = read_hits(tmp_path / HITS_FILE)
    assert {hit.passage_id for hit in hits if hit.query_id == "test q0"} == set(TEXTS)


@pytest.mark.parametrize("copies", [1, 30, 500])
def test_weights_are_chosen_as_on_the_corpus_without_copies(copies: int) -> None:
    found = search("hybrid", classifier_weights=[0], hubness_weights=[0])
    weighed = weigh_scores(found, data_set(copies, judged="0000"), Measure("ndcg", 10))
    alone = weigh_scores(found, data_set(0), Measure("ndcg", 10))
    assert weighed == alone
    assert alone.chosen.value > 0
