"""From files to a data set that runs: what is guessed, why, and that nothing has to be edited."""

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from embed_pipeline.dataset.exchange.inspection import guess_language, inspect
from embed_pipeline.dataset.exchange.registry import FORMATS
from embed_pipeline.dataset.exchange.starting import describe_inspection, write_dataset_yaml
from embed_pipeline.dataset.formats import build_dataset
from embed_pipeline.dataset.pairs import clean_pairs
from embed_pipeline.dataset.settings import read_dataset_settings
from embed_pipeline.records import Judgment, Passage, Query, Split


def _pairs(
    folder: Path, name: str, first: int, count: int, *, passage: str = "A long passage, number {} of many, on things"
) -> None:
    """Queries first..first+count, each with its own passage out of ten."""
    folder.mkdir(exist_ok=True)
    numbers = range(first, first + count)
    content = {
        "queries": {f"q{i}": f"What is the meaning of number {i * 7919} in row {i}?" for i in numbers},
        "corpus": {f"p{i}": passage.format(i) for i in range(10)},
        "relevant_docs": {f"q{i}": [f"p{i % 10}"] for i in numbers},
    }
    (folder / name).write_bytes(gzip.compress(json.dumps(content).encode(), mtime=0))


def test_files_called_after_splits_become_a_data_set_that_needs_no_edit(tmp_path: Path) -> None:
    for name, first, count in (("train", 0, 60), ("val", 60, 10), ("test", 70, 20)):
        _pairs(tmp_path / "in", f"{name}.json.gz", first, count)
    (tmp_path / "in" / "README.md").write_text("not data")
    inspection = inspect(tmp_path / "in")
    made = write_dataset_yaml(inspection, "mine", tmp_path / "data")
    settings = read_dataset_settings(made.parent)
    assert sorted(path.name for path in made.parent.iterdir()) == [
        "dataset.yaml",
        "test.json.gz",
        "train.json.gz",
        "val.json.gz",
    ]
    assert {entry.file: entry.split for entry in settings.pairs} == {
        "test.json.gz": "test",
        "train.json.gz": "train",
        "val.json.gz": "validation",
    }
    assert (settings.language, settings.headline, settings.evaluation_only) == ("en", "ndcg@10", False)
    dataset = clean_pairs(made.parent, settings).dataset
    assert [len(dataset.queries_of(split)) for split in ("train", "validation", "test")] == [60, 10, 20]
    assert "90 questions" in describe_inspection(inspection) and "10 passages" in describe_inspection(inspection)


def test_short_passages_for_many_questions_are_a_list_of_labels(tmp_path: Path) -> None:
    _pairs(tmp_path / "in", "train.json.gz", 0, 80, passage="label {}")
    _pairs(tmp_path / "in", "test.json.gz", 80, 20, passage="label {}")
    inspection = inspect(tmp_path / "in")
    assert (inspection.is_label_corpus, inspection.headline) == (True, "hit_rate@1")
    assert inspection.variants == ("bm25", "tfidf", "classifier", "e5", "e5_auto", "e5_auto_hybrid")
    made = write_dataset_yaml(inspection, "made", tmp_path / "data")
    text = made.read_text(encoding="utf-8").replace("# label_list: labels.txt", "label_list: labels.txt")
    made.write_text(text, encoding="utf-8")  # as whoever has sentences about labels does
    (made.parent / "labels.txt").write_text("label 1\tthe first\n", encoding="utf-8")
    passages = clean_pairs(made.parent, read_dataset_settings(made.parent)).dataset.passages
    assert "label 1: the first" in {passage.text for passage in passages}


