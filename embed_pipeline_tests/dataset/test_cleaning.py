import os
import random
import re
import shutil
from pathlib import Path

import pytest

from embed_pipeline.dataset.audit import find_leaks
from embed_pipeline.dataset.cleaning import CleanedData, clean_rows, clean_workbooks, write_cleaned
from embed_pipeline.dataset.formats import read_dataset
from embed_pipeline.dataset.label_list import LabelList
from embed_pipeline.dataset.ledger import LedgerEntry, read_ledger, summarise_ledger
from embed_pipeline.dataset.normalisation import normalise_text, passage_id, query_id
from embed_pipeline.dataset.settings import DatasetSettings
from embed_pipeline.dataset.splitting import hash_split
from embed_pipeline.dataset.workbook import RawCell, RawRow
from embed_pipeline_tests.stopwatch import fastest

LABELS = LabelList(("糖尿病", "高血压", "脂肪肝", "甲状腺结节"))
HEADER = ("Question", "Label", "Label2")


def row(number: int, question: str | RawCell, *labels: str | RawCell) -> RawRow:
    def cell(column: str, value: str | RawCell) -> RawCell:
        return value if isinstance(value, RawCell) else RawCell(column, value)

    names = ("Label", "Label2")
    cells = tuple(cell(name, value) for name, value in zip(names, (*labels, "", "")[:2], strict=True))
    return RawRow("book.xlsx", "Sheet1", number, cell("Question", question), cells)


def labels_by_question(cleaned: CleanedData) -> dict[str, set[str]]:
    texts = {passage.id: passage.text for passage in cleaned.dataset.passages}
    grades = cleaned.dataset.relevant()
    return {query.text: {texts[p] for p in grades[query.id]} for query in cleaned.dataset.queries}


def told(entry: LedgerEntry) -> tuple[int, str | None, str]:
    return entry.row, entry.column, entry.reason


def test_several_labels_in_a_cell_are_counted_and_with_their_separator_read(settings: DatasetSettings) -> None:
    rows = [
        row(2, "两个标签", "糖尿病、高血压"),
        row(3, "换行", "糖尿病\n脂肪肝", "高血压"),
        row(4, "全角分号", "高血压；糖尿病"),
        row(5, "一个不在表里", "高血压、糖尿并"),
    ]
    cleaned = clean_rows(rows, LABELS, settings)
    assert summarise_ledger(cleaned.ledger) == {"no_known_label": 3, "unknown_label": 1, "several_labels": 3}
    assert "several labels of the list between '、'. Name it in columns, label_separators" in cleaned.ledger[0].detail
    assert settings.columns is not None
    columns = settings.columns.model_copy(update={"label_separators": ("、", ";", "\n")})
    cleaned = clean_rows(rows, LABELS, settings.model_copy(update={"columns": columns}))
    assert labels_by_question(cleaned) == {
        "两个标签": {"糖尿病", "高血压"},
        "换行": {"糖尿病", "脂肪肝", "高血压"},
        "全角分号": {"高血压", "糖尿病"},
        "一个不在表里": {"高血压"},
    }
    assert list(map(told, cleaned.ledger)) == [(5, "Label", "unknown_label")]


def test_a_label_that_holds_a_separator_stays_whole(settings: DatasetSettings) -> None:
    labels = LabelList(("fees, charges", "fees", "loans"))
    assert settings.columns is not None
    columns = settings.columns.model_copy(update={"label_separators": (",",)})
    rows = [row(2, "one", "fees, charges"), row(3, "two", "fees, loans")]
    cleaned = clean_rows(rows, labels, settings.model_copy(update={"columns": columns}))
    assert labels_by_question(cleaned) == {"one": {"fees, charges"}, "two": {"fees", "loans"}}


