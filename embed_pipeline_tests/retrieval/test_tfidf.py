"""Laws of the n-gram index, held against weights computed by hand."""

import hashlib
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from embed_pipeline.records import Passage, Query
from embed_pipeline.retrieval import tfidf
from embed_pipeline.retrieval.search import TfidfRetriever
from embed_pipeline.retrieval.tfidf import (
    TfidfSettings,
    build_tfidf_index,
    cut_ngrams,
    read_tfidf_index,
    tfidf_top_k,
    write_tfidf_index,
)

SETTINGS = TfidfSettings()
CORPUS = [
    Passage("p3", "high blood pressure, high risk"),
    Passage("p1", "高血压"),
    Passage("p2", "甲状腺结节"),
    Passage("p0", "高血压！"),
]


def searched(passages: list[Passage], text: str, k: int = 10, settings: TfidfSettings = SETTINGS) -> dict[str, float]:
    retriever = TfidfRetriever(build_tfidf_index(passages, settings))
    return {hit.passage_id: hit.score for hit in retriever.search([Query("q", text, "test")], k)}


def cosines(passages: list[Passage], text: str) -> dict[str, float]:
    """(1 + ln tf) * (1 + ln((1 + n) / (1 + n with it))) for every n-gram of 1 to 3 characters, then the cosine."""

    def count(each: str) -> Counter[str]:
        words = each.lower().replace(",", " ").replace("！", " ").split()
        return Counter(word[a:b] for word in words for a in range(len(word)) for b in range(a + 1, len(word) + 1)[:3])

    counts = {passage.id: count(passage.text) for passage in passages}
    seen_in = Counter(ngram for each in counts.values() for ngram in each)

    def weigh(each: Counter[str]) -> dict[str, float]:
        raw = {
            ngram: (1 + math.log(times)) * (1 + math.log((1 + len(passages)) / (1 + seen_in[ngram])))
            for ngram, times in each.items()
            if ngram in seen_in
        }
        length = math.sqrt(sum(weight**2 for weight in raw.values()))
        return {ngram: weight / length for ngram, weight in raw.items()}

    query = weigh(count(text))
    scores = {p: sum(w * query.get(ngram, 0) for ngram, w in weigh(each).items()) for p, each in counts.items()}
    found = {p: round(score, 6) for p, score in scores.items() if score > 0}
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def test_two_passages_by_hand() -> None:
    # "ab": a 1 + ln(3/3) = 1, b 1 + ln(3/2) = 1.405465; "a": 1 of length 1. The query "a" has the vector (1, 0).
    settings = TfidfSettings(min_n=1, max_n=1)
    found = searched([Passage("p", "ab"), Passage("q", "a")], "a", settings=settings)
    assert found == {"q": 1.0, "p": round(1 / math.sqrt(1 + 1.405465**2), 6)}


@pytest.mark.parametrize("text", ["high blood pressure", "有高血压能投保吗", "blood 血 risk risk", "结节 zzz"])
def test_scores_and_order_equal_the_formula(text: str) -> None:
    found, expected = searched(CORPUS, text), cosines(CORPUS, text)
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, abs=2e-6)


def test_equal_scores_break_by_passage_id_at_the_cut() -> None:
    assert list(searched(CORPUS, "血压", k=1)) == ["p0"]
    assert list(searched(CORPUS, "血压")) == ["p0", "p1"]


def test_a_passage_without_a_shared_ngram_is_no_hit_and_punctuation_is_none() -> None:
    assert list(searched(CORPUS, "结！, 。")) == ["p2"]
    assert searched(CORPUS, "zzz") == searched(CORPUS, "，！_ ") == searched(CORPUS, "") == {}


def test_an_empty_corpus_or_one_without_letters_has_no_hits() -> None:
    assert searched([], "blood") == {}
    assert searched([Passage("p", "?!_")], "blood") == {}
    assert TfidfRetriever(build_tfidf_index(CORPUS, SETTINGS)).search([], 3) == ()


def test_ngrams_fold_case_and_width_stay_inside_words_and_keep_short_words() -> None:
    assert cut_ngrams("Ａb 1!高血", TfidfSettings(min_n=2, max_n=3)) == ["ab", "1", "高血"]
    assert cut_ngrams("abcd", TfidfSettings(min_n=2, max_n=3)) == ["ab", "bc", "cd", "abc", "bcd"]


def test_an_ngram_range_must_not_be_empty() -> None:
    with pytest.raises(ValidationError, match="min_n must be at most max_n"):
        TfidfSettings(min_n=4, max_n=3)


def test_batches_of_queries_change_no_hit() -> None:
    index = build_tfidf_index(CORPUS, SETTINGS)
    queries = [Query(f"q{at}", text, "test") for at, text in enumerate(["血压", "", "high", "结节"] * 150)]
    together = tfidf_top_k(index, queries, 2)
    one_by_one = [tfidf_top_k(index, [query], 2).queries[0] for query in queries]
    assert list(together.queries) == one_by_one


def test_an_index_read_back_gives_the_same_hits(tmp_path: Path) -> None:
    queries = [Query("q", "high 血压", "test"), Query("r", "结节", "test")]
    for settings, passages in (
        (SETTINGS, CORPUS),
        (TfidfSettings(max_n=2, sublinear_tf=False), CORPUS),
        (SETTINGS, []),
    ):
        index = build_tfidf_index(passages, settings)
        write_tfidf_index(index, tmp_path)
        assert TfidfRetriever(read_tfidf_index(tmp_path)).search(queries, 5) == TfidfRetriever(index).search(queries, 5)
        assert read_tfidf_index(tmp_path).settings == settings


def test_files_of_two_indexes_are_refused(tmp_path: Path) -> None:
    write_tfidf_index(build_tfidf_index(CORPUS, SETTINGS), tmp_path)
    np.save(tmp_path / tfidf.IDF_FILE, np.zeros(3), allow_pickle=False)
    with pytest.raises(ValueError, match="different indexes"):
        read_tfidf_index(tmp_path)


WRITER = """
import sys
from pathlib import Path
from embed_pipeline.records import Passage
from embed_pipeline.retrieval.tfidf import TfidfSettings, build_tfidf_index, write_tfidf_index
passages = [Passage("p1", "高血压和糖尿病 abc def"), Passage("p2", "甲状腺结节 ghi jkl")]
write_tfidf_index(build_tfidf_index(passages, TfidfSettings()), Path(sys.argv[1]))
"""


def test_the_written_bytes_depend_on_nothing_but_the_passages(tmp_path: Path) -> None:
    digests = set()
    for seed in ("1", "2"):
        directory = tmp_path / seed
        command = [sys.executable, "-c", WRITER, str(directory)]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(command, env=environment, cwd=Path(__file__).parents[2], check=True)
        files = sorted(directory.iterdir())
        assert [path.name for path in files] == ["idf.npy", "postings.npz", "tfidf.json"]
        digests.add(hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest())
    assert len(digests) == 1