def test_of_train_and_test_files_a_tenth_of_train_becomes_validation(tmp_path: Path) -> None:
    _pairs(tmp_path / "in", "train.json.gz", 0, 200, passage="label {}")
    _pairs(tmp_path / "in", "test.json.gz", 200, 20, passage="label {}")
    made = write_dataset_yaml(inspect(tmp_path / "in"), "made", tmp_path / "data")
    assert "split: {train: 0.9, validation: 0.1, test: 0, seed: 0}" in made.read_text(encoding="utf-8")
    dataset = clean_pairs(made.parent, read_dataset_settings(made.parent)).dataset
    sizes = {split: len(dataset.queries_of(split)) for split in ("train", "validation", "test")}
    assert sizes["test"] == 20 and sizes["train"] + sizes["validation"] > 190 and 8 < sizes["validation"] < 35
    made.write_text(made.read_text(encoding="utf-8").replace("split: test}", "split: validation}"), encoding="utf-8")
    with pytest.raises(ValueError, match="expected a share above 0 or a file of pairs with split: test, found"):
        read_dataset_settings(made.parent)


def test_files_called_after_languages_with_the_same_ids_are_parallel_and_not_trained_on(tmp_path: Path) -> None:
    for name in ("de", "en", "zh"):
        _pairs(
            tmp_path / "in", f"{name}.json.gz", 0, 60, passage=name + " passage {} with a text of its own, and longer"
        )
    made = write_dataset_yaml(inspect(tmp_path / "in"), "mine", tmp_path / "data")
    settings = read_dataset_settings(made.parent)
    assert settings.parallel_languages and settings.evaluation_only
    assert [entry.language for entry in settings.pairs] == ["de", "en", "zh"]
    assert len(clean_pairs(made.parent, settings).dataset.judgments) == 3 * 60 * 3
    _pairs(tmp_path / "in", "zh.json.gz", 1, 60)
    assert not inspect(tmp_path / "in").parallel_languages


def _table(path: Path, *rows: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["question,answer", *rows]), encoding="utf-8")


def test_two_letters_are_no_language_where_the_texts_are_in_another(tmp_path: Path) -> None:
    _table(tmp_path / "in" / "hr.csv", "How do I take leave?,Ask your lead.", "When is payday?,On the last day.")
    _table(tmp_path / "in" / "it.csv", "How do I reset my password?,Use the portal.", "Where is it?,On floor two.")
    inspection = inspect(tmp_path / "in")
    assert [file.language for file in inspection.files] == [None, None] and inspection.language.code == "en"
    assert "the names are taken for no languages: hr looks like en" in describe_inspection(inspection)


@pytest.mark.parametrize(
    "texts",
    [
        {"de": "Wie melde ich einen Schaden?,Rufen Sie uns an.", "en": "How do I claim?,Call us at any time."},
        {"hr": "Kako mogu prijaviti štetu?,Nazovite nas ili ispunite obrazac.", "en": "How do I claim?,Call us."},
        {"sr": "Kako mogu prijaviti štetu?,Nazovite nas ili ispunite obrazac.", "en": "How do I claim?,Call us."},
        {"cn": "请问如何退款？,请在订单页申请。", "en": "How do I claim?,Call us at any time."},
    ],
    ids=lambda texts: "-".join(texts),
)
def test_two_letters_are_a_language_where_the_texts_may_be_in_it(tmp_path: Path, texts: dict[str, str]) -> None:
    for name, row in texts.items():
        _table(tmp_path / "in" / f"{name}.csv", row)
    assert [file.language for file in inspect(tmp_path / "in").files] == sorted(texts)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training", "testing"),
        ("训练集", "测试集"),
        ("客服问答训练集v2", "客服问答测试集v2"),
        ("训练", "测试"),
    ],
)
def test_files_and_columns_name_splits_as_people_do(tmp_path: Path, train: str, test: str) -> None:
    asked = [f"What about {name}?,It is {name} indeed." for name in ("alpha", "beta", "gamma", "delta", "eta", "tau")]
    _table(tmp_path / "in" / f"{train}.csv", *asked[:4])
    _table(tmp_path / "in" / f"{test}.csv", *asked[4:])
    found = inspect(tmp_path / "in")
    assert {file.path.stem: file.split for file in found.files} == {train: "train", test: "test"}
    names = [SPLIT_WORDS[train], SPLIT_WORDS[test]]
    rows = [f"{row},{names[at > 3]}" for at, row in enumerate(asked)]
    (tmp_path / "column.csv").write_text("\n".join(["question,answer,split", *rows]), encoding="utf-8")
    made = write_dataset_yaml(inspect(tmp_path / "column.csv"), "mine", tmp_path / "data")
    dataset = clean_pairs(made.parent, read_dataset_settings(made.parent)).dataset
    assert [len(dataset.queries_of(split)) for split in ("train", "test")] == [4, 2]


