"""Every format reads back what it wrote, and says what it could not write."""

import csv
import io
from pathlib import Path

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embed_pipeline.dataset.exchange.conversion import convert
from embed_pipeline.dataset.exchange.holding import canonical_digest, reduce_dataset, to_dataset
from embed_pipeline.dataset.exchange.registry import FORMATS, detect_format, read_content
from embed_pipeline.dataset.formats import RetrievalDataset, build_dataset
from embed_pipeline.records import SPLITS, Judgment, Passage, Query

NAMES = [
    ("flagembedding", "data.jsonl"),
    ("rag_json", "data.json"),
    ("rag_json", "data.json.gz"),
    ("llama_index", "data.json"),
    ("beir", "folder"),
    ("sentence_transformers", "data.jsonl"),
    ("sentence_transformers", "data.parquet"),
    ("autotrain", "data.csv"),
    ("jsonl_qrels", "folder"),
    ("table", "data.csv"),
    ("table", "data.tsv"),
    ("table", "data.CSV.GZ"),
    ("table", "data.parquet"),
]
XLSX = ("table", "data.xlsx")

_text = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
    st.sampled_from(
        ['a "b", c', "x\ty", "line\nline\r\n", "=1+1", "糖尿病🙂", " ", "a;b|c", "'", "1", "null", "a b", "a  b"]
    ),
)
_name = st.text('abcö_ -,"', min_size=1, max_size=4)
_attributes = st.dictionaries(
    st.one_of(_name.map(str.strip).filter(bool), st.sampled_from(["prompt", "title"])), _text, max_size=2
)


@st.composite
def data_sets(draw: st.DrawFn, text: st.SearchStrategy[str] = _text) -> RetrievalDataset:
    """Any consistent data set with at least one answered query."""
    queries = draw(
        st.lists(
            st.tuples(_name, text, st.sampled_from(SPLITS), _attributes),
            min_size=1,
            max_size=4,
            unique_by=lambda q: q[0],
        )
    )
    passages = draw(st.lists(st.tuples(_name, text, _attributes), min_size=1, max_size=4, unique_by=lambda p: p[0]))
    pairs = st.tuples(st.sampled_from([q[0] for q in queries]), st.sampled_from([p[0] for p in passages]))
    grades = draw(st.dictionaries(pairs, st.integers(0, 3), max_size=8))
    grades[queries[0][0], passages[0][0]] = draw(st.integers(1, 3))
    return build_dataset(
        [Query(*query) for query in queries],
        [Passage(*passage) for passage in passages],
        [Judgment(query, passage, grade) for (query, passage), grade in grades.items()],
    )


def _check_round_trip(dataset: RetrievalDataset, name: str, path: Path) -> None:
    form = FORMATS[name]
    reduced = reduce_dataset(dataset, form.holding)
    if not reduced.dataset.queries:
        assert reduced.not_held
        return
    form.write(reduced.dataset, path, True)
    back = to_dataset(form.read(path, None))
    assert back == reduced.dataset
    assert canonical_digest(back) == canonical_digest(reduced.dataset)
    # Nothing is lost in silence: either the data set is the same, or something is counted.
    assert bool(reduced.not_held) == (canonical_digest(dataset) != canonical_digest(reduced.dataset))
    detected = detect_format(path).format
    assert detected.read(path, None).queries == form.read(path, None).queries


