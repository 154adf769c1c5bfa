"""docs/changes.md says what the graph does, and what the graph does is what was promised."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from embed_pipeline_tests.changes import ASSETS, COMMAND, UPGRADE, Counts, count_all, format_table

ROOT = Path(__file__).parents[1]
TRAINING = ("mined_negatives", "finetuned_checkpoint")


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Counts]:
    return count_all(tmp_path_factory.mktemp("changes"))


def _built(counts: Mapping[str, Counts], name: str) -> dict[str, int]:
    return {asset: number for asset, number in counts[name].built.items() if number}


def _touched(counts: Mapping[str, Counts], name: str) -> set[str]:
    return {asset for asset in ASSETS if counts[name].built[asset] or counts[name].found[asset]}


def test_the_table_in_the_docs_is_what_was_counted(counts: Mapping[str, Counts]) -> None:
    written = (ROOT / "docs" / "changes.md").read_text(encoding="utf-8")
    assert written == format_table(counts), f"write it anew: {COMMAND}"


@pytest.mark.parametrize("name", ["file touched", "`automation` edited", UPGRADE])
def test_what_changes_no_byte_that_counts_re_runs_nothing(counts: Mapping[str, Counts], name: str) -> None:
    assert _touched(counts, name) == set()


def test_equal_cells_are_read_and_cleaned_and_nothing_follows(counts: Mapping[str, Counts]) -> None:
    assert _built(counts, "file saved again, same cells") == {"raw_xlsx": 1, "cleaned_qa": 1}


def test_a_question_of_train_trains_and_one_of_test_only_mines_the_same(counts: Mapping[str, Counts]) -> None:
    everything = {"raw_xlsx": 1, "cleaned_qa": 1, "mined_negatives": 1, "finetuned_checkpoint": 1}
    everything |= {"faiss_index": 3, "query_metrics": 3, "promoted_checkpoint": 1, "metrics_table": 1, "report": 1}
    assert _built(counts, "row added, a question of train") == everything
    assert _built(counts, "row edited: another label") == everything
    assert "finetuned_checkpoint" not in _built(counts, "row added, a question of test")


def test_a_removed_file_is_noticed_and_trains_nothing_where_train_stays(counts: Mapping[str, Counts]) -> None:
    built = _built(counts, "file removed")  # its one question was one of test
    assert built["raw_xlsx"] == built["cleaned_qa"] == 1 and "finetuned_checkpoint" not in built


def test_a_setting_of_one_variant_concerns_it_alone_and_back_again_nothing_is_made(
    counts: Mapping[str, Counts],
) -> None:
    one = {"finetuned_checkpoint": 1, "faiss_index": 1, "query_metrics": 1, "promoted_checkpoint": 1}
    one |= {"metrics_table": 1, "report": 1}
    assert _built(counts, "recipe field changed: `learning_rate` of tuned") == one
    assert _built(counts, "recipe field changed and changed back") == {}
    assert set(one) <= _touched(counts, "recipe field changed and changed back")


@pytest.mark.parametrize("asset", ["cleaned_qa", "mined_negatives"])
def test_newer_code_that_makes_the_same_bytes_is_followed_by_nothing(counts: Mapping[str, Counts], asset: str) -> None:
    assert _built(counts, f"code version of `{asset}` bumped, same bytes come out") == {asset: 1}


def test_other_weights_concern_who_uses_them(counts: Mapping[str, Counts]) -> None:
    built = _built(counts, "weights replaced in place")
    assert built["mined_negatives"] == built["finetuned_checkpoint"] == 1
    assert built["faiss_index"] == built["query_metrics"] == 2  # bm25 has none
    assert not {"raw_xlsx", "cleaned_qa"} & set(built)


def test_a_renamed_model_and_words_for_readers_reach_the_published_pages_alone(counts: Mapping[str, Counts]) -> None:
    assert _touched(counts, "folder renamed: the model's") == {"metrics_table", "report"}
    assert _touched(counts, "description of a recipe edited") == {"metrics_table", "report"}
    assert _built(counts, "description of the data set edited") == {"report": 1}


def test_another_headline_promotes_and_is_told_anew(counts: Mapping[str, Counts]) -> None:
    published = {"metrics_table": 1, "report": 1}
    assert _built(counts, "headline changed") == {"promoted_checkpoint": 1, **published}


def test_what_is_added_runs_alone_and_with_the_table(counts: Mapping[str, Counts]) -> None:
    published = {"metrics_table": 1, "report": 1}
    assert _built(counts, "variant added") == {"faiss_index": 1, "query_metrics": 1, **published}
    assert not set(TRAINING) & _touched(counts, "data set added: a copy, with bm25 alone")
