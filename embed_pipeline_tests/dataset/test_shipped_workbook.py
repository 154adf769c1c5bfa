"""Laws of the shipped disease data, checked on the files themselves with openpyxl and nothing of the package.

The counts come from the issue that asked for the data: how many rows, labels to a row, rows that name a label, and each
flaw of a real sheet.
"""

import subprocess
import sys
import unicodedata
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from openpyxl import load_workbook

DATASET = Path(__file__).resolve().parents[2] / "data" / "disease"
COLUMNS = ("Question", "Thinking", "Label", "Label2", "Label3", "Label4", "Label5", "Label6")
WORKBOOKS = ("disease.xlsx", "incoming/new_disease.xlsx")


@dataclass(frozen=True)
class Line:
    """A row of a sheet as it stands; None is an empty cell."""

    question: str | None
    labels: tuple[str | None, ...]

    @property
    def label_names(self) -> list[str]:
        return [unicodedata.normalize("NFKC", label).strip() for label in self.labels if label]


def read_lines(name: str) -> list[Line]:
    workbook = load_workbook(DATASET / name, read_only=True)
    (sheet,) = workbook.worksheets
    header, *rows = sheet.iter_rows(values_only=True)
    workbook.close()
    assert tuple(header) == COLUMNS
    texts = [[None if value is None else str(value) for value in row] for row in rows]
    return [Line(row[0], tuple((*row[2:], *[None] * 6)[:6])) for row in texts]