@pytest.mark.parametrize(("name", "file"), NAMES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(dataset=data_sets())
def test_what_was_written_is_read_back_and_what_was_not_is_counted(
    tmp_path_factory: pytest.TempPathFactory, name: str, file: str, dataset: RetrievalDataset
) -> None:
    _check_round_trip(dataset, name, tmp_path_factory.mktemp("made") / file)


@pytest.mark.parametrize("blank", [" ", "\t\n", "\x85", "\u3000"])
def test_a_passage_without_a_text_is_counted_where_a_reader_leaves_it_out(tmp_path: Path, blank: str) -> None:
    dataset = build_dataset(
        [Query("a", "q", "train"), Query("b", "r", "train")],
        [Passage("a", "x"), Passage("b", blank)],
        [Judgment("a", "a", 1), Judgment("a", "b", 0), Judgment("b", "b", 1)],
    )
    _check_round_trip(dataset, "flagembedding", tmp_path / "data.jsonl")
    lost = {one.what: one.count for one in reduce_dataset(dataset, FORMATS["flagembedding"].holding).not_held}
    assert (lost["passages without a text"], lost["queries without a relevant passage"]) == (1, 1)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(dataset=data_sets(st.text("aß糖🙂 =\n\t\"',;", min_size=1, max_size=9)))
def test_a_workbook_is_read_back_as_well(tmp_path_factory: pytest.TempPathFactory, dataset: RetrievalDataset) -> None:
    attributes_out = build_dataset(
        [Query(q.id, q.text, q.split) for q in dataset.queries], dataset.passages, dataset.judgments
    )
    _check_round_trip(attributes_out, *[XLSX[0], tmp_path_factory.mktemp("made") / XLSX[1]])


def _small() -> RetrievalDataset:
    return build_dataset(
        [
            Query("q1", "When?", "train", {"channel": "chat"}),
            Query("q2", "How?", "test"),
            Query("q3", "Nobody knows", "validation"),
        ],
        [Passage("p1", "Today.", {"title": "T"}), Passage("p2", "So."), Passage("p3", "Unused.")],
        [Judgment("q1", "p1", 2), Judgment("q1", "p2", 0), Judgment("q2", "p2", 1)],
    )


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("rag_json", {}),
        ("jsonl_qrels", {}),
        ("beir", {"queries without a judged passage": 1}),
        (
            "llama_index",
            {
                "grades above 1": 1,
                "judgments of grade 0": 1,
                "passage attributes": 1,
                "query attributes": 1,
                "splits": 2,
            },
        ),
        (
            "flagembedding",
            {
                "passage attributes": 1,
                "passage ids": 2,
                "passages without a judgment": 1,
                "queries without a relevant passage": 1,
                "query attributes": 1,
                "splits": 1,
            },
        ),
        (
            "table",
            {"passage attributes": 1, "passages without a judgment": 1, "queries without a judged passage": 1},
        ),
        (
            "autotrain",
            {
                "grades above 1": 1,
                "judgments of grade 0 (some queries have none)": 1,
                "passage attributes": 1,
                "passage ids": 2,
                "passages without a judgment": 1,
                "queries without a relevant passage": 1,
                "query attributes": 1,
                "query ids": 2,
                "splits": 1,
            },
        ),
    ],
)
def test_everything_that_a_format_has_no_place_for_is_counted(name: str, lost: dict[str, int]) -> None:
    reduced = reduce_dataset(_small(), FORMATS[name].holding)
    assert {item.what: item.count for item in reduced.not_held} == lost


@pytest.mark.parametrize(("name", "file"), [*NAMES, XLSX])
def test_a_conversion_there_and_back_keeps_what_the_format_holds(tmp_path: Path, name: str, file: str) -> None:
    source, there, back = tmp_path / "source.json", tmp_path / "there" / file, tmp_path / "back.json"
    FORMATS["rag_json"].write(_small(), source, True)
    report = convert(source, there, name)
    convert(there, back, "rag_json", source_format=name)
    reduced = reduce_dataset(_small(), FORMATS[name].holding)
    assert canonical_digest(to_dataset(read_content(back))) == canonical_digest(reduced.dataset)
    assert report.not_held == reduced.not_held
    assert (report.read.queries, report.written.queries) == (3, len(reduced.dataset.queries))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["back.json", "source.json", "there"]


def test_nothing_is_overwritten_unless_forced_and_a_failure_leaves_the_old_target(tmp_path: Path) -> None:
    source, target = tmp_path / "source.json", tmp_path / "folder"
    FORMATS["rag_json"].write(_small(), source, True)
    convert(source, target, "beir")
    before = sorted(path.read_bytes() for path in target.rglob("*.*l*"))
    with pytest.raises(ValueError, match="nothing is overwritten"):
        convert(source, target, "beir")
    source.write_text('{"queries": {"q": "?"}, "corpus": {}, "relevant_docs": {"q": ["gone"]}}')
    with pytest.raises(ValueError, match="gone"):
        convert(source, target, "beir", force=True)
    assert sorted(path.read_bytes() for path in target.rglob("*.*l*")) == before
    FORMATS["rag_json"].write(_small(), source, True)
    convert(source, target, "jsonl_qrels", force=True)
    assert detect_format(target).format.name == "jsonl_qrels"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "source.json"]


def test_a_text_that_a_workbook_cannot_hold_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    dataset = build_dataset([Query("q", "bell \x07", "test")], [Passage("p", "x")], [Judgment("q", "p")])
    FORMATS["rag_json"].write(dataset, tmp_path / "source.json", True)
    with pytest.raises(ValueError, match="control characters"):
        convert(tmp_path / "source.json", tmp_path / "out.xlsx", "table")
    with pytest.raises(ValueError, match=r"ends in \.json"):
        convert(tmp_path / "source.json", tmp_path / "out.csv", "rag_json")
    assert [entry.name for entry in tmp_path.iterdir()] == ["source.json"]


