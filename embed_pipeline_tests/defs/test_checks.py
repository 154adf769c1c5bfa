"""Each check with its fault planted: it fails, says the figure, and blocks where it must."""

import random
from dataclasses import replace
from pathlib import Path

from embed_pipeline.dataset.cleaning import CleanedData, CleaningCounts
from embed_pipeline.dataset.formats import RetrievalDataset, build_dataset
from embed_pipeline.dataset.ledger import LedgerEntry
from embed_pipeline.dataset.settings import DatasetSettings
from embed_pipeline.defs.assets.dataset_checks import SPECS as DATASET_SPECS
from embed_pipeline.defs.assets.dataset_checks import check_cleaned
from embed_pipeline.defs.assets.evaluation import check_forgetting, check_tokens
from embed_pipeline.defs.assets.mining import check_negatives
from embed_pipeline.defs.assets.retrieval import check_index
from embed_pipeline.defs.checks import CheckOutcome, describe_outcomes
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.evaluation.comparison import Comparison
from embed_pipeline.evaluation.measures import Measure
from embed_pipeline.mining.groups import TrainingGroup
from embed_pipeline.mining.report import MiningReport
from embed_pipeline.project.recipes import Recipe
from embed_pipeline.project.variants import Variant
from embed_pipeline.records import Judgment, Passage, Query, Split
from embed_pipeline.retrieval.faiss_index import IndexSettings
from embed_pipeline.retrieval.searching import Search, write_search_index
from embed_pipeline_tests.fakes import FakeEncoder

SETTINGS = DatasetSettings.model_validate(
    {
        "description": "x",
        "workbooks": ["*.xlsx"],
        "columns": {"question": "Q", "labels": ["L"]},
        "label_list": "labels.txt",
        "split": {"train": 0.6, "validation": 0.2, "test": 0.2},
        "variants": ["bm25"],
    }
)
PASSAGES = [Passage("p1", "高血压"), Passage("p2", "痛风")]
QUERIES = [
    Query("q1", "血压一百六能不能买重疾险", "train"),
    Query("q2", "大脚趾半夜痛醒怎么核保", "train"),
    Query("q3", "随身带着喷雾的人能投保吗", "validation"),
    Query("q4", "整夜睡不着靠药睡觉可以买吗", "test"),
]
COUNTS = CleaningCounts(rows=4, rows_united=0, rows_rejected=0, cells_rejected=0, queries=4, passages=2, judgments=4)


def _check(queries: list[Query], counts: CleaningCounts = COUNTS, held_out: str = "p1") -> dict[str, CheckOutcome]:
    judgments = [Judgment(q.id, "p1" if q.split == "train" else held_out) for q in queries]
    dataset = build_dataset(queries, PASSAGES, judgments)
    outcomes = check_cleaned(dataset, CleanedData(dataset, (), counts), SETTINGS)
    assert {outcome.name for outcome in outcomes} == {spec.name for spec in DATASET_SPECS}
    blocking = {spec.name: spec.blocking for spec in DATASET_SPECS}
    assert all(outcome.blocking == blocking[outcome.name] for outcome in outcomes)
    return {outcome.name: outcome for outcome in outcomes}


def test_a_sound_data_set_passes() -> None:
    assert all(outcome.passed for outcome in _check(QUERIES).values())


def test_a_test_query_that_stands_in_train_blocks() -> None:
    leaked = replace(QUERIES[0], id="q9", text=QUERIES[0].text + "？", split="test")
    outcome = _check([*QUERIES, leaked])["splits_share_no_query"]
    assert not outcome.passed and outcome.blocking
    assert outcome.figures["leaks"] == 1 and outcome.figures["examples"] == "q9 ~ q1"


def test_an_empty_split_blocks() -> None:
    outcome = _check(QUERIES[:2] + QUERIES[3:])["every_split_has_queries"]
    assert not outcome.passed and outcome.blocking and outcome.figures["empty_splits"] == "validation"


def test_an_empty_split_is_told_with_what_emptied_it() -> None:
    dataset = build_dataset(QUERIES[2:], PASSAGES, [Judgment(query.id, "p1") for query in QUERIES[2:]])
    entry = LedgerEntry("faq.csv", "queries", 1, None, "near_duplicate_of_held_out", "", None, None, "")
    counts = replace(COUNTS, rows=40, rows_rejected=38, queries=2)
    cleaned = CleanedData(dataset, (entry,) * 38, counts)
    outcome = next(o for o in check_cleaned(dataset, cleaned, SETTINGS) if o.name == "every_split_has_queries")
    assert outcome.figures["left out, near_duplicate_of_held_out"] == 38
    assert "38 questions were left out" in outcome.remedy and "near_duplicate_threshold" in outcome.remedy


def test_many_rejected_rows_warn() -> None:
    outcome = _check(QUERIES, replace(COUNTS, rows=10, rows_rejected=6))["few_rows_are_rejected"]
    assert not outcome.passed and not outcome.blocking and outcome.figures["share_rejected"] == 0.6