@pytest.mark.parametrize("separators", [(";", "/"), ("/", ";"), ("/", ";", ", ")])
def test_a_label_that_holds_a_separator_stays_whole_among_others(
    settings: DatasetSettings, separators: tuple[str, ...]
) -> None:
    labels = LabelList(("Cash/Card", "Refund", "Card", "A/B/C", "B", "Fees; other", normalise_text("白细胞>10⁹/L")))
    assert settings.columns is not None
    columns = settings.columns.model_copy(update={"label_separators": separators})
    cells = {
        "Cash/Card; Refund": {"Cash/Card", "Refund"},
        "Refund；Cash／Card": {"Cash/Card", "Refund"},
        "Refund/Cash/Card": {"Cash/Card", "Refund"},
        "Card/Refund": {"Card", "Refund"},
        "Cash / Card ;; Refund;": {"Card", "Refund"},
        "B/A/B/C": {"B", "A/B/C"},
        "Fees; other/Card": {"Fees; other", "Card"},
        "白细胞>10⁹/L；Refund": {"白细胞>10^9/L", "Refund"},
        "Refund": {"Refund"},
    }
    rows = [row(at, f"q{at}", cell) for at, cell in enumerate(cells, start=2)]
    cleaned = clean_rows(rows, labels, settings.model_copy(update={"columns": columns}))
    assert labels_by_question(cleaned) == {f"q{at}": found for at, found in enumerate(cells.values(), start=2)}
    assert [(entry.row, entry.reason, entry.value) for entry in cleaned.ledger] == [(6, "unknown_label", "Cash")]


@pytest.mark.parametrize("separators", [("、",), (";", "、", "\n"), (", ", "/", "|")])
def test_where_no_label_holds_a_separator_cells_are_parted_at_each(
    settings: DatasetSettings, separators: tuple[str, ...]
) -> None:
    labels = LabelList(("a", "b", "c", "d"))
    assert settings.columns is not None
    columns = settings.columns.model_copy(update={"label_separators": separators})
    chance = random.Random(0)
    cells = ["".join(chance.choices(["a", "b ", " c", "x", *separators], k=9)) for _ in range(300)]
    rows = [row(at, f"{at * 7919} {cell}", cell) for at, cell in enumerate(cells, start=2)]
    cleaned = clean_rows(rows, labels, settings.model_copy(update={"columns": columns}))
    pattern = "|".join(map(re.escape, separators))
    parts = [{" ".join(part.split()) for part in re.split(pattern, cell)} - {""} for cell in cells]
    told = {(entry.row, entry.value) for entry in cleaned.ledger if entry.reason == "unknown_label"}
    assert told == {(at, part) for at, found in enumerate(parts, 2) for part in found if part not in labels}


def test_a_cell_of_thousands_of_parts_is_parted_at_once(settings: DatasetSettings) -> None:
    assert settings.columns is not None
    columns = settings.columns.model_copy(update={"label_separators": (";", "/")})
    labels = LabelList(("a/b", "c"))
    rows = [row(2, "one", "a/b;c;x/" * 4000)]
    settings = settings.model_copy(update={"columns": columns})
    assert labels_by_question(clean_rows(rows, labels, settings)) == {"one": {"a/b", "c"}}
    assert fastest(lambda: clean_rows(rows, labels, settings)) < 5


def test_each_rule_has_its_reason_row_and_column(settings: DatasetSettings) -> None:
    number = RawCell("Label", "3.5", "not_text")
    cleaned = clean_rows(
        [
            row(2, "有点脂肪肝", "脂肪肝"),
            row(3, " \u3000", "脂肪肝"),
            row(4, "没有标签", "", " "),
            row(5, "标签不在表里", "糖尿并"),
            row(6, "一个已知", "糖尿并", "高血压"),
            row(7, "有点 脂肪肝", "高血压"),
            row(8, "有点脂肪肝 ", "高血压"),
            row(9, "同一个标签两次", "高血压", "高血压 "),
            row(10, RawCell("Question", "12", "not_text"), "高血压"),
            row(11, RawCell("Question", "=A1", "formula_without_value"), "高血压"),
            row(12, RawCell("Question", "#N/A", "error_value"), "高血压"),
            row(13, "标签是数字", number),
            row(14, "标签是公式", RawCell("Label", "=B1", "formula_without_value"), "糖尿病"),
            row(15, "标签是错误", RawCell("Label", "#REF!", "error_value"), "糖尿病"),
        ],
        LABELS,
        settings,
    )
    assert list(map(told, cleaned.ledger)) == [
        (3, None, "empty_question"),
        (4, None, "no_label"),
        (5, "Label", "unknown_label"),
        (5, None, "no_known_label"),
        (6, "Label", "unknown_label"),
        (8, None, "duplicate_question"),
        (9, "Label2", "duplicate_label"),
        (10, "Question", "question_not_text"),
        (11, "Question", "question_formula_without_value"),
        (12, "Question", "question_error_value"),
        (13, "Label", "label_not_text"),
        (13, None, "no_known_label"),
        (14, "Label", "label_formula_without_value"),
        (15, "Label", "label_error_value"),
    ]
    unknown = cleaned.ledger[2]
    assert (unknown.value, unknown.nearest, unknown.nearest_score) == ("糖尿并", "糖尿病", 66.7)
    assert "book.xlsx, sheet Sheet1, row 2" in cleaned.ledger[5].detail
    assert labels_by_question(cleaned) == {
        "有点脂肪肝": {"脂肪肝", "高血压"},
        "有点 脂肪肝": {"高血压"},
        "一个已知": {"高血压"},
        "同一个标签两次": {"高血压"},
        "标签是公式": {"糖尿病"},
        "标签是错误": {"糖尿病"},
    }
    assert summarise_ledger(cleaned.ledger)["no_known_label"] == 2


