"""mteb's task types that need no more than text: their scores, their main score, and mteb's language codes.

Belongs here: what mteb calls things. Does not belong here: data (mteb_tasks, mteb_folder).
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from mteb import AbsTask

TaskType = Literal["retrieval", "reranking", "classification", "clustering", "pair_classification", "sts"]

_RANKING_SCORES = r"(ndcg|map|mrr|recall|precision|hit_rate)_at_(1|3|5|10|20|100|1000)"


UNDETERMINED = "und-Zyyy"
"""mteb's code where the language is not known; without any code mteb's own means over a task are NaN."""


@dataclass(frozen=True, slots=True)
class _Type:
    """One of mteb's types: its name, the base class, text to text or to class, its scores, mteb's own main score."""

    mteb_name: Any  # one of a Literal of mteb's
    base_class: str
    category: Literal["t2t", "t2c"]
    scores: str
    main_score: str


_TYPES: dict[TaskType, _Type] = {
    "retrieval": _Type("Retrieval", "AbsTaskRetrieval", "t2t", _RANKING_SCORES, "ndcg_at_10"),
    # a retrieval task with candidates; mteb's own class for reranking is deprecated
    "reranking": _Type("Reranking", "AbsTaskRetrieval", "t2t", _RANKING_SCORES, "map_at_1000"),
    "classification": _Type(
        "Classification", "AbsTaskClassification", "t2c", r"accuracy|(f1|precision|recall)(_weighted)?", "accuracy"
    ),
    "clustering": _Type("Clustering", "AbsTaskClustering", "t2c", r"v_measure|ami", "v_measure"),
    "pair_classification": _Type(
        "PairClassification",
        "AbsTaskPairClassification",
        "t2t",
        r"(max|similarity|cosine|dot|euclidean|manhattan)_(ap|f1|accuracy|precision|recall)",
        "max_ap",
    ),
    "sts": _Type("STS", "AbsTaskSTS", "t2t", r"((cosine|euclidean|manhattan)_)?(spearman|pearson)", "cosine_spearman"),
}


def mteb_type(task_type: TaskType) -> _Type:
    """What mteb calls this type and its parts."""
    return _TYPES[task_type]


def task_class(task_type: TaskType) -> "type[AbsTask]":
    """mteb's class of this type; it still lacks the description of one task."""
    from mteb import abstasks

    return getattr(abstasks, _TYPES[task_type].base_class)


def main_score_of(task_type: TaskType, wanted: str | None) -> str:
    """The score that stands for a task: the wanted one, or mteb's choice for the type.

    Raises:
        ValueError: mteb has no such score for this type.
    """
    described = _TYPES[task_type]
    if wanted is None:
        return described.main_score
    if not re.fullmatch(described.scores, wanted):
        raise ValueError(
            f"main_score of a {task_type} task must match {described.scores}, found {wanted!r}. "
            f"Correct it, or leave it out for {described.main_score}."
        )
    return wanted


def language_code(language: str) -> str:
    """mteb's code of a language: eng-Latn for en, eng or eng-Latn.

    Raises:
        ValueError: the language is unknown, or no script is known for it and none is named.
    """
    from mteb.languages.check_language_code import check_language_code
    from mteb.languages.iso_mappings import _get_iso1_to_iso3, _get_iso3_to_default_script

    code = language
    if "-" not in code:
        code = _get_iso1_to_iso3().get(code, code)
        code = f"{code}-{_get_iso3_to_default_script().get(code, '?')}"
    try:
        check_language_code(code)
    except ValueError as error:
        raise ValueError(
            f"language must be an ISO 639 code, as en, eng or with a script zho-Hans, found {language!r}. Correct it."
        ) from error
    return code
