"""Laws of the shipped examples: the table of questions, and that the documents are what their sources say."""

import csv
import re
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from embed_pipeline.dataset.pairs import clean_pairs
from embed_pipeline.dataset.settings import read_dataset_settings
from embed_pipeline.documents.reading import document_paths
from embed_pipeline.documents.settings import DocumentSettings

DATA = Path(__file__).resolve().parents[2] / "data"
EXAMPLES = ("faq_en", "help_centre_en", "policy_zh")
POLICY = DATA / "policy_zh"


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with (DATA / "faq_en" / "faq.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_of_the_table_is_kept(rows: list[dict[str, str]]) -> None:
    cleaned = clean_pairs(DATA / "faq_en", read_dataset_settings(DATA / "faq_en"))
    assert cleaned.ledger == ()
    texts = {passage.id: passage.text for passage in cleaned.dataset.passages}
    questions = {query.id: query for query in cleaned.dataset.queries}
    found = {
        (one.query_id, questions[one.query_id].text, texts[one.passage_id], questions[one.query_id].attributes["topic"])
        for one in cleaned.dataset.judgments
    }
    assert found == {(row["id"], row["question"], row["context"], row["topic"]) for row in rows}
    assert {query.split for query in cleaned.dataset.queries} == {"train", "validation", "test"}


def test_each_of_six_topics_has_twenty_questions_and_each_passage_two(rows: list[dict[str, str]]) -> None:
    assert sorted(Counter(row["topic"] for row in rows).values()) == [20] * 6
    assert set(Counter(row["context"] for row in rows).values()) == {2}
    assert all(40 <= len(row["context"].split()) <= 80 for row in rows)


def test_examples_are_small_enough_to_clone() -> None:
    files = [path for name in EXAMPLES for path in (DATA / name).rglob("*") if "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files if path.is_file()) < 400_000


@pytest.mark.parametrize(
    ("name", "endings"), [("help_centre_en", {".html": 6, ".md": 6}), ("policy_zh", {".docx": 1, ".pdf": 1})]
)
def test_documents_are_those_of_their_folder_and_no_readme(name: str, endings: dict[str, int]) -> None:
    settings = read_dataset_settings(DATA / name)
    paths = document_paths(DATA / name, DocumentSettings.model_validate(settings.documents)).paths
    assert {path.parent for path in paths} == {DATA / name / "documents"}
    assert Counter(path.suffix for path in paths) == endings


def test_policy_generator_writes_the_shipped_docx(tmp_path: Path) -> None:
    command = [sys.executable, "-B", str(POLICY / "generator" / "write_documents.py"), "--output", str(tmp_path)]
    subprocess.run(command, check=True, timeout=60)
    shipped = POLICY / "documents" / "critical_illness_terms.docx"
    # Another zlib may pack the same content into other bytes; what is packed, and its times, may not differ.
    assert read_members(tmp_path / shipped.name) == read_members(shipped)


def test_every_line_of_the_policy_source_stands_in_the_shipped_pdf() -> None:
    from pypdf import PdfReader

    pages = [page.extract_text() for page in PdfReader(POLICY / "documents" / "hospital_cash_terms.pdf").pages]
    # The running header and the page number stand before the text of a page.
    text = squeezed("".join(re.split(r"第 \d+ 页 共 \d+ 页", page, maxsplit=1)[1] for page in pages))
    source = (POLICY / "generator" / "hospital_cash_terms.md").read_text(encoding="utf-8")
    lines = [squeezed(line.lstrip("#")) for line in source.splitlines()]
    assert [line for line in lines if line not in text] == []


def read_members(document: Path) -> list[tuple[str, tuple[int, ...], bytes]]:
    with zipfile.ZipFile(document) as archive:
        return [(member.filename, member.date_time, archive.read(member)) for member in archive.infolist()]


def squeezed(text: str) -> str:
    return "".join(text.split())
