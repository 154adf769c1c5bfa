"""Checks of shift, part of the stage `dataset`: are the test questions and the newest ones like those before?"""

from collections.abc import Mapping

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.dataset.ledger import shorten_value
from embed_pipeline.dataset.shift import Shift, measure_shift, newest_batch
from embed_pipeline.defs.checks.outcome import CheckOutcome
from embed_pipeline.records import Query

# A shift is red where it is both large enough to move a result and no chance: large sets make any difference certain,
# small ones make any difference large.
SHIFT_LIMIT = 0.15
SHIFT_P_VALUE = 0.01
_EXAMPLES = 5


def check_train_and_test(dataset: RetrievalDataset) -> CheckOutcome:
    """Train against test; passes where one of them is empty."""
    return _compare(
        "test_queries_are_like_train",
        dataset,
        {"train": dataset.queries_of("train"), "test": dataset.queries_of("test")},
        remedy="Where the files name the splits: measure on questions like those to come, or say in the description "
        "how test differs. Where the hash splits: add rows, or take another seed before anything was measured.",
    )


def check_newest(dataset: RetrievalDataset, files: Mapping[str, str] | None) -> CheckOutcome:
    """The queries of the last file against those of the others; passes where there is one file or none is known."""
    newest = newest_batch(files or {})
    groups = {
        "rest": tuple(query for query in dataset.queries if query.id not in newest),
        "newest": tuple(query for query in dataset.queries if query.id in newest),
    }
    return _compare(
        "newest_queries_are_like_the_rest",
        dataset,
        groups,
        remedy="Ask where the newest file comes from. If such questions are to come, collect more and train again; "
        "else give it a data set of its own.",
    )


def _compare(
    name: str, dataset: RetrievalDataset, groups: Mapping[str, tuple[Query, ...]], *, remedy: str
) -> CheckOutcome:
    empty = [group for group, queries in groups.items() if not queries]
    if empty:
        return CheckOutcome(
            name=name, passed=True, figures={"note": f"no {empty[0]} queries to compare"}, remedy="none needed"
        )
    (first, one), (second, other) = groups.items()
    shift = measure_shift(dataset, one, other)
    differences = {"length": shift.length, "language": shift.language, "labels": shift.labels}
    shifted = [what for what, d in differences.items() if d.distance >= SHIFT_LIMIT and d.p_value < SHIFT_P_VALUE]
    figures: dict[str, float | int | str] = {"shifted": ", ".join(shifted) or "nothing"}
    for what, difference in differences.items():
        figures[f"{what}_distance"] = round(difference.distance, 4)
        figures[f"{what}_p"] = float(f"{difference.p_value:.3g}")
    figures |= {
        f"queries_{first}": len(one),
        f"queries_{second}": len(other),
        f"median_characters_{first}": shift.first_median,
        f"median_characters_{second}": shift.second_median,
        "languages": _tell_languages(shift, first, second),
        "examples": _tell_labels(dataset, shift),
        "limit": SHIFT_LIMIT,
        "p_below": SHIFT_P_VALUE,
    }
    return CheckOutcome(name=name, passed=not shifted, figures=figures, remedy=remedy)


def _tell_languages(shift: Shift, first: str, second: str) -> str:
    names = list(dict.fromkeys([*shift.first_languages, *shift.second_languages]))[:_EXAMPLES]
    return "; ".join(
        f"{name}: {first} {shift.first_languages.get(name, 0.0):.1%}, {second} "
        f"{shift.second_languages.get(name, 0.0):.1%}"
        for name in names
    )


def _tell_labels(dataset: RetrievalDataset, shift: Shift) -> str:
    texts = {passage.id: passage.text for passage in dataset.passages}
    return "; ".join(shorten_value(texts[label]) for label in shift.most_shifted_labels[:_EXAMPLES])
