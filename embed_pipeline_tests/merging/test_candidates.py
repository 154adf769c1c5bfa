"""Which checkpoint of a data set is taken: the best of those that lose little on every general suite."""

from pathlib import Path

from embed_pipeline.merging.candidates import PROMOTED_FILE, Candidate, promote, read_promoted, write_promoted

BASE = Candidate("e5", False, 0.50, 0.60, 0.50, 0.60, 0.0)
CAREFUL = Candidate("e5_merged", True, 0.70, 0.66, 0.50, 0.60, 0.004)
FORGETFUL = Candidate("e5_finetuned", True, 0.75, 0.70, 0.50, 0.60, 0.08)


def test_a_loss_on_one_suite_counts_though_the_mean_over_all_rose() -> None:
    promoted = promote([BASE, CAREFUL, FORGETFUL], loss_limit=0.005)
    assert promoted.chosen == "e5_merged"
    assert "e5_finetuned scores +5.0 more, but loses 8.0." in promoted.reason


def test_where_every_checkpoint_loses_more_the_one_that_loses_least_is_taken() -> None:
    promoted = promote([CAREFUL, FORGETFUL], loss_limit=0.001)
    assert promoted.chosen == "e5_merged" and "loses more than 0.1 points on a general suite" in promoted.reason


def test_a_choice_is_read_again(tmp_path: Path) -> None:
    promoted = promote([BASE, CAREFUL], loss_limit=0.005)
    write_promoted(promoted, tmp_path, dataset="disease", recipe="mixed", headline="precise@5")
    assert (tmp_path / PROMOTED_FILE).is_file() and read_promoted(tmp_path) == promoted
    assert "| e5_merged | 70.0 | +20.0 | 66.0 | -0.4 |" in (tmp_path / "README.md").read_text(encoding="utf-8")