def test_a_label_that_train_never_had_warns() -> None:
    outcome = _check(QUERIES, held_out="p2")["held_out_labels_occur_in_train"]
    assert not outcome.passed and outcome.figures["examples"] == "痛风"


def test_rejects_are_counted_by_reason() -> None:
    entry = LedgerEntry("a.xlsx", "S", 2, None, "no_label", "x", None, None, "y")
    dataset = build_dataset(QUERIES, PASSAGES, [Judgment(query.id, "p1") for query in QUERIES])
    cleaned = CleanedData(dataset, (entry, entry, replace(entry, reason="unknown_label")), COUNTS)
    figures = _outcomes(dataset, cleaned=cleaned)["few_rows_are_rejected"].figures
    assert (figures["reason no_label"], figures["reason unknown_label"]) == (2, 1)


def test_an_unseen_passage_is_no_fault_where_every_question_has_its_own() -> None:
    passages = [Passage(f"p{i}", text) for i, text in enumerate(("甲乙丙丁", "戊己庚辛", "壬癸子丑", "寅卯辰巳"))]
    judgments = [Judgment(query.id, passage.id) for query, passage in zip(QUERIES, passages, strict=True)]
    outcome = _outcomes(build_dataset(QUERIES, passages, judgments))["held_out_labels_occur_in_train"]
    assert outcome.passed and outcome.figures["labels_only_held_out"] == 2
    assert outcome.figures["share_of_passages_with_more_queries"] == 0 and "note" in outcome.figures


def _outcomes(
    dataset: RetrievalDataset, *, cleaned: CleanedData | None = None, files: dict[str, str] | None = None
) -> dict[str, CheckOutcome]:
    outcomes = check_cleaned(dataset, cleaned or CleanedData(dataset, (), COUNTS), SETTINGS, files=files)
    return {outcome.name: outcome for outcome in outcomes}


def _many(train_suffix: str = "", test_suffix: str = "", test_label: str = "p1") -> RetrievalDataset:
    chance = random.Random(3)
    queries, judgments = [], []
    for number in range(200):
        split: Split = "train" if number % 2 else "test"
        text = "".join(chr(chance.randrange(0x4E00, 0x9000)) for _ in range(chance.randint(8, 16)))
        queries.append(Query(f"q{number:03}", text + (train_suffix if number % 2 else test_suffix), split))
        judgments.append(Judgment(f"q{number:03}", "p1" if split == "train" or number % 4 else test_label))
    return build_dataset(queries, PASSAGES, judgments)


def test_test_queries_of_another_length_language_or_label_warn() -> None:
    name = "test_queries_are_like_train"
    assert _outcomes(_many())[name].figures["shifted"] == "nothing"
    longer = "一二三四五六七八九十甲乙丙丁戊己"
    english = " can I buy it with this illness please"
    for dataset, shifted in (
        (_many(test_suffix=longer), "length"),
        (_many(train_suffix=longer * 2 + "甲乙丙丁戊己", test_suffix=english), "language"),
        (_many(test_label="p2"), "labels"),
    ):
        outcome = _outcomes(dataset)[name]
        assert not outcome.passed and not outcome.blocking and shifted in str(outcome.figures["shifted"])


def test_a_newest_file_of_other_questions_warns() -> None:
    name, dataset = "newest_queries_are_like_the_rest", _many(test_suffix="一二三四五六七八九十甲乙丙丁戊己")
    by_split = sorted(dataset.queries, key=lambda query: query.split == "test")
    outcome = _outcomes(dataset, files={q.id: "b" if q.split == "test" else "c" for q in by_split})[name]
    assert not outcome.passed and outcome.figures["shifted"] == "length" and outcome.figures["queries_newest"] == 100
    alike = {q.id: "a" if at % 4 < 2 else "b" for at, q in enumerate(dataset.queries)}
    assert _outcomes(dataset, files=alike)[name].passed
    assert "note" in _outcomes(dataset)[name].figures


def test_like_queries_with_unlike_judgments_warn() -> None:
    name = "like_queries_have_like_judgments"
    again = replace(QUERIES[0], id="q9", text=QUERIES[0].text + "？")
    judgments = [Judgment(query.id, "p1") for query in QUERIES]
    sound = _outcomes(build_dataset([*QUERIES, again], PASSAGES, [*judgments, Judgment("q9", "p1")]))[name]
    assert sound.passed
    wrong = _outcomes(build_dataset([*QUERIES, again], PASSAGES, [*judgments, Judgment("q9", "p2")]))[name]
    assert not wrong.passed and not wrong.blocking and wrong.figures["no_label_in_common"] == 1
    assert str(wrong.figures["examples"]).startswith("q1 ~ q9")


