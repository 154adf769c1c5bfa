"""Hubness: held against a loop over all questions and passages, taken off a hybrid's score, weighed on validation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embed_pipeline.dataset.formats import RetrievalDataset, build_dataset
from embed_pipeline.evaluation.measures import Measure, measure_queries
from embed_pipeline.evaluation.weighing import weigh, weigh_scores
from embed_pipeline.records import Judgment, Passage, Query
from embed_pipeline.retrieval import hubness
from embed_pipeline.retrieval.faiss_index import IndexSettings, PassageIndex, build_index
from embed_pipeline.retrieval.hubness import measure_hubness, read_hubness
from embed_pipeline.retrieval.hybrid import (
    CandidateScores,
    HybridRetriever,
    HybridSettings,
    HybridWeights,
    rank_candidates,
    read_weighing,
    write_weighing,
)
from embed_pipeline.retrieval.searching import Search, open_hybrid, write_search_index
from embed_pipeline_tests.fakes import FakeEncoder

WORDS = ("fever", "cough", "gout", "asthma", "eczema", "sleep", "bone", "eye", "liver", "thyroid")
HUB = Passage("hub", "".join(WORDS))  # shares letters with every question, and answers none


def dataset(train: int = 60) -> RetrievalDataset:
    """Questions about one of ten passages each; the validation questions' answers compete with the hub."""
    passages = [Passage(word, f"{word} {word[::-1]}") for word in WORDS]
    queries = [Query(f"t{at:03}", f"{WORDS[at % 10]} number {at} please", "train") for at in range(train)]
    queries += [Query(f"v{at}", f"{word} and some words", "validation") for at, word in enumerate(WORDS)]
    judgments = [Judgment(query.id, query.text.split()[0]) for query in queries]
    return build_dataset(queries, [*passages, HUB], [*judgments, Judgment("t000", "cough", 0)])


def index_of(whole: RetrievalDataset, encoder: FakeEncoder) -> PassageIndex:
    vectors = encoder.encode_passages([passage.text for passage in whole.passages])
    return build_index([p.id for p in whole.passages], vectors, encoder_fingerprint=encoder.fingerprint)


def by_hand(whole: RetrievalDataset, encoder: FakeEncoder) -> list[float]:
    asked = whole.queries_of("train")
    questions = encoder.encode_queries([query.text for query in asked])
    answers = {(judgment.query_id, judgment.passage_id) for judgment in whole.judgments if judgment.grade > 0}
    found = []
    for passage in whole.passages:
        (vector,) = encoder.encode_passages([passage.text])
        others = [
            float(vector @ question)
            for query, question in zip(asked, questions, strict=True)
            if (query.id, passage.id) not in answers
        ]
        found.append(float(np.mean(sorted(others)[-6:])))  # a tenth of sixty
    return found


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_it_is_the_mean_cosine_to_the_nearest_questions_that_a_passage_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(hubness, "_PASSAGES_AT_ONCE", at_once)
    whole, encoder = dataset(), FakeEncoder()
    found = measure_hubness(index_of(whole, encoder), whole, encoder)
    assert found is not None and found.dtype == np.float32
    assert found.tolist() == pytest.approx(by_hand(whole, encoder), abs=1e-5)
    assert [p.id for p in whole.passages][int(found.argmax())] == "hub"


def test_a_passage_that_answers_every_question_has_the_mean_of_all() -> None:
    whole, encoder = dataset(), FakeEncoder()
    answers = [Judgment(query.id, "gout") for query in whole.queries_of("train")]
    of_all = build_dataset(whole.queries, whole.passages, answers)
    found = measure_hubness(index_of(whole, encoder), of_all, encoder)
    nothing = measure_hubness(index_of(whole, encoder), build_dataset(whole.queries, whole.passages, []), encoder)
    assert found is not None and nothing is not None
    assert np.array_equal(found, nothing)


def test_of_many_questions_a_draw_is_encoded_and_of_few_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubness, "QUESTIONS", 55)
    whole, encoder = dataset(80), FakeEncoder()
    index = index_of(whole, encoder)
    encoder.calls.clear()
    assert measure_hubness(index, whole, encoder) is not None
    assert len(encoder.calls) == 55 and not any("some words" in text for text in encoder.calls)
    encoder.calls.clear()
    few = dataset(hubness.FEWEST_QUESTIONS - 1)
    assert measure_hubness(index, few, encoder) is None and not encoder.calls


def hybrid(folder: Path, weights: HybridWeights, encoder: FakeEncoder, **changes: object) -> HybridRetriever:
    settings = HybridSettings.model_validate({"dense": "x", "classifier_weights": (0,), **changes})
    search = Search("hybrid", "en", encoder, hybrid=settings)
    write_search_index(search, dataset().passages, folder, questions=dataset())
    return open_hybrid(search, folder, weights)