def plain(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    return read_lines("disease.xlsx")


@pytest.fixture(scope="module")
def later_lines() -> list[Line]:
    return read_lines("incoming/new_disease.xlsx")


@pytest.fixture(scope="module")
def known_labels() -> list[str]:
    return (DATASET / "labels.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def whole_lines(lines: list[Line]) -> list[Line]:
    return [line for line in lines if line.question and line.question.strip() and line.label_names]


def test_first_workbook_has_four_thousand_rows_and_the_later_one_a_thousand(
    lines: list[Line], later_lines: list[Line]
) -> None:
    assert len(lines) == 4000
    assert len(later_lines) == 1000


def test_workbooks_are_small_enough_to_clone() -> None:
    assert sum((DATASET / name).stat().st_size for name in WORKBOOKS) < 1_000_000


def test_about_two_hundred_labels_are_distinct_and_each_has_at_least_six_rows(
    lines: list[Line], known_labels: list[str]
) -> None:
    assert 180 <= len(known_labels) <= 240
    assert len(set(known_labels)) == len(known_labels)
    occurrences = Counter(label for line in lines for label in line.label_names)
    assert min(occurrences[label] for label in known_labels) >= 6


def test_a_few_labels_are_common_and_most_are_rare(lines: list[Line], known_labels: list[str]) -> None:
    occurrences = Counter(label for line in lines for label in line.label_names)
    frequent_first = sorted((occurrences[label] for label in known_labels), reverse=True)
    assert sum(frequent_first[:40]) >= 0.4 * sum(frequent_first)


def test_label_counts_are_those_of_the_questions_they_imitate(whole_lines: list[Line]) -> None:
    counts = Counter(min(len(line.label_names), 5) for line in whole_lines)
    percent = {size: 100 * count / len(whole_lines) for size, count in counts.items()}
    assert percent == pytest.approx({1: 59, 2: 20, 3: 9, 4: 4, 5: 8}, abs=3)


@pytest.mark.parametrize("name", WORKBOOKS)
def test_most_questions_name_none_of_their_labels(name: str) -> None:
    whole = [line for line in read_lines(name) if line.question and line.question.strip() and line.label_names]
    named = sum(any(plain(label) in plain(line.question or "") for label in line.label_names) for line in whole)
    assert 0.5 <= 1 - named / len(whole) <= 0.7


def test_questions_are_short_and_the_later_batch_is_longer(lines: list[Line], later_lines: list[Line]) -> None:
    lengths = [len(line.question) for line in lines if line.question]
    later_lengths = [len(line.question) for line in later_lines if line.question]
    assert 55 <= sum(lengths) / len(lengths) <= 85
    assert max(lengths) <= 310
    assert sum(later_lengths) / len(later_lengths) >= 1.25 * sum(lengths) / len(lengths)
    assert max(later_lengths) <= 410


def test_the_later_batch_brings_new_questions_about_the_same_labels(
    lines: list[Line], later_lines: list[Line], known_labels: list[str]
) -> None:
    old = {plain(line.question) for line in lines if line.question}
    new = [plain(line.question) for line in later_lines if line.question and line.question.strip()]
    assert 0 < sum(question in old for question in new) < 0.05 * len(new)
    listed = sum(label in known_labels for line in later_lines for label in line.label_names)
    assert listed >= 0.98 * sum(len(line.label_names) for line in later_lines)


def test_some_questions_are_empty_and_some_rows_have_no_label(lines: list[Line]) -> None:
    assert 20 <= sum(not (line.question or "").strip() for line in lines) <= 60
    assert 20 <= sum(not line.label_names for line in lines) <= 60


def test_some_questions_come_twice_with_the_same_and_with_other_labels(whole_lines: list[Line]) -> None:
    by_question: dict[str, list[Line]] = {}
    for line in whole_lines:
        by_question.setdefault(plain(line.question or ""), []).append(line)
    copies = [group for group in by_question.values() if len(group) > 1]
    assert 40 <= len(copies) <= 120
    assert any(set(group[0].label_names) == set(group[1].label_names) for group in copies)
    assert any(set(group[0].label_names) != set(group[1].label_names) for group in copies)
    assert any(group[0].question != group[1].question for group in copies)


def test_some_label_cells_hold_a_name_that_the_label_list_lacks(lines: list[Line], known_labels: list[str]) -> None:
    strange = sum(any(label not in known_labels for label in line.label_names) for line in lines)
    assert 0.01 * len(lines) <= strange <= 0.02 * len(lines)


def test_some_rows_have_a_gap_between_their_labels(lines: list[Line]) -> None:
    filled = [[position for position, label in enumerate(line.labels) if label] for line in lines]
    assert sum(bool(positions) and positions[-1] >= len(positions) for positions in filled) >= 20


def test_some_cells_have_stray_white_space_line_breaks_and_full_width_characters(whole_lines: list[Line]) -> None:
    questions = [line.question or "" for line in whole_lines]
    labels = [label for line in whole_lines for label in line.labels if label]
    assert sum(question != question.strip() for question in questions) >= 50
    assert sum("\n" in question.strip() for question in questions) >= 50
    assert sum(any("０" <= character <= "ｚ" for character in question) for question in questions) >= 50
    assert sum(label != label.strip() for label in labels) >= 20


def test_data_set_file_names_the_columns_and_files_that_exist() -> None:
    settings = yaml.safe_load((DATASET / "dataset.yaml").read_text(encoding="utf-8"))
    assert {settings["columns"]["question"], *settings["columns"]["labels"]} <= set(COLUMNS)
    assert (DATASET / settings["workbooks"][0]).is_file()
    assert (DATASET / settings["label_list"]).is_file()


def test_generator_with_its_default_seed_writes_the_shipped_files(tmp_path: Path) -> None:
    command = [sys.executable, str(DATASET / "generator" / "generate.py"), "--output", str(tmp_path)]
    subprocess.run(command, check=True, timeout=120)
    assert (tmp_path / "labels.txt").read_bytes() == (DATASET / "labels.txt").read_bytes()
    for name in WORKBOOKS:
        # Another zlib may pack the same content into other bytes; what is packed, and its times, may not differ.
        assert read_members(tmp_path / name) == read_members(DATASET / name)


def read_members(workbook: Path) -> list[tuple[str, tuple[int, ...], bytes]]:
    with zipfile.ZipFile(workbook) as archive:
        return [(member.filename, member.date_time, archive.read(member)) for member in archive.infolist()]


def test_generator_refuses_a_label_that_stands_twice(tmp_path: Path) -> None:
    generator = tmp_path / "generator"
    (generator / "knowledge").mkdir(parents=True)
    for module in sorted((DATASET / "generator").glob("*.py")):
        (generator / module.name).write_bytes(module.read_bytes())
    (generator / "knowledge" / "a.yaml").write_text("- {label: 脂肪肝, aliases: [肝脂肪变]}\n", encoding="utf-8")
    (generator / "knowledge" / "b.yaml").write_text("- {label: 脂肪肝, aliases: [肝上有油]}\n", encoding="utf-8")
    run = subprocess.run(
        [sys.executable, str(generator / "generate.py"), "--output", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode != 0
    assert "label 脂肪肝 stands already in a.yaml" in run.stderr
