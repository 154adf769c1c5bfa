"""What is a question, a passage, a grade and a label in tables as people and tools lay them out."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from embed_pipeline.dataset.exchange.column_guess import guess_separators
from embed_pipeline.dataset.exchange.inspection import Inspection, inspect
from embed_pipeline.dataset.exchange.registry import read_content
from embed_pipeline.dataset.exchange.starting import describe_inspection, write_dataset_yaml
from embed_pipeline.dataset.settings import TableColumns, read_dataset_settings

LABELS = ["card_arrival", "lost_card", "pin"]
ASKED = [f"please tell me about the {at} things of my card" for at in range(60)]
ANSWERS = [f"Go to office {at} of the bank and take the paper with you." for at in range(60)]
CHINESE = [f"请问卡片{at}丢失了应该如何处理" for at in range(60)]


def _lines(header: str, *columns: Sequence[object]) -> str:
    names = header.split(",")
    return "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in zip(*columns, strict=True))


def _inspect(path: Path, header: str, *columns: Sequence[object]) -> Inspection:
    if path.suffix == ".jsonl":
        text = _lines(header, *columns)
    else:
        rows = [header, *(",".join(map(str, row)) for row in zip(*columns, strict=True))]
        text = "\n".join(rows)
    path.write_text(text, encoding="utf-8")
    return inspect(path)


def _columns(found: Inspection) -> TableColumns:
    columns = found.files[0].columns
    assert columns is not None
    return columns


def _labels(names: Sequence[object] = LABELS) -> list[object]:
    return [names[at % len(names)] for at in range(60)]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize(
    "header", ["text,category", "text,label", "content,category", "document,label", "text,intent", "文本,类别"]
)
def test_of_a_text_and_its_label_the_text_is_the_question(tmp_path: Path, header: str, kind: str) -> None:
    found = _inspect(tmp_path / f"intents.{kind}", header, ASKED, _labels())
    columns = _columns(found)
    assert (columns.query, columns.passage) == tuple(header.split(","))
    assert (found.queries, found.passages, found.is_label_corpus) == (60, 3, True)


@pytest.mark.parametrize("header", ["text,label,label_text", "text,label_text,label", "text,label,category"])
def test_of_numbers_and_words_for_a_label_the_words_are_taken(tmp_path: Path, header: str) -> None:
    by_name = {"text": ASKED, "label": _labels([0, 1, 2]), "label_text": _labels(), "category": _labels()}
    found = _inspect(tmp_path / "a.jsonl", header, *(by_name[name] for name in header.split(",")))
    assert _columns(found).passage in ("label_text", "category")


def test_numbers_are_labels_where_nothing_else_is(tmp_path: Path) -> None:
    columns = _columns(_inspect(tmp_path / "a.csv", "text,label", ASKED, _labels([0, 1, 2])))
    assert (columns.query, columns.passage, columns.grade) == ("text", "label", None)


@pytest.mark.parametrize(
    ("header", "query", "passage"),
    [
        ("title,text,label", "title", "text"),
        ("text,title,category", "title", "text"),
        ("text,summary,category", "summary", "text"),
        ("内容,摘要,类别", "摘要", "内容"),
        ("Anliegen,content,category", "Anliegen", "content"),
        ("question,text,label", "question", "text"),
        ("text,answer,category", "text", "answer"),
        ("Frage,Lösung,Kategorie", "Frage", "Lösung"),
        ("问题,解决的办法,类型", "问题", "解决的办法"),
        ("问题,答案,category", "问题", "答案"),
    ],
)
def test_a_label_beside_a_question_and_its_answer_is_neither(
    tmp_path: Path, header: str, query: str, passage: str
) -> None:
    labels = {"label", "category", "Kategorie", "类型"}
    columns = [_labels() if name in labels else ANSWERS if name == passage else ASKED for name in header.split(",")]
    found = _columns(_inspect(tmp_path / "faq.csv", header, *columns))
    assert (found.query, found.passage) == (query, passage)


@pytest.mark.parametrize(
    "header", ["问题,类别,备注", "问题,分类,备注", "Frage,Kategorie,Bemerkung", "question,labels,notes"]
)
def test_remarks_are_no_passages_beside_labels(tmp_path: Path, header: str) -> None:
    remarks = [f"seen by Ann on day {at} and it is fine" for at in range(60)]
    assert _columns(_inspect(tmp_path / "a.csv", header, CHINESE, _labels(), remarks)).passage == header.split(",")[1]


@pytest.mark.parametrize("header", ["topic,content", "category,text", "分类,内容", "content,topic"])
def test_a_label_that_differs_in_every_row_is_the_title_of_its_text(tmp_path: Path, header: str) -> None:
    texts = {"content", "text", "内容"}
    topics = [f"card {at}" for at in range(60)]
    columns = [ANSWERS if name in texts else topics for name in header.split(",")]
    assert _columns(_inspect(tmp_path / "a.csv", header, *columns)).passage in texts


def test_of_a_few_texts_labels_behind_them_may_all_differ(tmp_path: Path) -> None:
    columns = _columns(_inspect(tmp_path / "a.csv", "text,label", ASKED[:3], LABELS))
    assert (columns.query, columns.passage) == ("text", "label")


@pytest.mark.parametrize(
    "header",
    [
        "term,text,category",
        "name,content,category",
        "keyword,content,category",
        "article,text,topic",
        "名称,内容,类别",
        "知识点,内容,分类",
        "title,content,category",
    ],
)
def test_what_a_text_is_about_is_asked_where_the_text_has_a_group(tmp_path: Path, header: str) -> None:
    subjects = [f"card {at}" for at in range(60)]
    columns = _columns(_inspect(tmp_path / "a.csv", header, subjects, ANSWERS, _labels()))
    assert [columns.query, columns.passage] == header.split(",")[:2]


@pytest.mark.parametrize(
    ("header", "subjects"),
    [
        ("name,text,sentiment", [f"Ann {at}" for at in range(60)]),
        ("term,text,label", [f"card {at}" for at in range(60)]),
        ("summary,text,label", [f"card {at}" for at in range(60)]),
        ("keyword,text,category", [f"card {at % 9}" for at in range(60)]),
    ],
)
def test_a_name_beside_a_text_and_its_label_or_one_that_repeats_is_not_asked(
    tmp_path: Path, header: str, subjects: list[str]
) -> None:
    columns = _columns(_inspect(tmp_path / "a.csv", header, subjects, ASKED, _labels()))
    assert [columns.query, columns.passage] == header.split(",")[1:]


@pytest.mark.parametrize("header", ["content,category,faq", "text,category,user_question", "内容,类型,客户问题"])
def test_a_column_that_asks_is_the_question_of_the_text_before_it(tmp_path: Path, header: str) -> None:
    text, _, asking = header.split(",")
    asked = [f"{question}?" for question in ASKED]
    columns = _columns(_inspect(tmp_path / "a.csv", header, ANSWERS, _labels(), asked))
    assert (columns.query, columns.passage) == (asking, text)


@pytest.mark.parametrize("header", ["text,label,paraphrase", "text,label,translation"])
def test_a_text_that_asks_as_much_as_another_is_the_question_of_its_label(tmp_path: Path, header: str) -> None:
    asked = [f"{question}?" for question in ASKED]
    columns = _columns(_inspect(tmp_path / "a.csv", header, asked, _labels(), asked[::-1]))
    assert (columns.query, columns.passage) == ("text", "label")


@pytest.mark.parametrize(
    ("header", "passage"),
    [
        ("name,comment,label", "label"),
        ("date,comment,label", "label"),
        ("customer,notes,category", "category"),
        ("user,comment,response", "response"),
        ("date,comment,answer", "answer"),
        ("author,comment,sentiment", "sentiment"),
        ("作者,备注,标签", "标签"),
    ],
)
def test_comments_are_asked_where_only_names_and_dates_stand_beside_them(
    tmp_path: Path, header: str, passage: str
) -> None:
    who, comment, _ = header.split(",")
    passages = ANSWERS if passage in ("response", "answer") else _labels()
    stamps = [f"2024-05-{1 + at % 28:02}" if who == "date" else f"Ann {at % 9}" for at in range(60)]
    columns = _columns(_inspect(tmp_path / "a.csv", header, stamps, ASKED, passages))
    assert (columns.query, columns.passage) == (comment, passage)


@pytest.mark.parametrize(
    ("header", "texts"),
    [
        ("Anliegen,comment,label", ASKED),
        ("title,comment,answer", [f"Card {at}" for at in range(60)]),
        ("symptom,comment,label", [f"cough {at}" for at in range(60)]),
    ],
)
def test_comments_are_not_asked_beside_texts_and_titles_or_where_few_rows_have_one(
    tmp_path: Path, header: str, texts: list[str]
) -> None:
    comments = [remark if at % 3 == 0 or "symptom" not in header else "" for at, remark in enumerate(ASKED)]
    passages = ANSWERS if "answer" in header else _labels()
    columns = _columns(_inspect(tmp_path / "a.csv", header, texts, comments, passages))
    assert [columns.query, columns.passage] == header.split(",")[::2]


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("question,answer,label", [0, 1, 0]),
        ("question1,question2,is_duplicate", [0, 1]),
        ("sentence1,sentence2,label", ["0", "1"]),
        ("query,passage,is_relevant", ["true", "False"]),
        ("question,answer,is_correct", [True, False]),
    ],
)
def test_a_column_of_0_and_1_beside_a_question_and_a_passage_says_whether_it_is_relevant(
    tmp_path: Path, header: str, values: list[object]
) -> None:
    flags = _labels(values)
    found = _inspect(tmp_path / "a.jsonl", header, ASKED, ANSWERS, flags)
    columns = _columns(found)
    assert [columns.query, columns.passage, columns.grade] == header.split(",")
    judged = [grade for judgments in found.files[0].content.relevant.values() for grade in judgments.values()]
    assert judged == [int(str(flag).lower() in ("1", "true")) for flag in flags]
    made = write_dataset_yaml(found, "mine", tmp_path / "data")
    (entry,) = read_dataset_settings(made.parent).pairs
    assert read_content(made.parent / entry.file, entry.format, entry.columns) == found.files[0].content


@pytest.mark.parametrize(("header", "values"), [("question,answer,label", [0, 2]), ("question,answer,label", [0])])
def test_other_numbers_in_a_column_called_label_are_no_grades(
    tmp_path: Path, header: str, values: list[object]
) -> None:
    assert _columns(_inspect(tmp_path / "a.csv", header, ASKED, ANSWERS, _labels(values))).grade is None


# What cannot be read


def test_a_column_of_answers_that_cannot_be_read_is_not_replaced_by_another(tmp_path: Path) -> None:
    answers = [True if at == 3 else answer for at, answer in enumerate(ANSWERS)]
    with pytest.raises(
        ValueError, match=r"a\.jsonl: expected texts as passages, found that answer holds True \(line 4\)"
    ):
        _inspect(tmp_path / "a.jsonl", "question,answer,comment,category", ASKED, answers, ANSWERS, _labels())
    with pytest.raises(ValueError, match=r"a\.csv: expected headers that differ, found 'answer' as columns \[2, 3\]"):
        _inspect(tmp_path / "a.csv", "question,answer,answer,category", ASKED, ANSWERS, ANSWERS, _labels())
    with pytest.raises(ValueError, match=r"a\.jsonl: expected texts as labels, found that label holds \['pin'\]"):
        _inspect(tmp_path / "a.jsonl", "text,label,source", ASKED, [["pin"]] * 60, _labels())


def test_lists_and_a_header_twice_stop_nothing_where_another_column_is_called_so(tmp_path: Path) -> None:
    spans = [{"start": [at]} for at in range(60)]
    found = _inspect(tmp_path / "squad.jsonl", "question,context,answers", ASKED, ANSWERS, spans)
    assert _columns(found).passage == "context"
    found = _inspect(tmp_path / "turns.jsonl", "query,context,intent", ASKED, [["hello"]] * 60, _labels())
    assert _columns(found).passage == "intent"
    found = _inspect(tmp_path / "a.csv", "question,context,answer,answer", ASKED, ANSWERS, ASKED, ASKED)
    assert _columns(found).passage == "context"


# Headers that are none


@pytest.mark.parametrize("passages", [_labels(), ANSWERS], ids=["labels", "answers"])
def test_a_table_without_a_header_is_told(tmp_path: Path, passages: list[str]) -> None:
    found = _inspect(tmp_path / "a.csv", f"how do I get a card without a fee,{passages[1]}", ASKED, passages)
    assert "The header reads like a row of the data" in describe_inspection(found)


@pytest.mark.parametrize("header", ["utterance,class of it", "a,b", "customer,Beschreibung", "text,label"])
def test_a_header_of_unknown_names_is_not_taken_for_a_row(tmp_path: Path, header: str) -> None:
    for passages in (_labels(), ANSWERS):
        assert "reads like a row" not in describe_inspection(_inspect(tmp_path / "a.csv", header, ASKED, passages))


# Several labels in a cell

LONG = ["Thyroid nodule", "Hypertension", "Diabetes mellitus", "Asthma", "Knee arthrosis", "Migraine", "Gout"]


@pytest.mark.parametrize("separator", ["; ", "、", "\n", " | ", ", "])
def test_labels_are_parted_where_cells_are_long_or_none_is_single(separator: str) -> None:
    several = [separator.join(LONG[(at + step) % 7] for step in (0, 2, 3)) for at in range(7)] * 3
    assert guess_separators(several) == (separator.strip(" "),)
    assert guess_separators([*several, *LONG]) == (separator.strip(" "),)


def test_numbers_of_labels_are_parted_by_what_stands_in_no_number() -> None:
    assert guess_separators(["3;5", "5;3", "3;7", "7;3", "5;7", "7;5"] * 5) == (";",)


@pytest.mark.parametrize(
    "cells",
    [
        [f"{answer}; {then}" for answer in ("Yes", "No") for then in ("call us", "write to us", "come to us")] * 5,
        [f"{answer}, {then}" for answer in ("Yes, of course", "No") for then in ("call us.", "write.", "come.")] * 5,
        [f"{card}/{what}" for card in ("Card", "Account", "Loan") for what in ("lost", "stolen", "closed")] * 5,
        ["Berlin, Germany", "Munich, Germany", "Paris, France", "Lyon, France"] * 6,
        ["1,000", "2,000", "10,000,000", "1,500,000"] * 5,
        ["Go to the desk, ask for Ann, and pay.", "Please call us, or write.", "No, never, not at all."] * 7,
        [f"Open the app\nTap {what}\nChoose {then}" for what in ("Help", "Cards") for then in ("lost", "new")] * 6,
        ["7/12/2024", "12/7/2024", "1/7/2024", "7/1/2024", "3/4", "4/3", "2/4", "4/2"] * 5,
        ["3,5", "5,3", "3,7", "7,3", "5,7", "7,5"] * 5,
    ],
)
def test_sentences_levels_and_numbers_are_not_parted(cells: list[str]) -> None:
    assert guess_separators(cells) == ()