def test_corpus_is_the_whole_label_list_with_ids_from_the_texts(settings: DatasetSettings) -> None:
    cleaned = clean_rows([row(2, "问", "糖尿病")], LABELS, settings)
    assert {passage.text: passage.id for passage in cleaned.dataset.passages} == {
        t: passage_id(t) for t in LABELS.texts
    }
    assert cleaned.dataset.queries[0].id == query_id("问")
    assert cleaned.dataset.queries[0].split == hash_split("问", settings.split)


def test_every_row_is_a_query_united_or_rejected(settings: DatasetSettings) -> None:
    chance = random.Random(2)
    questions = ["", "甲", "乙", "丙", "丁", *(f"很长的一个问题用来产生近似重复{n}" * 3 for n in range(5))]
    rows = [
        row(n, chance.choice(questions), *chance.choices(["", "糖尿病", "高血压", "未知", "糖尿病 "], k=2))
        for n in range(2, 300)
    ]
    counts = clean_rows(rows, LABELS, settings).counts
    assert counts.rows == 298 == counts.queries + counts.rows_united + counts.rows_rejected
    assert min(counts.queries, counts.rows_united, counts.rows_rejected, counts.cells_rejected) > 0


def test_near_duplicate_of_two_splits_is_left_out_and_names_both(settings: DatasetSettings) -> None:
    left, right = "零一二三四五六七八九", "甲乙丙丁戊己庚辛壬癸"
    number = next(
        n for n in range(99) if len({hash_split(f"{n}{text}" * 2, settings.split) for text in (left, right)}) == 2
    )
    first, second = f"{number}{left}" * 2, f"{number}{right}" * 2
    loose = settings.model_copy(update={"near_duplicate_threshold": 0.4})
    rows = [row(2, first, "糖尿病"), row(3, second, "糖尿病"), row(4, first + second, "糖尿病"), row(5, "", "糖尿病")]
    cleaned = clean_rows(rows, LABELS, loose)
    assert list(map(told, cleaned.ledger)) == [(4, None, "near_duplicate_across_splits"), (5, None, "empty_question")]
    for place in ("row 2", "row 3", query_id(first), query_id(second)):
        assert place in cleaned.ledger[0].detail
    assert {query.text for query in cleaned.dataset.queries} == {first, second}


def test_nothing_usable_is_an_error(settings: DatasetSettings) -> None:
    with pytest.raises(ValueError, match=r"2 rows read and none usable.*empty_question"):
        clean_rows([row(2, "", "糖尿病"), row(3, "问", "")], LABELS, settings)
    with pytest.raises(ValueError, match="0 rows read"):
        clean_rows([], LABELS, settings)


def make_rows(chance: random.Random, count: int) -> list[tuple[str, str, str]]:
    rows = []
    for _ in range(count):
        words = chance.choices(
            ["有点脂肪肝", "体检发现", "去年", "能买百万医疗吗", "经纪人您好", "血糖偏高", "结节三级"], k=9
        )
        rows.append(("，".join(words), *chance.choices(["糖尿病", "高血压", "脂肪肝", "未知病", ""], k=2)))
    return rows