SPLIT_WORDS = {
    "training": "Training",
    "testing": "testing",
    "训练集": "训练集",
    "测试集": "测试集",
    "客服问答训练集v2": "训练",
    "客服问答测试集v2": "测试",
    "训练": "训练",
    "测试": "测试",
}


@pytest.mark.parametrize(
    "splits",
    [
        {"faq_train": "train", "faq_eval": "test"},
        {"train": "train", "dev": "test"},
        {"train": "train", "eval": "validation", "test": "test"},
        {"dev": "validation", "test": "test"},
    ],
    ids="-".join,
)
def test_what_is_held_out_is_the_test_where_no_file_is_called_so(tmp_path: Path, splits: dict[str, Split]) -> None:
    for name in splits:
        words = [hashlib.sha256(f"{name}{at}".encode()).hexdigest() for at in range(40)]
        _table(tmp_path / "in" / f"{name}.csv", *(f"What is {word}?,It is {word[::-1]}." for word in words))
    found = inspect(tmp_path / "in")
    assert {file.path.stem: file.split for file in found.files} == splits
    made = write_dataset_yaml(found, "mine", tmp_path / "data")
    dataset = clean_pairs(made.parent, read_dataset_settings(made.parent)).dataset
    assert {query.split for query in dataset.queries} >= {"validation", "test"}


@pytest.mark.parametrize("name", ["软件测试问答", "contest", "latest", "测试题库"])
def test_other_words_name_no_split(tmp_path: Path, name: str) -> None:
    for stem in (name, "other"):
        _table(tmp_path / "in" / f"{stem}.csv", "What is it?,A thing.")
    assert {file.split for file in inspect(tmp_path / "in").files} == {None}


def test_a_raw_csv_becomes_a_data_set_that_needs_no_edit(tmp_path: Path) -> None:
    rows = ["Nr;Frage;Antwort;Thema;Bemerkung"]
    rows += [
        f"{i};Wie hoch ist der Betrag {i * 7919} in Zeile {i}?;Das ist die Antwort {i}, und sie ist lang.;T{i % 3};x{i}"
        for i in range(120)
    ]
    (tmp_path / "Kunden Fragen.csv").write_bytes("\r\n".join(rows).encode("cp1252"))
    made = write_dataset_yaml(inspect(tmp_path / "Kunden Fragen.csv"), "mine", tmp_path / "data")
    settings = read_dataset_settings(made.parent)
    dataset = clean_pairs(made.parent, settings).dataset
    assert settings.language == "de"
    assert len(dataset.queries) == 120 and len(dataset.passages) == 120
    assert {query.split for query in dataset.queries} == {"train", "validation", "test"}
    assert {name for query in dataset.queries for name in query.attributes} == {"Thema"}
    text = made.read_text(encoding="utf-8")
    assert "# Kunden Fragen.csv: Frage is the question: its name." in text and "not read: Nr, Bemerkung" in text


def test_ids_that_count_the_rows_of_each_file_are_left_out_and_others_stay(tmp_path: Path) -> None:
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]
    for folder, first in (("counted", 0), ("own", 3)):
        (tmp_path / folder).mkdir()
        for name, start, some in (("train", 0, words[:3]), ("test", first, words[3:])):
            rows = [f"{start + at},Where does {word} stand?,In place {word}." for at, word in enumerate(some)]
            (tmp_path / folder / f"{name}.csv").write_text("\n".join(["id,question,answer", *rows]), encoding="utf-8")
    found = {folder: inspect(tmp_path / folder) for folder in ("counted", "own")}
    assert [file.columns and file.columns.id for file in found["counted"].files] == [None, None]
    assert [file.columns and file.columns.id for file in found["own"].files] == ["id", "id"]
    assert (found["counted"].queries, found["own"].queries) == (6, 6)
    assert "train.csv: id is left out: the files have the same ids" in describe_inspection(found["counted"])
    for folder, inspection in found.items():
        made = write_dataset_yaml(inspection, folder, tmp_path / "data")
        dataset = clean_pairs(made.parent, read_dataset_settings(made.parent)).dataset
        assert len(dataset.queries) == 6 and len(dataset.queries_of("test")) == 3


