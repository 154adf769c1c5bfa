"""A classifier over train questions: fitted against a solution by hand, alone and beside the other scores."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embed_pipeline.dataset.formats import RetrievalDataset, build_dataset
from embed_pipeline.evaluation.measures import Measure
from embed_pipeline.evaluation.weighing import weigh_scores
from embed_pipeline.records import Judgment, Passage, Query
from embed_pipeline.retrieval import classifier
from embed_pipeline.retrieval.classifier import (
    ClassifierRetriever,
    ClassifierSettings,
    classifier_scores,
    fit_classifier,
    is_learnable,
    read_classifier,
    write_classifier,
)
from embed_pipeline.retrieval.hybrid import ALL_SCORES, HybridRetriever, HybridSettings, HybridWeights
from embed_pipeline.retrieval.searching import Search, open_hybrid, open_retriever, write_search_index
from embed_pipeline.retrieval.tfidf import tfidf_scores
from embed_pipeline_tests.fakes import FakeEncoder

LABELS = {"gout": "痛风", "fatty_liver": "脂肪肝", "asthma": "哮喘", "unasked": "白内障"}
ASKED = {
    "train": [
        ("脚趾半夜疼得厉害", ["gout"]),
        ("大脚趾红肿疼", ["gout"]),
        ("脚趾疼,一跑步就喘", ["gout", "asthma"]),
        ("一跑就喘", ["asthma"]),
        ("夜里喘不过气", ["asthma"]),
        ("肝上有脂肪", ["fatty_liver"]),
        ("B超说肝脂肪多", ["fatty_liver"]),
    ],
    "validation": [("昨晚脚趾疼", ["gout"]), ("跑完喘", ["asthma"])],
    "test": [("脚趾又疼了", ["gout"]), ("上楼就喘", ["asthma"]), ("肝脂肪", ["fatty_liver"])],
}


def dataset() -> RetrievalDataset:
    queries, judgments = [], []
    for split, asked in ASKED.items():
        for text, answers in asked:
            query = Query(f"q{len(queries):02d}", text, split)
            queries.append(query)
            judgments += [Judgment(query.id, answer) for answer in answers]
    return build_dataset(queries, [Passage(name, text) for name, text in LABELS.items()], judgments)


def test_the_scores_are_those_of_a_ridge_regression_over_the_questions_n_grams() -> None:
    whole, settings = dataset(), ClassifierSettings(penalty=0.3)
    index = fit_classifier(whole, settings)
    train = whole.queries_of("train")
    assert index.questions.passage_ids == tuple(query.id for query in train)
    assert index.passage_ids == ("asthma", "fatty_liver", "gout")
    kernel = tfidf_scores(index.questions, [query.text for query in train]).toarray()
    truth = np.array([[float(label in whole.relevant()[q.id]) for label in index.passage_ids] for q in train])
    by_hand = np.linalg.solve(kernel + 0.3 * np.eye(len(train)), truth)
    tested = [query.text for query in whole.queries_of("test")]
    expected = tfidf_scores(index.questions, tested).toarray() @ by_hand
    np.testing.assert_allclose(classifier_scores(index, tested), expected, atol=1e-6)


def test_it_finds_labels_by_what_people_said_and_none_that_nobody_asked_about() -> None:
    whole = dataset()
    hits = ClassifierRetriever(fit_classifier(whole, ClassifierSettings())).search(whole.queries_of("test"), 5)
    first = {hit.query_id: hit.passage_id for hit in hits if hit.rank == 1}
    assert [first[query.id] for query in whole.queries_of("test")] == ["gout", "asthma", "fatty_liver"]
    assert "unasked" not in {hit.passage_id for hit in hits}


def test_validation_and_test_questions_teach_nothing() -> None:
    whole = dataset()
    train = {query.id for query in whole.queries_of("train")}
    alone = build_dataset(
        whole.queries_of("train"), whole.passages, [one for one in whole.judgments if one.query_id in train]
    )
    assert np.array_equal(
        fit_classifier(whole, ClassifierSettings()).coefficients,
        fit_classifier(alone, ClassifierSettings()).coefficients,
    )


@pytest.mark.parametrize("vectors", [False, True])
def test_what_is_written_is_read_again(tmp_path: Path, vectors: bool) -> None:
    encoder = FakeEncoder()
    index = fit_classifier(dataset(), ClassifierSettings(vectors=vectors), encoder)
    assert (index.vectors is not None) == vectors
    write_classifier(index, tmp_path)
    again, texts = read_classifier(tmp_path), ["脚趾疼", "喘"]
    asked = encoder.encode_queries(texts) if vectors else None
    assert np.array_equal(classifier_scores(index, texts, asked), classifier_scores(again, texts, asked))


def test_questions_of_which_each_has_an_answer_of_its_own_teach_nothing() -> None:
    queries = [Query(f"q{at}", f"question {at}", "train") for at in range(4)]
    passages = [Passage(f"p{at}", f"answer {at}") for at in range(4)]
    apart = build_dataset(queries, passages, [Judgment(f"q{at}", f"p{at}") for at in range(4)])
    assert not is_learnable(apart) and is_learnable(dataset())
    with pytest.raises(ValueError, match=r"found 4 answers among 4 passages\. Use retriever tfidf or dense"):
        fit_classifier(apart, ClassifierSettings())


def test_of_very_many_questions_a_draw_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "MAX_QUESTIONS", 5)
    monkeypatch.setattr(classifier, "MAX_COEFFICIENTS", 10)
    index = fit_classifier(dataset(), ClassifierSettings())
    assert index.coefficients.shape == (5, 2) == (len(index.questions.passage_ids), len(index.passage_ids))


def hybrid(tmp_path: Path, settings: HybridSettings, encoder: FakeEncoder) -> HybridRetriever:
    search = Search("hybrid", "zh", encoder, hybrid=settings)
    write_search_index(search, dataset().passages, tmp_path, questions=dataset())
    return open_hybrid(search, tmp_path, HybridWeights(0, 0, 1.0))


@pytest.mark.parametrize("vectors", [False, True])
def test_beside_vectors_its_score_is_added_with_its_weight(tmp_path: Path, vectors: bool) -> None:
    encoder, whole = FakeEncoder(), dataset()
    retriever = hybrid(tmp_path, HybridSettings(dense="x", classifier=ClassifierSettings(vectors=vectors)), encoder)
    tested = whole.queries_of("test")
    index = fit_classifier(whole, ClassifierSettings(vectors=vectors), encoder)
    texts = [query.text for query in tested]
    expected = classifier_scores(index, texts, encoder.encode_queries(texts))
    for query, row, scored in zip(tested, expected, retriever.score(tested, 10, ALL_SCORES), strict=True):
        assert scored.query_id == query.id and scored.passage_ids == tuple(sorted(LABELS))
        of = dict(zip(scored.passage_ids, scored.classifier.tolist(), strict=True))
        assert of == pytest.approx({"unasked": 0.0} | dict(zip(index.passage_ids, row.tolist(), strict=True)))
    without = replace(retriever, weights=HybridWeights(0, 0, 0))
    alone = replace(without, classifier=None)
    assert without.search(tested, 3) == alone.search(tested, 3) != retriever.search(tested, 3)


def test_a_label_that_only_the_classifier_finds_is_a_candidate(tmp_path: Path) -> None:
    retriever = hybrid(tmp_path, HybridSettings(dense="x", depth=1), FakeEncoder())
    query = next(query for query in dataset().queries_of("test") if query.text == "上楼就喘")
    (scored,) = retriever.score([query], 1)
    assert "asthma" in scored.passage_ids and len(scored.passage_ids) < len(LABELS)


def test_the_weight_is_chosen_on_validation_and_0_alone_fits_none(tmp_path: Path) -> None:
    settings = HybridSettings(dense="x", part_weights=(0,), lexical_weights=(0,), classifier_weights=(0, 2))
    found = weigh_scores(Search("hybrid", "zh", FakeEncoder(), hybrid=settings), dataset(), Measure("recall", 1))
    assert [point.classifier for point in found.points] == [0, 2] and found.weights == HybridWeights(0, 0, 2)
    assert found.chosen.value == 1.0
    off = settings.model_copy(update={"classifier_weights": (0.0,)})
    assert hybrid(tmp_path, off, FakeEncoder()).classifier is None


def test_as_a_retriever_it_is_opened_from_its_index(tmp_path: Path) -> None:
    search = Search("classifier", "zh", None)
    found = write_search_index(search, dataset().passages, tmp_path, questions=dataset())
    assert found == {"passages": 4, "kind": "classifier", "train_questions": 7, "learnt": 3}
    hits = open_retriever(search, tmp_path).search(dataset().queries_of("test"), 1)
    assert [hit.passage_id for hit in hits] == ["gout", "asthma", "fatty_liver"]