def test_a_hybrid_takes_it_off_the_score_of_every_candidate(tmp_path: Path) -> None:
    encoder, asked = FakeEncoder(), dataset().queries_of("validation")
    retriever = hybrid(tmp_path, HybridWeights(0, 0, 0, 0.75), encoder)
    alone = replace(retriever, weights=HybridWeights(0, 0))
    of = dict(zip(retriever.index.passage_ids, by_hand(dataset(), encoder), strict=True))
    before = {(hit.query_id, hit.passage_id): hit.score for hit in alone.search(asked, 11)}
    after = {(hit.query_id, hit.passage_id): hit.score for hit in retriever.search(asked, 11)}
    assert after == pytest.approx({key: score - 0.75 * of[key[1]] for key, score in before.items()}, abs=1e-4)

    def hubs(found: HybridRetriever) -> int:
        return sum(hit.passage_id == "hub" for hit in found.search(asked, 2))

    assert hubs(retriever) < hubs(alone)


@pytest.mark.parametrize("kind", ["hnsw", "sq8", "ivf_sq8"])
def test_every_kind_of_index_has_it_from_the_vectors_it_holds(tmp_path: Path, kind: str) -> None:
    chance, encoder = np.random.default_rng(0), FakeEncoder()
    passages = [Passage(f"p{at:03}", "".join(chr(97 + of) for of in chance.integers(26, size=12))) for at in range(300)]
    queries = [Query(f"q{at:02}", f"{passages[at].text[:8]} x", "train") for at in range(60)]
    whole = build_dataset(queries, passages, [Judgment(query.id, f"p{at:03}") for at, query in enumerate(queries)])
    settings = HybridSettings(dense="x", classifier_weights=(0,))
    search = Search("hybrid", "en", encoder, hybrid=settings, index=IndexSettings(kind=kind))
    write_search_index(search, passages, tmp_path, questions=whole)
    found = open_hybrid(search, tmp_path, HybridWeights(0, 0)).hubness
    exact = measure_hubness(index_of(whole, encoder), whole, encoder)
    assert found is not None and exact is not None
    assert found == pytest.approx(exact, abs=0.01)


def test_0_alone_encodes_no_train_question_and_keeps_nothing(tmp_path: Path) -> None:
    encoder = FakeEncoder()
    retriever = hybrid(tmp_path, HybridWeights(0, 0), encoder, hubness_weights=(0,))
    assert retriever.hubness is None and not any("number" in text for text in encoder.calls)


def test_its_weight_is_chosen_on_validation_and_read_again(tmp_path: Path) -> None:
    settings = HybridSettings(dense="x", part_weights=(0,), lexical_weights=(0,), classifier_weights=(0,))
    search = Search("hybrid", "en", FakeEncoder(8), hybrid=settings)
    found = weigh_scores(search, dataset(), Measure("mrr", 10))
    assert [point.hubness for point in found.points] == [0.0, 0.5, 0.75]
    assert found.chosen.value == max(point.value for point in found.points) > found.points[0].value
    write_weighing(found, tmp_path)
    assert read_weighing(tmp_path) == found
    written = (tmp_path / "hybrid_weights.json").read_text(encoding="utf-8")
    older = "\n".join(line for line in written.splitlines() if '"hubness"' not in line)
    (tmp_path / "hybrid_weights.json").write_text(older, encoding="utf-8")
    assert read_weighing(tmp_path).weights == replace(found.weights, hubness=0.0)  # of a version without it


def test_a_file_of_other_passages_is_refused(tmp_path: Path) -> None:
    hybrid(tmp_path, HybridWeights(0, 0), FakeEncoder())
    assert read_hubness(tmp_path / "nothing", []) is None
    with pytest.raises(ValueError, match=r"hubness\.npy: expected 2 numbers, found \(11,\)\. Build the index again"):
        read_hubness(tmp_path, ["a", "b"])


@pytest.mark.parametrize("doubles", [False, True])
def test_a_sweep_measures_what_each_set_of_weights_would_find_alone(doubles: bool) -> None:
    """With scores of one decimal, so that many tie, and passages of equal text, of which the first counts."""
    chance = np.random.default_rng(0)
    passages = [Passage(f"p{at:02}", f"text {at % 7 if doubles else at}") for at in range(20)]
    queries = [Query(f"q{at}", f"question {at}", "validation") for at in range(15)]
    judgments = [Judgment(query.id, f"p{at:02}") for query in queries for at in chance.choice(7, 2, replace=False)]
    whole = build_dataset(queries, passages, judgments)
    scored = []
    for query in queries:
        ids = tuple(f"p{at:02}" for at in chance.permutation(20)[:17])
        scored.append(CandidateScores(query.id, ids, *chance.random((5, 17)).round(1)))
    headline = Measure("precise", 5)
    found = weigh(scored, whole, headline, HybridSettings(dense="x"))
    assert len(found.points) == 5 * 8 * 6 * 3
    canonical = {f"p{at:02}": f"p{at % 7:02}" for at in range(7, 20)} if doubles else {}
    for point in found.points[::41]:
        hits = rank_candidates(scored, point.weights, 20).hits()
        values = measure_queries(hits, judgments, [q.id for q in queries], measures=[headline], canonical=canonical)
        assert point.value == np.mean([one.value for one in values])
