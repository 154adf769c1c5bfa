"""A malformed file is an error that names file, record and field; lenient where tools differ, never silent."""

import json
from pathlib import Path

import pytest

from embed_pipeline.dataset.exchange.registry import detect_format, format_of, read_content
from embed_pipeline.dataset.settings import TableColumns

GOOD_CORPUS = '{"_id": "p", "text": "x"}\n'
GOOD_QUERIES = '{"_id": "q", "text": "?"}\n'
BEIR = {"corpus.jsonl": GOOD_CORPUS, "queries.jsonl": GOOD_QUERIES}
HEADER = "query-id\tcorpus-id\tscore\n"
JSONL = {
    "corpus.jsonl": '{"id": "p", "text": "x"}\n',
    "queries.jsonl": '{"id": "q", "text": "?"}\n',
    "qrels.jsonl": '{"query_id": "q", "passage_id": "p", "grade": 1}\n',
}


def _object(**changes: object) -> str:
    return json.dumps({"queries": {"q": "?"}, "corpus": {"p": "x"}, "relevant_docs": {"q": ["p"]}, **changes})


@pytest.mark.parametrize(
    ("name", "file", "text", "message"),
    [
        (
            "flagembedding",
            "f.jsonl",
            '{"query": "?", "pos": "a text"}',
            r"f\.jsonl, line 1, pos: expected a list of texts",
        ),
        (
            "flagembedding",
            "f.jsonl",
            '{"query": "?", "pos": ["a"], "neg": "b"}',
            "line 1, neg: expected a list of texts",
        ),
        ("flagembedding", "f.jsonl", '\n{"query": 3, "pos": ["a"]}', "line 2, query: expected text, found 3"),
        (
            "flagembedding",
            "f.jsonl",
            '{"query": "?", "pos": ["a"], "pos_scores": [1, 2]}',
            "pos_scores: expected 1 numbers",
        ),
        (
            "flagembedding",
            "f.jsonl",
            '{"query": "?", "pos": ["a"], "pos_scores": "9"}',
            "pos_scores: expected a list of n",
        ),
        ("flagembedding", "f.jsonl", '{"query": "?", "pos": ["a"]}\n{"query"', "line 2: expected a JSON object"),
        (
            "rag_json",
            "r.json",
            _object(negative_docs={"q": ["p"]}),
            "negative_docs, q: expected passages that relevant_docs",
        ),
        ("rag_json", "r.json", _object(negative_docs={"q": "p"}), "negative_docs, q: expected a list of passage ids"),
        ("rag_json", "r.json", _object(reference_answers={"q": 4}), "reference_answers, q: expected text, found 4"),
        ("rag_json", "r.json", _object(query_splits={"q": "dev"}), "query_splits, q: expected train, validation, test"),
        (
            "llama_index",
            "l.json",
            _object(relevant_docs={"q": "p"}),
            "relevant_docs, q: expected a list of passage ids",
        ),
        ("llama_index", "l.json", _object(relevant_docs={"q": ["gone"]}), "relevant_docs, q: the corpus has no 'gone'"),
        ("llama_index", "l.json", _object(relevant_docs={"x": ["p"]}), "relevant_docs, x: no query has this id"),
        ("llama_index", "l.json", _object(mode="image"), "mode: expected text, found 'image'"),
        (
            "sentence_transformers",
            "s.jsonl",
            '{"anchor": "a", "positive": "b", "label": 1}',
            "label: .*labels or scores",
        ),
        ("sentence_transformers", "s.jsonl", '{"anchor": "a", "positive": ["b"]}', "line 1, positive: expected text"),
        ("sentence_transformers", "s.jsonl", '{"anchor": "a"}', "expected a column 'positive'"),
        ("sentence_transformers", "s.parquet", "no parquet", r"s\.parquet: expected a parquet file"),
        ("autotrain", "a.csv", "anchor,negative\na,b\n", r"a\.csv: expected a column 'positive'"),
        ("autotrain", "a.csv", "anchor,positive\na,b\nc,\n", "line 3, positive: expected the text of a passage"),
        ("autotrain", "a.csv", "anchor,positive,other\na,b,c\n", "other: expected anchor, positive and negatives only"),
        ("autotrain", "a.csv", "anchor,positive\na,b,c\n", "line 2: expected 2 cells, found 3"),
        ("table", "t.csv", "question,answer\na,b\n", r"t\.csv: expected a column 'context'"),
        ("table", "t.csv", "question,context,split\na,b,dev\nc,d,later\n", "line 3, split: expected train, val"),
        ("table", "t.csv", "question,context,grade\na,b,high\n", "line 2, grade: expected a whole number"),
        ("table", "t.csv", 'question,context,id\n"a\nb",c,1\nd,e,1\n', "line 4, question: query '1' has another text"),
        ("table", "t.csv", "question,question\na,b\n", "expected headers that differ"),
        ("table", "t.csv", "", "expected a header and rows"),
        ("table", "t.xlsx", "no workbook", r"t\.xlsx: expected an \.xlsx workbook, found text"),
    ],
)
def test_a_malformed_file_is_named_with_its_record_and_field(
    tmp_path: Path, name: str, file: str, text: str, message: str
) -> None:
    (tmp_path / file).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_content(tmp_path / file, name)


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("beir", {**BEIR, "qrels/test.tsv": "q\tp\tgrade\n"}, r"test\.tsv, line 1: expected the header"),
        ("beir", {**BEIR, "qrels/test.tsv": HEADER + "q\tp\n"}, "line 2: expected 3 columns, found 2"),
        ("beir", {**BEIR, "qrels/test.tsv": HEADER + "q\tp\t0.5\n"}, "line 2, score: expected a whole number"),
        (
            "beir",
            {**BEIR, "qrels/test.tsv": HEADER + "q\tgone\t1\n"},
            "qrels: expected judgments of ids in this folder",
        ),
        ("beir", {**BEIR, "qrels/all.tsv": HEADER}, r"all\.tsv: expected train\.tsv, dev\.tsv or test\.tsv"),
        ("beir", {**BEIR, "qrels/dev.tsv": HEADER + "q\tp\t1\n", "qrels/test.tsv": HEADER + "q\tp\t1\n"}, "one split"),
        ("beir", {**BEIR, "corpus.jsonl": GOOD_CORPUS * 2}, r"corpus\.jsonl, line 2, _id: expected an id that no earl"),
        ("beir", {**BEIR, "queries.jsonl": '{"_id": [7], "text": "?"}'}, r"queries\.jsonl, line 1, _id: expected text"),
        (
            "jsonl_qrels",
            {**JSONL, "qrels.jsonl": '{"query_id": "q", "passage_id": "p", "grade": true}'},
            "grade: expected",
        ),
        (
            "jsonl_qrels",
            {**JSONL, "queries.jsonl": '{"id": "q", "text": "?", "split": "x"}'},
            "line 1, split: expected",
        ),
        ("jsonl_qrels", {**JSONL, "corpus.jsonl": "[1]"}, r"corpus\.jsonl, line 1: expected"),
        ("jsonl_qrels", {"corpus.jsonl": GOOD_CORPUS}, r"queries\.jsonl: no such file"),
    ],
)
def test_a_malformed_folder_is_named_with_its_file_line_and_field(
    tmp_path: Path, name: str, files: dict[str, str], message: str
) -> None:
    for file, text in files.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_content(tmp_path, name)