def written(folder: Path, settings: DatasetSettings, out: Path) -> dict[str, bytes]:
    out.mkdir()
    write_cleaned(clean_workbooks(folder, settings), out)
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "disease"
    folder.mkdir()
    (folder / "labels.txt").write_text("\n".join(LABELS.texts), encoding="utf-8")
    return folder


def test_new_workbook_moves_no_old_query_and_leaks_nothing(
    tmp_path: Path, folder: Path, settings: DatasetSettings, write_workbook
) -> None:
    chance = random.Random(7)
    loose = settings.model_copy(update={"near_duplicate_threshold": 0.6})
    write_workbook([HEADER, *make_rows(chance, 150)], "a.xlsx", folder=folder)
    old = {query.text: query for query in clean_workbooks(folder, loose).dataset.queries}
    for batch in ("b", "c"):
        write_workbook([HEADER, *make_rows(chance, 150)], f"{batch}.xlsx", folder=folder)
        cleaned = clean_workbooks(folder, loose)
        new = {query.text: query for query in cleaned.dataset.queries}
        assert {text: new[text] for text in old} == old
        assert len(new) > len(old)
        assert find_leaks(cleaned.dataset, 0.6) == ()
        old = new
    assert summarise_ledger(cleaned.ledger)["near_duplicate_across_splits"] > 0, "the texts are too unlike to test"


def test_bytes_depend_on_the_cells_alone(
    tmp_path: Path, folder: Path, settings: DatasetSettings, write_workbook
) -> None:
    from openpyxl import load_workbook
    from openpyxl.styles import Font

    path = write_workbook([HEADER, *make_rows(random.Random(1), 40)], "a.xlsx", folder=folder)
    first = written(folder, settings, tmp_path / "first")
    assert set(first) == {"queries.jsonl", "corpus.jsonl", "judgments.jsonl", "ledger.jsonl"}
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    workbook = load_workbook(path)
    workbook["Sheet1"]["A2"].font = Font(bold=True)
    workbook.properties.creator = "someone"
    workbook.save(moved / "a.xlsx")
    os.utime(moved / "a.xlsx", (0, 0))
    assert (moved / "a.xlsx").read_bytes() != path.read_bytes()
    assert written(moved, settings, tmp_path / "second") == first


def test_what_is_written_is_read(tmp_path: Path, folder: Path, settings: DatasetSettings, write_workbook) -> None:
    write_workbook([HEADER, *make_rows(random.Random(1), 40), ("长" * 200, "", "")], "a.xlsx", folder=folder)
    cleaned = clean_workbooks(folder, settings)
    write_cleaned(cleaned, tmp_path)
    assert read_dataset(tmp_path) == cleaned.dataset
    assert read_ledger(tmp_path / "ledger.jsonl") == cleaned.ledger
    assert cleaned.ledger[-1].value == "长" * 79 + "…"


def test_ledger_is_in_reading_order_of_several_workbooks(
    folder: Path, settings: DatasetSettings, write_workbook
) -> None:
    write_workbook([HEADER, ("问一", "高血压"), ("", "高血压")], "late.xlsx", folder=folder)
    write_workbook([HEADER, ("问二", "高血压"), ("问一", "糖尿病")], "early.xlsx", folder=folder)
    listed = settings.model_copy(update={"workbooks": ("late.xlsx", "early.xlsx")})
    cleaned = clean_workbooks(folder, listed)
    assert [(e.workbook, e.row, e.reason) for e in cleaned.ledger] == [
        ("late.xlsx", 3, "empty_question"),
        ("early.xlsx", 3, "duplicate_question"),
    ]
    assert labels_by_question(cleaned)["问一"] == {"高血压", "糖尿病"}


def test_progress_is_told_to_the_last_row(folder: Path, settings: DatasetSettings, write_workbook) -> None:
    write_workbook([HEADER, *((f"问{n}", "高血压") for n in range(2100))], "a.xlsx", folder=folder)
    seen: list[int] = []
    clean_workbooks(folder, settings, progress=seen.append)
    assert seen == [1000, 2000, 2100]
