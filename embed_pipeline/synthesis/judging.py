"""The judge: a chat model that grades whether its passages answer a question.

Belongs here: asking, reading the grade, the threshold. Does not belong here: the filters that cost nothing (filters).
"""

import math
from collections.abc import Sequence

from embed_pipeline.dataset.ledger import LedgerEntry
from embed_pipeline.synthesis.chat import ChatAnswer, ChatModel, Progress
from embed_pipeline.synthesis.filters import Filtered
from embed_pipeline.synthesis.prompting import grade_request
from embed_pipeline.synthesis.questions import SyntheticQuestion
from embed_pipeline.synthesis.sources import Sources
from embed_pipeline.synthesis.templates import Template


def keep_answerable(
    questions: Sequence[SyntheticQuestion],
    sources: Sources,
    judge: ChatModel,
    template: Template,
    *,
    language: str,
    threshold: float,
    seed: int,
    progress: Progress | None = None,
) -> Filtered:
    """The questions that the judge grades at or above the threshold, with their grade.

    A question without a usable grade is left out as `unanswered_call`: nothing is known against it, but nothing for it.

    Raises:
        CallLimitError, SpendLimitError, ValueError: as `ChatModel.answer`.
    """
    requests = [
        grade_request(
            question.text,
            [sources.by_id[passage_id] for passage_id in question.passage_ids],
            template,
            language=language,
            seed=seed,
        )
        for question in questions
    ]
    kept: list[SyntheticQuestion] = []
    dropped: list[LedgerEntry] = []
    for question, answer in zip(questions, judge.answer(requests, progress), strict=True):
        grade = _read_grade(answer)
        if grade is None:
            problem = answer.problem or f"expected answerable from 0 to 1, found {answer.content!r:.120}"
            dropped.append(sources.reject(question, "unanswered_call", f"No grade of the judge: {problem}"))
        elif grade < threshold:
            reason = str((answer.content or {}).get("reason", ""))[:200]
            detail = f"The judge {judge.name} gives {grade:.2f}, below {threshold:g}: {reason}"
            dropped.append(sources.reject(question, "not_answerable", detail))
        else:
            kept.append(question.model_copy(update={"answerable": grade}))
    return Filtered(tuple(kept), tuple(dropped))


def _read_grade(answer: ChatAnswer) -> float | None:
    grade = (answer.content or {}).get("answerable")
    if isinstance(grade, bool) or not isinstance(grade, int | float) or not math.isfinite(grade):
        return None
    return float(grade) if 0 <= grade <= 1 else None
