"""Laws of reciprocal rank fusion, held against sums written out by hand."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from embed_pipeline.records import Hit, Passage, Query
from embed_pipeline.retrieval.fusion import ranking_of_hits, reciprocal_rank_fusion
from embed_pipeline.retrieval.lexical import LexicalSettings, build_lexical_index
from embed_pipeline.retrieval.ranking import RankedQuery, Ranking
from embed_pipeline.retrieval.search import FusedRetriever, LexicalRetriever, TfidfRetriever
from embed_pipeline.retrieval.tfidf import TfidfSettings, build_tfidf_index


def ranking(**lists: Sequence[str]) -> Ranking:
    """The scores fall from 9 and must not matter."""
    return Ranking(
        tuple(
            RankedQuery(query_id, tuple(passages), tuple(9.0 - at for at in range(len(passages))))
            for query_id, passages in lists.items()
        )
    )


@dataclass
class Fixed:
    """Implements Retriever with given lists; remembers the k it was asked for."""

    lists: dict[str, list[str]]
    asked: int = 0

    def search(self, queries: Sequence[Query], k: int) -> tuple[Hit, ...]:
        self.asked = k
        return ranking(**{query.id: self.lists.get(query.id, [])[:k] for query in queries}).hits()


QUERIES = [Query("q", "one", "test"), Query("r", "two", "test")]


def test_the_score_is_the_sum_of_the_reciprocal_ranks() -> None:
    fused = reciprocal_rank_fusion([ranking(q=["a", "b", "c"]), ranking(q=["c", "d", "a"])], 10)
    # a: 1/61 + 1/63 = 0.032266, c the same, b: 1/62 = 0.016129, d the same; equal scores by passage id
    assert fused.queries == (RankedQuery("q", ("a", "c", "b", "d"), (0.032266, 0.032266, 0.016129, 0.016129)),)


def test_a_passage_that_two_lists_hold_beats_the_first_of_one_list() -> None:
    lists = [ranking(q=["a", *"bcdefghij", "z"]), ranking(q=["k", *"lmnopqrst", "z"])]
    assert reciprocal_rank_fusion(lists, 1).queries[0].passage_ids == ("z",)  # 2/71 > 1/61
    assert reciprocal_rank_fusion(lists, 1, rank_constant=1).queries[0].passage_ids == ("a",)  # 2/12 < 1/2


def test_one_ranking_keeps_its_order_down_to_rank_900() -> None:
    passages = [f"p{999 - at:03}" for at in range(900)]  # against the order of the ids
    assert reciprocal_rank_fusion([ranking(q=passages)], 900).queries[0].passage_ids == tuple(passages)


def test_the_order_of_the_rankings_does_not_matter() -> None:
    one, two, three = ranking(q="abcde", r="xy"), ranking(q="edf", r=""), ranking(q="fa", r="yz")
    assert reciprocal_rank_fusion([one, two, three], 5) == reciprocal_rank_fusion([three, one, two], 5)


def test_queries_without_hits_stay_in_their_place() -> None:
    fused = reciprocal_rank_fusion([ranking(q="", r="", s="a"), ranking(q="", r="b", s="")], 3)
    assert [(query.query_id, query.passage_ids) for query in fused.queries] == [("q", ()), ("r", ("b",)), ("s", ("a",))]
    assert reciprocal_rank_fusion([Ranking(()), Ranking(())], 3) == Ranking(())


def test_what_cannot_be_fused_is_refused() -> None:
    with pytest.raises(ValueError, match="passage 'a' more than once"):
        reciprocal_rank_fusion([ranking(q="aba"), ranking(q="c")], 3)
    with pytest.raises(ValueError, match="in the same order"):
        reciprocal_rank_fusion([ranking(q="a", r="b"), ranking(r="b", q="a")], 3)
    with pytest.raises(ValueError, match="at least one ranking"):
        reciprocal_rank_fusion([], 3)
    with pytest.raises(ValueError, match="rank_constant"):
        reciprocal_rank_fusion([ranking(q="a")], 3, rank_constant=0)


def test_hits_come_back_as_the_ranking_they_came_from() -> None:
    original = ranking(q="ab", r="", s="c")
    assert ranking_of_hits(["q", "r", "s"], original.hits()) == original


def test_hits_that_no_retriever_may_give_are_refused() -> None:
    with pytest.raises(ValueError, match="not searched for"):
        ranking_of_hits(["q"], [Hit("r", "a", 1, 1.0)])
    with pytest.raises(ValueError, match="rank 1 next, found rank 2"):
        ranking_of_hits(["q"], [Hit("q", "a", 2, 1.0)])
    with pytest.raises(ValueError, match="query id occurs more than once"):
        ranking_of_hits(["q", "q"], [])


def test_the_fused_retriever_asks_deeper_than_it_answers() -> None:
    one, two = Fixed({"q": ["a", "b", "x"], "r": ["c"]}), Fixed({"q": ["d", "e", "x"]})
    hits = FusedRetriever((one, two), depth=3).search(QUERIES, 1)
    assert [(hit.query_id, hit.passage_id, hit.rank) for hit in hits] == [("q", "x", 1), ("r", "c", 1)]
    assert (one.asked, two.asked) == (3, 3)
    FusedRetriever((one, two), depth=3).search(QUERIES, 7)
    assert one.asked == 7


def test_words_and_ngrams_fused_find_what_either_finds() -> None:
    passages = [Passage("p1", "thyroid nodule"), Passage("p2", "high blood pressure"), Passage("p3", "thyroids")]
    words = LexicalRetriever(build_lexical_index(passages, LexicalSettings(language="en")))
    ngrams = TfidfRetriever(build_tfidf_index(passages, TfidfSettings(min_n=3, max_n=5)))
    found = FusedRetriever((words, ngrams)).search([Query("q", "my thyroid", "test")], 5)
    assert [hit.passage_id for hit in found] == ["p1", "p3"]
    assert found[0].score == round(1 / 61 + 1 / 62, 6)  # first by words, second by n-grams
    assert found[1].score == round(1 / 61, 6)
