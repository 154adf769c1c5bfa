"""Laws of several miners and of a reranker: whose turn it is, whose scores count, and that order moves nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from embed_pipeline.encoding.pair_scores import CachedPairScorer, PairScorer
from embed_pipeline.encoding.vector_cache import VectorCache
from embed_pipeline.mining.candidates import MiningCorpus, encode_to_file
from embed_pipeline.mining.groups import TrainingGroup, read_groups, write_groups
from embed_pipeline.mining.negatives import MinedNegatives, mine
from embed_pipeline.mining.report import report_mined
from embed_pipeline.mining.settings import MiningSettings
from embed_pipeline.records import Judgment, Passage, Query
from embed_pipeline.retrieval.lexical import LexicalSettings
from embed_pipeline_tests.fakes import FakeEncoder
from embed_pipeline_tests.tiny_cross_encoder import FakePairScorer

ENGLISH = LexicalSettings(language="en")
BOTH = MiningSettings(range_end=6, number=4, margin_relative=None, miners=("dense", "bm25"))
RERANKED = MiningSettings.model_validate(
    {"range_end": 6, "number": 3, "margin_relative": None, "reranker": {"model": "x", "activation": "none"}}
)


class Case:
    """Queries about animals; vectors say one thing, words another."""

    def __init__(self) -> None:
        self.queries = [
            Query("q0", "big red dog barks", "train"),
            Query("q1", "small green bird sings", "train"),
            Query("q2", "red bird", "train"),
        ]
        names = [f"{size} {colour} {animal}" for size in ("big", "small") for colour in ("red", "green", "blue")
                 for animal in ("dog", "bird", "cat")]  # fmt: skip
        self.passages = [Passage(f"p{at:02}", name) for at, name in enumerate(names)]
        generator = np.random.default_rng(2)
        self.query_vectors = generator.normal(size=(3, 5)).astype(np.float32)
        self.vectors = generator.normal(size=(len(names), 5)).astype(np.float32)
        self.judgments = [Judgment("q0", "p00"), Judgment("q1", "p13"), Judgment("q2", "p01"), Judgment("q2", "p10")]

    def mine(self, settings: MiningSettings, reranker: PairScorer | None = None) -> MinedNegatives:
        corpus = MiningCorpus.of(self.passages, self.vectors)
        return mine(
            corpus, self.queries, self.query_vectors, self.judgments, settings, reranker=reranker, lexical=ENGLISH
        )

    def turned(self, rows: list[int], passages: list[int]) -> "Case":
        turned = Case()
        turned.queries, turned.query_vectors = [self.queries[i] for i in rows], self.query_vectors[rows]
        turned.passages, turned.vectors = [self.passages[i] for i in passages], self.vectors[passages]
        turned.judgments = self.judgments[::-1]
        return turned


def _by_id(mined: MinedNegatives) -> dict[str, TrainingGroup]:
    return {group.query_id: group for group in mined.groups}


def _dense_order(case: Case, row: int) -> list[str]:
    products = case.vectors.astype(np.float64) @ case.query_vectors[row].astype(np.float64)
    positives = {j.passage_id for j in case.judgments if j.query_id == case.queries[row].id}
    return [f"p{i:02}" for i in np.argsort(-products) if f"p{i:02}" not in positives]


def _scores(case: Case) -> dict[str, float]:
    return {passage.text: float(at * 7 % 18) / 10 for at, passage in enumerate(case.passages)}


def test_miners_take_turns_and_say_who_found_what() -> None:
    case = Case()
    dense = [
        list(g.negative_ids) for g in case.mine(BOTH.model_copy(update={"miners": ("dense",), "number": 6})).groups
    ]
    words = [set(g.negative_ids) for g in case.mine(BOTH.model_copy(update={"miners": ("bm25",), "number": 6})).groups]
    for row, group in enumerate(case.mine(BOTH).groups):
        assert dense[row] == _dense_order(case, row)[:6]
        source = dict(zip(group.negative_ids, group.negative_sources, strict=True))
        assert dense[row][0] in source and len(source) == 4
        for passage_id, miners in source.items():
            expected = [m for m, found in (("dense", dense[row]), ("bm25", words[row])) if passage_id in found]
            assert miners == "+".join(expected)
        assert sum("bm25" in miners for miners in source.values()) >= 2
        assert list(group.negative_scores) == sorted(group.negative_scores, reverse=True)


def test_words_find_what_shares_words_and_scores_stay_those_of_the_encoder() -> None:
    case = Case()
    settings = MiningSettings(range_end=4, number=4, margin_relative=None, miners=("bm25",))
    group = _by_id(case.mine(settings))["q0"]
    assert all({"big", "red", "dog"} & set(text.split()) for text in group.negatives)
    products = case.vectors @ case.query_vectors[0]
    np.testing.assert_allclose(group.negative_scores, [products[int(i[1:])] for i in group.negative_ids], atol=1e-4)
    assert set(group.negative_sources) == {"bm25"}


def test_a_reranker_orders_the_range_and_its_scores_stand_in_the_group() -> None:
    case = Case()
    scores = _scores(case)
    for row, group in enumerate(case.mine(RERANKED, FakePairScorer(scores)).groups):
        in_range = _dense_order(case, row)[:6]
        expected = sorted(in_range, key=lambda i: (-scores[case.passages[int(i[1:])].text], i))[:3]
        assert list(group.negative_ids) == expected
        assert list(group.negative_scores) == [pytest.approx(scores[text], abs=1e-4) for text in group.negatives]
        assert list(group.positive_scores) == [pytest.approx(scores[text], abs=1e-4) for text in group.positives]


def test_margins_hold_against_the_reranker() -> None:
    case = Case()
    settings = RERANKED.model_copy(update={"margin_relative": 0.5, "margin_absolute": 0.1, "range_end": 17})
    groups = case.mine(settings, FakePairScorer(_scores(case))).groups
    assert any(group.negatives for group in groups)
    for group in groups:
        weakest = min(group.positive_scores)
        assert all(score <= min(0.5 * weakest, weakest - 0.1) + 1e-4 for score in group.negative_scores)


def test_a_probability_is_the_logistic_function_of_the_output() -> None:
    from scipy.special import expit

    case = Case()
    settings = MiningSettings.model_validate({**RERANKED.model_dump(), "reranker": {"model": "x"}})
    extreme = {text: score * 1000 - 900 for text, score in _scores(case).items()}
    for group in case.mine(settings, FakePairScorer(extreme)).groups:
        expected = [expit(extreme[text]) for text in (*group.positives, *group.negatives)]
        np.testing.assert_allclose([*group.positive_scores, *group.negative_scores], expected, atol=1e-4)


@pytest.mark.parametrize("sampling", ["top", "random"])
@pytest.mark.parametrize("reranked", [False, True])
def test_the_same_bytes_whatever_the_order_of_queries_passages_and_judgments(
    tmp_path: Path, sampling: str, reranked: bool
) -> None:
    case = Case()
    settings = MiningSettings.model_validate({**(RERANKED if reranked else BOTH).model_dump(), "sampling": sampling})
    settings = settings.model_copy(update={"miners": ("dense", "bm25")})
    turned = case.turned([2, 0, 1], list(np.random.default_rng(0).permutation(len(case.passages))))
    for name, one in (("a", case), ("b", turned)):
        scorer = CachedPairScorer(FakePairScorer(_scores(case)), VectorCache(tmp_path / name)) if reranked else None
        write_groups(one.mine(settings, scorer).groups, tmp_path / f"{name}.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert read_groups(tmp_path / "a.jsonl")[0].negative_sources


def test_a_second_mining_scores_no_pair_again(tmp_path: Path) -> None:
    case, scorer = Case(), FakePairScorer(_scores(Case()))
    first = CachedPairScorer(scorer, VectorCache(tmp_path))
    mined = case.mine(RERANKED, first)
    again = CachedPairScorer(scorer, VectorCache(tmp_path))
    assert case.mine(RERANKED, again) == mined
    assert (first.served, again.scored) == (0, 0) and again.served == first.scored == len(set(scorer.calls))


def test_positives_of_one_text_are_never_candidates_of_any_miner() -> None:
    case = Case()
    case.passages += [Passage("p90", "BIG  red dog")]
    case.vectors = np.vstack([case.vectors, case.vectors[0]])
    group = _by_id(case.mine(BOTH.model_copy(update={"range_end": 40, "number": 40})))["q0"]
    assert not {"p00", "p90"} & set(group.negative_ids)


def test_the_tally_counts_candidates_before_the_margin() -> None:
    case = Case()
    highest = {passage.text: 5.0 for passage in case.passages} | {case.passages[0].text: 1.0}
    settings = RERANKED.model_copy(update={"margin_relative": 0.95})
    mined = case.mine(settings, FakePairScorer(highest))
    assert mined.tally.candidates == 18 and mined.tally.above_positive == 6  # all six of q0
    report = report_mined(
        mined, MiningCorpus.of(case.passages, case.vectors), case.queries, case.query_vectors, settings,
        reranker=FakePairScorer(highest),
    )  # fmt: skip
    assert report.candidates_above_positive_share == pytest.approx(6 / 18, abs=1e-4)
    assert report.above_positive_share in (None, 0.0)


def test_vectors_on_disk_give_the_same_groups(tmp_path: Path) -> None:
    case, encoder = Case(), FakeEncoder()
    texts = [passage.text for passage in case.passages]
    case.query_vectors = encoder.encode_queries([query.text for query in case.queries])
    case.vectors = encoder.encode_passages(texts)
    in_memory = case.mine(BOTH)
    case.vectors = encode_to_file(encoder.encode_passages, texts, encoder.dimension, tmp_path / "v.npy")
    assert isinstance(case.vectors, np.memmap) and case.mine(BOTH) == in_memory
    assert encode_to_file(encoder.encode_passages, [], 32, tmp_path / "none.npy").shape == (0, 32)


def test_what_the_settings_name_must_be_given() -> None:
    case = Case()
    with pytest.raises(ValueError, match="both name a reranker or neither"):
        case.mine(RERANKED)
    with pytest.raises(ValueError, match="both name a reranker or neither"):
        case.mine(BOTH, FakePairScorer({}))
    corpus = MiningCorpus.of(case.passages, case.vectors)
    with pytest.raises(ValueError, match="bm25 needs the language"):
        mine(corpus, case.queries, case.query_vectors, case.judgments, BOTH)


@pytest.mark.parametrize(
    "fields",
    [
        {"miners": []},
        {"miners": ["dense", "dense"]},
        {"miners": ["tfidf"]},
        {"weights": "tuned", "scorer": {"encoder": {"model": "bundled-english"}}},
        {"scorer": {}},
        {"scorer": {"encoder": {"model": "x", "service": "nobody"}}},
        {"reranker": {"model": "x", "activation": "softmax"}},
        {"reranker": {"max_length": 512}},
        {"weights": ""},
    ],
)
def test_settings_that_mean_nothing_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MiningSettings.model_validate(fields)


def test_settings_survive_json() -> None:
    hosted = {"service": "openai", "model": "text-embedding-3-large"}
    for encoder in ({"model": "bundled-english"}, hosted):
        settings = MiningSettings.model_validate({"scorer": {"encoder": encoder}, "reranker": {"model": "x"}})
        assert MiningSettings.model_validate_json(settings.model_dump_json()) == settings


def test_sources_of_another_length_are_refused(tmp_path: Path) -> None:
    group = TrainingGroup("q", "x", ("p",), ("a",), (0.9,), ("n",), ("b",), (0.5,), ("dense",))
    write_groups([replace(group, negative_sources=("dense", "bm25"))], tmp_path / "g.jsonl")
    with pytest.raises(ValueError, match="as long as neg or left out, found 2 and 1"):
        read_groups(tmp_path / "g.jsonl")
