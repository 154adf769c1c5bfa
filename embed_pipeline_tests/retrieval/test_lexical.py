"""Laws of BM25, held against the formula written out by hand."""

import hashlib
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from embed_pipeline.encoding.words import word_cutter
from embed_pipeline.records import Passage, Query
from embed_pipeline.retrieval.lexical import (
    LexicalSettings,
    build_lexical_index,
    read_lexical_index,
    write_lexical_index,
)
from embed_pipeline.retrieval.search import LexicalRetriever

ENGLISH, CHINESE = LexicalSettings(language="en"), LexicalSettings(language="zh")
CORPUS = [
    Passage("p3", "high blood pressure, high risk"),
    Passage("p1", "blood sugar"),
    Passage("p2", "thyroid nodule"),
    Passage("p0", "Blood sugar!"),
]


def searched(settings: LexicalSettings, passages: list[Passage], text: str, k: int = 10) -> list[tuple[str, float]]:
    retriever = LexicalRetriever(build_lexical_index(passages, settings))
    return [(hit.passage_id, hit.score) for hit in retriever.search([Query("q", text, "test")], k)]


def okapi(passages: list[Passage], query: list[str], k1: float = 1.5, b: float = 0.75) -> list[tuple[str, float]]:
    """Lucene's BM25: idf * tf / (tf + k1 * (1 - b + b * length / average length)), summed over the query's words."""
    words = {passage.id: passage.text.lower().replace(",", "").replace("!", "").split() for passage in passages}
    average = sum(len(each) for each in words.values()) / len(words)
    scores = {}
    for passage_id, each in words.items():
        counts, total = Counter(each), 0.0
        for word in query:
            documents = sum(word in others for others in words.values())
            if documents:
                idf = math.log(1 + (len(words) - documents + 0.5) / (documents + 0.5))
                total += idf * counts[word] / (counts[word] + k1 * (1 - b + b * len(each) / average))
        scores[passage_id] = round(total, 6)
    return sorted(((p, s) for p, s in scores.items() if s > 0), key=lambda pair: (-pair[1], pair[0]))


@pytest.mark.parametrize("query", ["high blood pressure", "blood", "sugar blood blood", "nodule unknown"])
def test_scores_and_order_equal_the_formula(query: str) -> None:
    assert searched(ENGLISH, CORPUS, query) == okapi(CORPUS, query.split())


def test_equal_scores_break_by_passage_id_at_the_cut() -> None:
    assert [passage_id for passage_id, _ in searched(ENGLISH, CORPUS, "sugar", k=1)] == ["p0"]
    assert [passage_id for passage_id, _ in searched(ENGLISH, CORPUS, "sugar")] == ["p0", "p1"]


def test_a_passage_without_a_shared_word_is_no_hit() -> None:
    assert [passage_id for passage_id, _ in searched(ENGLISH, CORPUS, "nodule")] == ["p2"]
    assert searched(ENGLISH, CORPUS, "nothing here") == []
    assert searched(ENGLISH, CORPUS, "") == []


def test_an_empty_corpus_or_one_without_words_has_no_hits() -> None:
    assert searched(ENGLISH, [], "blood") == []
    assert searched(ENGLISH, [Passage("p", "?!")], "blood") == []
    assert LexicalRetriever(build_lexical_index(CORPUS, ENGLISH)).search([], 3) == ()


def test_chinese_is_cut_into_words_and_the_words_inside_them() -> None:
    words = word_cutter("zh")("Ｈ型高血压患者，能买百万医疗吗？")
    assert "高血压" in words
    assert "血压" in words
    assert "h" in words
    assert not {"，", "？", " "} & set(words)
    corpus = [Passage("p1", "高血压"), Passage("p2", "甲状腺结节"), Passage("p3", "糖尿病")]
    assert [passage_id for passage_id, _ in searched(CHINESE, corpus, "体检发现甲状腺有结节，能投保吗")] == ["p2"]


def test_other_languages_fold_case_and_width_and_split_scripts_without_spaces() -> None:
    assert word_cutter("en")("Type-2 DIABETES, ＡＢＣ 高血压") == ["type", "2", "diabetes", "abc", "高", "血", "压"]


def test_an_index_read_back_gives_the_same_hits(tmp_path: Path) -> None:
    for settings, passages in ((ENGLISH, CORPUS), (ENGLISH, [])):
        index = build_lexical_index(passages, settings)
        directory = tmp_path / str(len(passages))
        write_lexical_index(index, directory)
        queries = [Query("q", "high blood sugar", "test"), Query("r", "thyroid", "test")]
        read = LexicalRetriever(read_lexical_index(directory))
        assert read.search(queries, 5) == LexicalRetriever(index).search(queries, 5)


WRITER = """
import sys
from pathlib import Path
from embed_pipeline.records import Passage
from embed_pipeline.retrieval.lexical import LexicalSettings, build_lexical_index, write_lexical_index
passages = [Passage("p1", "高血压和糖尿病 abc def"), Passage("p2", "甲状腺结节 ghi jkl")]
write_lexical_index(build_lexical_index(passages, LexicalSettings(language="zh")), Path(sys.argv[1]))
"""


def test_the_written_bytes_depend_on_nothing_but_the_passages_and_jieba_is_silent(tmp_path: Path) -> None:
    digests = set()
    for seed in ("1", "2"):
        directory, temporary = tmp_path / seed, tmp_path / f"temporary {seed}"
        temporary.mkdir()
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TMPDIR": str(temporary)}
        command = [sys.executable, "-W", "ignore", "-c", WRITER, str(directory)]
        result = subprocess.run(
            command, env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
        )
        assert (result.stdout, result.stderr) == ("", "")
        assert list(temporary.iterdir()) == []
        files = sorted(path for path in directory.rglob("*") if path.is_file())
        assert all(path.suffix in (".json", ".npy") for path in files)
        digests.add(hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest())
    assert len(digests) == 1
