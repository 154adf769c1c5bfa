"""Groups of positives alone: what is known before anything is searched."""

import pytest

from embed_pipeline.mining.groups import positive_groups, positives_of
from embed_pipeline.mining.report import report_unmined
from embed_pipeline.records import Judgment, Passage, Query

QUERIES = [Query("q2", "second", "train"), Query("q1", "first", "train"), Query("q3", "nothing", "train")]
PASSAGES = [Passage("p1", "one"), Passage("p2", "two"), Passage("p3", "three")]
JUDGMENTS = [Judgment("q1", "p2"), Judgment("q1", "p1"), Judgment("q2", "p3"), Judgment("q3", "p1", 0)]


def test_every_answered_query_has_its_positives_sorted_and_nothing_else() -> None:
    groups = positive_groups(QUERIES, PASSAGES, JUDGMENTS)
    assert [group.query_id for group in groups] == ["q2", "q1"]
    assert groups[1].positives == ("one", "two") and groups[1].positive_scores == (1.0, 1.0)
    assert not any(group.negatives for group in groups)


def test_the_report_counts_groups_and_knows_no_hardness() -> None:
    report = report_unmined(positive_groups(QUERIES, PASSAGES, JUDGMENTS), QUERIES)
    assert (report.queries, report.groups, report.negatives, report.short_groups) == (3, 2, 0, 0)
    assert report.hardness_against_random is None and report.to_json()["groups_by_negatives"] == {"0": 2}


def test_a_positive_outside_the_corpus_and_a_doubled_query_are_refused() -> None:
    with pytest.raises(ValueError, match="q1 is judged on passage p9, which is not in the corpus"):
        positive_groups(QUERIES, PASSAGES, [Judgment("q1", "p9")])
    with pytest.raises(ValueError, match="1 query ids repeat"):
        positives_of([*QUERIES, QUERIES[0]], [], ["p1"])