def test_passages_that_repeat_each_other_warn() -> None:
    copy = Passage("p3", "高血压。")
    judgments = [Judgment(query.id, "p1") for query in QUERIES]
    assert _outcomes(build_dataset(QUERIES, PASSAGES, judgments))["passages_differ"].passed
    outcome = _outcomes(build_dataset(QUERIES, [*PASSAGES, copy], judgments))["passages_differ"]
    assert not outcome.passed and not outcome.blocking and outcome.figures["repeating"] == 1
    assert str(outcome.figures["examples"]).startswith("p3 ~ p1")


def _report(hardness: float | None) -> MiningReport:
    return MiningReport(1, 1, 1, ((1, 1),), 0, 0.9, 0.5, 0.1, hardness, 0.0)


def test_a_positive_among_the_negatives_blocks() -> None:
    group = TrainingGroup("q1", "x", ("p1",), ("高血压",), (0.9,), ("p2",), ("痛风",), (0.5,))
    judgments = [Judgment("q1", "p1"), Judgment("q1", "p2")]
    wrong, *_ = check_negatives([group], judgments, _report(0.5), asked=7)
    assert not wrong.passed and wrong.blocking and wrong.figures["positives_among_negatives"] == 1
    assert check_negatives([group], judgments[:1], _report(0.5), asked=7)[0].passed


def test_negatives_no_harder_than_random_warn() -> None:
    assert not check_negatives([], [], _report(0.0), asked=7)[1].passed
    assert not check_negatives([], [], _report(None), asked=7)[1].passed
    assert check_negatives([], [], _report(0.5), asked=7)[1].passed
    assert check_negatives([], [], _report(None), asked=0)[1].passed


def test_groups_without_their_negatives_warn() -> None:
    report = replace(_report(0.5), groups=10, short_groups=6)
    outcome = check_negatives([], [], report, asked=7)[2]
    assert not outcome.passed and not outcome.blocking and outcome.figures["share_of_full_groups"] == 0.4
    assert check_negatives([], [], replace(report, short_groups=5), asked=7)[2].passed


def test_unknown_characters_and_long_questions_warn() -> None:
    dataset = build_dataset(QUERIES, PASSAGES, [])
    encoder = EncoderSettings(model="bundled-english", pooling="mean", query_max_length=5, passage_max_length=4)
    recipe = Recipe.model_validate({"description": "x", "encoder": encoder})
    length, passages, characters = check_tokens(Variant("small", "base", recipe), dataset, None)
    assert not passages.passed and passages.figures["passages"] == 2 and passages.figures["truncated"] == 1
    assert not length.passed and length.figures["share_truncated"] == 1.0
    assert not characters.passed
    share = characters.figures["share_unknown"]
    assert isinstance(share, float) and share > 0.3
    words = Recipe.model_validate({"description": "x", "retriever": "bm25"})
    assert all(outcome.passed for outcome in check_tokens(Variant("small", "words", words), dataset, None))


def _comparison(difference: float) -> Comparison:
    return Comparison(
        measure=Measure("ndcg", 10),
        difference=difference,
        low=difference - 0.01,
        high=difference + 0.01,
        p_value=0.2,
        p_adjusted=0.2,
        detectable=0.01,
        verdict="no evidence",
    )


def test_forgetting_more_than_the_limit_turns_the_check_red_and_names_the_loss() -> None:
    (outcome,) = check_forgetting({"general": [_comparison(-0.021)], "other": [_comparison(0.1)]}, 0.02)
    assert not outcome.passed and not outcome.blocking and outcome.figures["general"] == "-2.1 [-3.1, -1.1]"
    assert check_forgetting({"general": [_comparison(-0.019)]}, 0.02)[0].passed
    assert check_forgetting({}, 0.02)[0].passed
    (untrained,) = check_forgetting({"general": [_comparison(-0.021)]}, 0.02, trained=False)
    assert "rerank.model" in untrained.remedy and "epochs" in outcome.remedy


def test_only_a_failed_blocking_check_is_named_for_the_graph() -> None:
    passed = CheckOutcome(name="a", passed=True, blocking=True, figures={}, remedy="")
    warned = CheckOutcome(name="b", passed=False, blocking=False, figures={}, remedy="")
    failed = CheckOutcome(name="c", passed=False, blocking=True, figures={}, remedy="")
    assert "failed_blocking_checks" not in describe_outcomes([passed, warned])
    assert describe_outcomes([passed, warned, failed])["failed_blocking_checks"] == "c"


def test_an_index_that_misses_what_an_exact_one_finds_warns(tmp_path: Path) -> None:
    passages = [Passage(f"p{at}", f"{at * 7919:06d}") for at in range(200)]
    for kind, passed in (("flat", True), ("ivf", False)):
        settings = IndexSettings(kind=kind, ivf_lists=40, ivf_probes=1)
        found = write_search_index(Search("dense", "en", FakeEncoder(), index=settings), passages, tmp_path / kind)
        (outcome,) = check_index(found, settings)
        assert (outcome.passed, outcome.figures["kind"]) == (passed, kind)
    assert 0 < outcome.figures["recall"] < outcome.figures["limit"] == 0.95