def test_files_as_the_tools_write_them_are_recognised_and_read(tmp_path: Path) -> None:
    flag = tmp_path / "toy.jsonl"
    flag.write_text('{"query": "q", "pos": ["a", "b"], "neg": ["c"], "pos_scores": [0.9, 0.8], "neg_scores": [0.1]}\n')
    content = read_content(flag)
    assert [list(judged.values()) for judged in content.relevant.values()] == [[1, 1, 0]]
    assert content.notes == ("3 scores of a teacher model are not kept",)
    tuples = tmp_path / "tuples.jsonl"
    tuples.write_text('{"anchor": "q", "positive": "a", "negative_1": "b", "negative_2": "a"}\n')
    content = read_content(tuples)
    assert sorted(content.corpus.values()) == ["a", "b"]
    assert content.notes == ("1 passages are relevant and irrelevant to one query; relevant stays",)
    assert detect_format(tuples).format.name == "sentence_transformers"
    assert list(format_of("autotrain").read(_csv(tmp_path), TableColumns(query="q", passage="a")).queries.values()) == [
        "1"
    ]


def _csv(folder: Path) -> Path:
    (folder / "own.csv").write_text("q,a\n1,2\n")
    return folder / "own.csv"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_csv_is_read_whatever_its_encoding_and_delimiter(tmp_path: Path, encoding: str, delimiter: str) -> None:
    rows = [("question", "context"), ('"保险, 怎么;买|吗"', '"第一行\n第二行"'), ("理赔要多久", '"说 ""你好"""')]
    path = tmp_path / "table.csv"
    path.write_bytes("\r\n".join(delimiter.join(row) for row in rows).encode(encoding))
    content = read_content(path)
    assert sorted(content.queries.values()) == sorted(["保险, 怎么;买|吗", "理赔要多久"])
    assert set(content.corpus.values()) == {"第一行\n第二行", '说 "你好"'}


def test_western_letters_in_an_old_encoding_are_read(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes("question;context\nWo ist das Büro?;Über der Straße\n".encode("cp1252"))
    assert list(read_content(path).corpus.values()) == ["Über der Straße"]


def test_a_row_without_question_or_passage_is_left_to_cleaning_and_noted(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("question,context\na,b\n,c\nd,\n")
    content = read_content(path)
    assert sorted(content.queries.values()) == ["", "a", "d"]
    assert sum(map(len, content.relevant.values())) == 1
    assert content.notes == ("2 rows lack the question or the passage",)


def test_an_unknown_format_or_file_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Nearest: 'beir'"):
        format_of("bier")
    (tmp_path / "x.json").write_text('{"a": 1}')
    with pytest.raises(ValueError, match=r"x\.json: expected one of the formats"):
        detect_format(tmp_path / "x.json")
    with pytest.raises(ValueError, match="no such file or folder"):
        detect_format(tmp_path / "gone")
