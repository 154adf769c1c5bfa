"""Files of question-passage pairs: what gets in under which id and split, and what is left out with its reason."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from embed_pipeline.dataset.audit import find_leaks
from embed_pipeline.dataset.facts import data_facts
from embed_pipeline.dataset.ledger import summarise_ledger
from embed_pipeline.dataset.pairs import clean_pairs
from embed_pipeline.dataset.raw_files import raw_paths
from embed_pipeline.dataset.settings import DatasetSettings

CORPUS = {"p1": "Cards arrive within five days.", "p2": "Refunds take a week.", "p3": "Unused."}
TRAIN = {
    "queries": {"a": "When does my card arrive?", "b": "How long does a refund take?"},
    "corpus": CORPUS,
    "relevant_docs": {"a": ["p1"], "b": {"p2": 3, "p3": 0}},
}
TEST = {
    "queries": {"c": "Where is my new card?"},
    "corpus": CORPUS,
    "relevant_docs": {"c": ["p1"]},
    "query_attributes": {"c": {"channel": "chat"}},
}


def _settings(*files: Mapping[str, str], **changes: object) -> DatasetSettings:
    return DatasetSettings.model_validate({"description": "d", "pairs": files, "variants": ["bm25"], **changes})


def _write(folder: Path, name: str, content: object) -> Path:
    data = json.dumps(content, ensure_ascii=False).encode()
    path = folder / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def _two_files(folder: Path, train: object = TRAIN, test: object = TEST) -> DatasetSettings:
    _write(folder, "train.json", train)
    _write(folder, "test.json.gz", test)
    return _settings({"file": "train.json", "split": "train"}, {"file": "test.json.gz", "split": "test"})


def test_ids_texts_grades_splits_and_attributes_are_those_of_the_files(tmp_path: Path) -> None:
    cleaned = clean_pairs(tmp_path, _two_files(tmp_path))
    dataset = cleaned.dataset
    assert {q.id: (q.text, q.split) for q in dataset.queries} == {
        "a": ("When does my card arrive?", "train"),
        "b": ("How long does a refund take?", "train"),
        "c": ("Where is my new card?", "test"),
    }
    assert {p.id: p.text for p in dataset.passages} == CORPUS
    assert dataset.relevant() == {"a": {"p1": 1}, "b": {"p2": 3, "p3": 0}, "c": {"p1": 1}}
    assert next(q for q in dataset.queries if q.id == "c").attributes == {"channel": "chat"}
    assert cleaned.ledger == () and cleaned.counts.rows == 3


def test_a_train_question_that_repeats_a_test_question_is_left_out_and_no_test_question_is(tmp_path: Path) -> None:
    train = {**TRAIN, "queries": {"a": "where is my new card", "b": "How long does a refund take?"}}
    cleaned = clean_pairs(tmp_path, _two_files(tmp_path, train=train))
    assert {q.id for q in cleaned.dataset.queries} == {"b", "c"}
    (entry,) = cleaned.ledger
    assert (entry.reason, entry.workbook, entry.row) == ("near_duplicate_of_held_out", "train.json", 1)
    assert "c of test" in entry.detail
    assert find_leaks(cleaned.dataset, 0.85) == ()


QUESTIONS = "question,answer\n"
SHARDS = (
    "What about alpha?,A letter\nWhat about beta?,Another\n,lost\n",
    "Where is gamma?,Third\n What about alpha? ,The first\n,lost too\nWhere is gamma?,Third\n",
    "What about alpha?,A letter\nHow is delta written?,\n",
)


@pytest.mark.parametrize("split", ["train", "validation", "test", None])
def test_files_of_one_split_are_what_one_file_with_all_their_rows_is(tmp_path: Path, split: str | None) -> None:
    for at, rows in enumerate(SHARDS):
        (tmp_path / f"{at}.csv").write_text(QUESTIONS + rows, encoding="utf-8")
    (tmp_path / "all.csv").write_text(QUESTIONS + "".join(SHARDS), encoding="utf-8")
    columns = {"query": "question", "passage": "answer"}
    named = {"format": "table", "columns": columns} | ({"split": split} if split else {})
    shares = {} if split else {"split": {"train": 0.4, "validation": 0.3, "test": 0.3}}
    shards = clean_pairs(tmp_path, _settings(*({"file": f"{at}.csv", **named} for at in range(3)), **shares))
    whole = clean_pairs(tmp_path, _settings({"file": "all.csv", **named}, **shares))
    assert shards.dataset == whole.dataset and len(whole.dataset.queries) == 3
    reasons = {"empty_question": 2, "no_judgment": 1}
    assert summarise_ledger(shards.ledger) == {**reasons, "duplicate_question": 2, "noted": 3}
    assert shards.counts.rows_united == 2 and shards.counts.rows_rejected == 3
    assert shards.counts.rows == 8 == shards.counts.queries + 2 + 3
    assert {shards.files[query.id] for query in whole.dataset.queries} == {"0.csv", "1.csv"}
    at = [(entry.workbook, entry.row) for entry in shards.ledger if entry.reason != "noted"]
    assert at == sorted(at)


@pytest.mark.parametrize("named", [{"split": "train"}, {"split": "validation"}, {}])
@pytest.mark.parametrize("first", ["kept.csv", "test.csv"])
def test_a_question_of_a_test_file_is_left_out_of_every_other_and_takes_no_judgment_from_it(
    tmp_path: Path, named: dict[str, str], first: str
) -> None:
    (tmp_path / "kept.csv").write_text(
        f"{QUESTIONS}What about alpha?,Wrong\nWhat about beta?,Second\n", encoding="utf-8"
    )
    (tmp_path / "test.csv").write_text(f"{QUESTIONS}Where is gamma?,Third\nWhat about alpha?,First\n", encoding="utf-8")
    files = [{"file": "kept.csv", **named}, {"file": "test.csv", "split": "test"}]
    columns = {"columns": {"query": "question", "passage": "answer"}, "format": "table"}
    files = [entry | columns for entry in (files if first == "kept.csv" else reversed(files))]
    cleaned = clean_pairs(tmp_path, _settings(*files, split={"train": 0.9, "validation": 0.1, "test": 0}))
    texts = {passage.id: passage.text for passage in cleaned.dataset.passages}
    alpha, beta = (next(q for q in cleaned.dataset.queries if name in q.text) for name in ("alpha", "beta"))
    assert alpha.split == "test" != beta.split and len(cleaned.dataset.queries) == 3
    assert [texts[passage] for passage in cleaned.dataset.relevant()[alpha.id]] == ["First"]
    assert cleaned.files[alpha.id] == "test.csv"
    (entry,) = cleaned.ledger
    assert (entry.reason, entry.workbook, entry.row) == ("near_duplicate_of_held_out", "kept.csv", 1)
    assert entry.detail == "It is question 2 of test.csv too, which is of test."


def test_a_question_that_the_hash_puts_where_another_file_has_it_is_one_question(tmp_path: Path) -> None:
    for name, passage in (("open.json", "p1"), ("named.json", "p2")):
        content = {"queries": {"a": "When does my card arrive?"}, "corpus": CORPUS, "relevant_docs": {"a": [passage]}}
        _write(tmp_path, name, content)
    settings = _settings(
        {"file": "open.json"},
        {"file": "named.json", "split": "train"},
        split={"train": 0.98, "validation": 0.01, "test": 0.01},
    )
    cleaned = clean_pairs(tmp_path, settings)
    assert cleaned.dataset.relevant() == {"a": {"p1": 1, "p2": 1}}
    assert summarise_ledger(cleaned.ledger) == {"duplicate_question": 1}


def test_a_passage_that_one_file_calls_irrelevant_and_another_relevant_is_relevant_and_told(tmp_path: Path) -> None:
    shards = ({"p1": 2, "p2": 0, "p3": 0}, {"p1": 1, "p2": 1, "p3": 0})
    for at, judged in enumerate(shards):
        content = {"queries": {"a": "When does it arrive?"}, "corpus": CORPUS, "relevant_docs": {"a": judged}}
        _write(tmp_path, f"{at}.json", content)
    cleaned = clean_pairs(tmp_path, _settings(*({"file": f"{at}.json", "split": "test"} for at in range(2))))
    assert cleaned.dataset.relevant() == {"a": {"p1": 2, "p2": 1, "p3": 0}}
    assert "1 are relevant in one place and irrelevant in the other" in cleaned.ledger[0].detail


def test_what_one_file_says_of_a_passage_stays_where_another_says_nothing(tmp_path: Path) -> None:
    train = {**TRAIN, "passage_attributes": {"p1": {"topic": "cards", "age": "old"}}}
    test = {**TEST, "passage_attributes": {"p1": {"age": "new"}}}
    dataset = clean_pairs(tmp_path, _two_files(tmp_path, train, test)).dataset
    assert dataset.passages[0].attributes == {"topic": "cards", "age": "new"}


def test_everything_unusable_is_in_the_ledger_with_its_reason(tmp_path: Path) -> None:
    train = {
        "queries": {"a": "When does my card arrive?", "x": " ", "y": "Nobody judged me", "z": "Only an unknown one"},
        "corpus": {**CORPUS, "p9": ""},
        "relevant_docs": {"a": ["p1", "gone"], "x": ["p1"], "z": ["gone"]},
    }
    cleaned = clean_pairs(tmp_path, _two_files(tmp_path, train=train))
    assert summarise_ledger(cleaned.ledger) == {
        "empty_question": 1,
        "no_judgment": 2,
        "empty_passage": 1,
        "unknown_passage": 2,
    }
    assert (cleaned.counts.rows, cleaned.counts.rows_rejected, cleaned.counts.cells_rejected) == (5, 3, 3)


def test_files_without_a_split_are_split_by_the_hash_and_stay_put_when_others_are_added(tmp_path: Path) -> None:
    many = {
        "queries": {f"q{i}": f"question number {i * 7919} about thing {i}" for i in range(60)},
        "corpus": {"p": "one"},
        "relevant_docs": {f"q{i}": ["p"] for i in range(60)},
    }
    split = {"train": 0.6, "validation": 0.2, "test": 0.2}
    _write(tmp_path, "one.json", many)
    first = clean_pairs(tmp_path, _settings({"file": "one.json"}, split=split)).dataset
    _write(tmp_path, "two.json", {"queries": {"n": "something new"}, "corpus": {}, "relevant_docs": {"n": ["p"]}})
    both = clean_pairs(tmp_path, _settings({"file": "one.json"}, {"file": "two.json"}, split=split)).dataset
    assert {q.split for q in first.queries} == {"train", "validation", "test"}
    assert set(first.queries) <= set(both.queries) and len(both.queries) == 61


def test_an_evaluation_only_set_has_test_queries_only(tmp_path: Path) -> None:
    _write(tmp_path, "train.json", TRAIN)
    cleaned = clean_pairs(tmp_path, _settings({"file": "train.json"}, evaluation_only=True, variants=[]))
    assert {q.split for q in cleaned.dataset.queries} == {"test"}


def test_parallel_languages_answer_each_other_and_their_ids_name_the_language(tmp_path: Path) -> None:
    for language, text in (("en", "When?"), ("de", "Wann?")):
        content = {"queries": {"q": text}, "corpus": {"p": f"{language} passage"}, "relevant_docs": {"q": ["p"]}}
        _write(tmp_path, f"{language}.json", content)
    files = [{"file": f"{language}.json", "language": language} for language in ("en", "de")]
    dataset = clean_pairs(
        tmp_path, _settings(*files, evaluation_only=True, parallel_languages=True, variants=[])
    ).dataset
    assert dataset.relevant() == {"de:q": {"de:p": 1, "en:p": 1}, "en:q": {"de:p": 1, "en:p": 1}}
    assert {p.id: p.attributes["language"] for p in dataset.passages} == {"de:p": "de", "en:p": "en"}
    apart = clean_pairs(tmp_path, _settings(*files, evaluation_only=True, variants=[])).dataset
    assert apart.relevant() == {"de:q": {"de:p": 1}, "en:q": {"en:p": 1}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "test.json.gz, line 1: expected an object, found list"),
        ({"queries": {}, "corpus": {}}, "test.json.gz: expected one of the formats .*found a JSON object of"),
        ({**TEST, "queries": ["q"]}, "test.json.gz, queries: expected an object by id, found list"),
        ({**TEST, "corpus": {"p1": 3}}, "test.json.gz, corpus, p1: expected text, found 3"),
        ({**TEST, "relevant_docs": {"c": "p1"}}, "relevant_docs, c: expected a list of passage ids or grades"),
        ({**TEST, "relevant_docs": {"c": {"p1": -1}}}, "relevant_docs, c: expected a list of passage ids or grades"),
        ({**TEST, "corpus": {"p1": "another text"}}, "p1: it has another text in an earlier file"),
        (
            {**TEST, "queries": {"a": "again"}},
            "test.json.gz, queries, a: the id is in an earlier file too, train.json, .*: 'again', 'When does my card",
        ),
    ],
)
def test_a_malformed_file_is_named_with_its_key_and_id(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        clean_pairs(tmp_path, _two_files(tmp_path, test=content))


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    settings = _two_files(tmp_path)
    (tmp_path / "test.json.gz").write_bytes(b"\x1f\x8b not gzip")
    with pytest.raises(ValueError, match=r"test\.json\.gz: expected a gzip file"):
        clean_pairs(tmp_path, settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workbooks": ["a.xlsx"]}, "as workbooks, as pairs or as documents"),
        ({"sheet": "S"}, "belong to workbooks"),
        ({"pairs": [{"file": "a.json"}]}, "expected split"),
        ({"parallel_languages": True}, "a language for every file"),
        ({"evaluation_only": True}, "test queries only"),
        ({"baseline": "tfidf"}, "baseline must be one of the variants"),
        ({"variants": []}, "at least one recipe"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict, message: str) -> None:
    fields = {"description": "d", "pairs": [{"file": "a.json", "split": "train"}], "variants": ["bm25"]}
    with pytest.raises(ValueError, match=message):
        DatasetSettings.model_validate(fields | changes)


def test_a_label_list_says_what_labels_mean_adds_those_that_no_file_has_and_names_misspelt_ones(tmp_path: Path) -> None:
    rows = {
        "queries": {"a": "Where is it?", "b": "My money is gone"},
        "corpus": {"c1": "card arrival", "c2": "refund"},
        "relevant_docs": {"a": ["c1"], "b": ["c2"]},
    }
    _write(tmp_path, "test.json", rows)
    described = "card arrival\tThe card has not come.\nrefunds\tMoney back.\n"
    (tmp_path / "labels.txt").write_text(described, encoding="utf-8")
    settings = _settings({"file": "test.json"}, evaluation_only=True, variants=[], label_list="labels.txt")
    cleaned = clean_pairs(tmp_path, settings)
    texts = {passage.id: passage.text for passage in cleaned.dataset.passages}
    assert (texts.pop("c1"), texts.pop("c2")) == ("card arrival: The card has not come.", "refund")
    assert list(texts.values()) == ["refunds: Money back."]
    assert [entry.value for entry in cleaned.ledger] == ["refund"] and "'refunds'" in cleaned.ledger[0].detail
    assert {path.name for path in raw_paths(tmp_path, settings)} == {"test.json", "labels.txt"}


def test_labels_with_long_descriptions_are_a_list_of_labels_still(tmp_path: Path) -> None:
    queries = {str(at): f"question number {at} of many" for at in range(4)}
    rows = {"queries": queries, "corpus": {"c1": "card arrival"}, "relevant_docs": {key: ["c1"] for key in queries}}
    _write(tmp_path, "test.json", rows)
    (tmp_path / "labels.txt").write_text(f"card arrival\t{'The card has not come. ' * 9}\n", encoding="utf-8")
    settings = _settings({"file": "test.json"}, evaluation_only=True, variants=[], label_list="labels.txt")
    facts = data_facts(clean_pairs(tmp_path, settings).dataset)
    assert facts.is_label_list and facts.passage_length == len("card arrival")