@pytest.mark.parametrize(("name", "file"), [("sentence_transformers", "data.jsonl"), ("autotrain", "data.csv")])
@pytest.mark.parametrize("grades", [(1, 0, 0, 0), (1, 1, 1, 0), (1, 1, 0, 0)])
def test_triplets_keep_every_positive_and_every_negative(
    tmp_path: Path, name: str, file: str, grades: tuple[int, ...]
) -> None:
    dataset = build_dataset(
        [Query("q", "?", "train")],
        [Passage(f"p{at}", f"text {at}") for at in range(len(grades))],
        [Judgment("q", f"p{at}", grade) for at, grade in enumerate(grades)],
    )
    _check_round_trip(dataset, name, tmp_path / file)
    (judged,) = FORMATS[name].read(tmp_path / file, None).relevant.values()
    assert sorted(judged.values()) == sorted(grades)


FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(1)",
    "\tx",
    "\rx",
    "\nx",
    '=HYPERLINK("http://a","b")',
    "＝1",
    "＋86",
    "－",
    "＠a",
]
_risky = st.one_of(
    st.sampled_from(FORMULAS), st.text("'=+-@\t\r\n＝a", min_size=1, max_size=6), st.text("'ab", min_size=1, max_size=4)
)


@pytest.mark.parametrize(("name", "file"), [("table", "data.csv"), ("table", "data.tsv"), ("autotrain", "data.csv")])
@pytest.mark.parametrize("guard", [True, False])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(dataset=data_sets(_risky))
def test_every_text_comes_back_from_delimited_text_guarded_or_not(
    tmp_path_factory: pytest.TempPathFactory, name: str, file: str, guard: bool, dataset: RetrievalDataset
) -> None:
    path = tmp_path_factory.mktemp("guarded") / file
    reduced = reduce_dataset(dataset, FORMATS[name].holding)
    FORMATS[name].write(reduced.dataset, path, guard)
    assert to_dataset(FORMATS[name].read(path, None)) == reduced.dataset


def _risky_set(*texts: str) -> RetrievalDataset:
    return build_dataset(
        [Query(f"q{at}", text, "train", {"=channel": "+1"}) for at, text in enumerate(texts)],
        [Passage("-p", "@answer")],
        [Judgment(f"q{at}", "-p", 1) for at in range(len(texts))],
    )


@pytest.mark.parametrize("file", ["out.csv", "out.tsv"])
def test_no_cell_of_a_converted_table_is_a_formula_unless_asked_for(tmp_path: Path, file: str) -> None:
    source = tmp_path / "source.json"
    FORMATS["rag_json"].write(_risky_set(*FORMULAS), source, True)
    delimiter = "," if file.endswith("csv") else "\t"

    def cells() -> list[str]:
        text = (tmp_path / file).read_bytes().decode()
        return [cell for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) for cell in row]

    guarded = convert(source, tmp_path / file, "table")
    assert [cell for cell in cells() if cell and cell[0] in "=+-@\t\r\n＝＋－＠"] == []
    assert "'=channel" in cells() and "'=1+1" in cells()
    assert any("cells that a spreadsheet would take for formulas got an apostrophe" in note for note in guarded.notes)
    convert(source, tmp_path / "back.json", "rag_json")
    back = convert(tmp_path / file, tmp_path / "back_too.json", "rag_json")
    assert (tmp_path / "back.json").read_bytes() == (tmp_path / "back_too.json").read_bytes()
    assert any("read without the apostrophe" in note for note in back.notes)
    plain = convert(source, tmp_path / file, "table", force=True, guard=False)
    assert "=1+1" in cells() and "'=1+1" not in cells()
    assert any("stand as they are" in note for note in plain.notes)


def test_a_cell_of_a_workbook_is_a_text_and_stays_one_when_it_is_edited(tmp_path: Path) -> None:
    path = tmp_path / "out.xlsx"
    FORMATS["table"].write(_risky_set("=1+1", "plain"), path, True)
    cells = [cell for row in openpyxl.load_workbook(path).active.iter_rows() for cell in row if cell.value is not None]  # type: ignore[union-attr]
    assert {cell.data_type for cell in cells} == {"s"} and all(cell.quotePrefix for cell in cells)
    assert "=1+1" in [cell.value for cell in cells]


def test_a_file_without_such_cells_is_written_and_read_as_before(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    FORMATS["table"].write(_small(), path, True)
    content = FORMATS["table"].read(path, None)
    assert "'" not in path.read_text(encoding="utf-8") and content.notes == ()