def test_columns_without_telling_names_are_found_by_question_marks_and_length(tmp_path: Path) -> None:
    rows = ["a,b,c", *(f"{i},这是第{i}个很长很长的回答,第{i}个问题是什么？" for i in range(60))]
    (tmp_path / "x.csv").write_bytes("\n".join(rows).encode("gb18030"))
    (file,) = inspect(tmp_path / "x.csv").files
    assert file.columns is not None and (file.columns.query, file.columns.passage) == ("c", "b")


def test_a_folder_that_is_one_data_set_becomes_a_file_a_split(tmp_path: Path) -> None:
    dataset = build_dataset(
        [Query("a", "What is the first?", "train"), Query("b", "And what is the second?", "test")],
        [Passage("p", "one"), Passage("r", "two")],
        [Judgment("a", "p", 2), Judgment("b", "r")],
    )
    FORMATS["beir"].write(dataset, tmp_path / "in", True)
    made = write_dataset_yaml(inspect(tmp_path / "in"), "mine", tmp_path / "data")
    assert sorted(path.name for path in made.parent.iterdir()) == ["dataset.yaml", "test.json", "train.json"]


def test_nothing_is_overwritten_and_nothing_is_left_of_a_refusal(tmp_path: Path) -> None:
    _pairs(tmp_path / "in", "test.json.gz", 0, 60)
    inspection = inspect(tmp_path / "in")
    first = write_dataset_yaml(inspection, "mine", tmp_path / "data")
    before = first.read_bytes()
    with pytest.raises(ValueError, match="nothing is overwritten"):
        write_dataset_yaml(inspection, "mine", tmp_path / "data")
    with pytest.raises(ValueError, match="a-z, 0-9 and _"):
        write_dataset_yaml(inspection, "My Set", tmp_path / "data")
    assert write_dataset_yaml(inspection, "again", tmp_path / "data").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["again", "mine"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="found none"):
        inspect(tmp_path / "empty")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("理赔需要多长时间", "zh"),
        ("保険金はいつ支払われますか", "ja"),
        ("보험금은 언제 지급되나요", "ko"),
        ("Когда будет выплата", "ru"),
        ("متى يتم الدفع", "ar"),
        ("When is the claim paid and what do I need", "en"),
        ("Wann wird der Betrag gezahlt und was ist nötig", "de"),
        ("Quand est-ce que la prime est payée et par qui", "fr"),
        ("¿Cuándo se paga la prima y por qué es así en el contrato?", "es"),
        ("Quando viene pagato il premio e come è nel contratto", "it"),
        ("Quando é pago o prémio e por que não para uma pessoa", "pt"),
        ("Wanneer wordt het bedrag betaald en wat moet ik met de polis", "nl"),
        ("Când se plătește prima și cine o plătește", "ro"),
        ("Prim ne zaman ödenir ve kim öder", "tr"),
        ("Khi nào phí bảo hiểm được thanh toán", "vi"),
        ("知觉 疼痛 湿疹", "zh"),
        ("保險責任包括意外傷害身故、殘疾以及醫療費用", "zh"),
        ("保険金請求書類提出期限 契約者変更手続 給付金支払日について", "ja"),
        ("보험 계약자는 保險金 請求 書類를 提出하여야 합니다", "ko"),
        ("iPhone 14 Pro Max 256GB", "en"),
        ("123 ?!", "en"),
    ],
)
def test_a_language_is_known_from_a_few_words(text: str, code: str) -> None:
    assert guess_language([text]).code == code
