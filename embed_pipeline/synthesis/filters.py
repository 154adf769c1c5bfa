"""The filters of questions: copied, near duplicate, lost in the round trip, not answerable. Each drop has its reason.

Belongs here: which questions are left out and why, those that a chat model judges last, for only they cost calls. Does
not belong here: the request to the judge (prompting), the order of the filters (generation).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from embed_pipeline.dataset.ledger import LedgerEntry
from embed_pipeline.dataset.near_duplicates import NearDuplicateIndex, shingle_texts
from embed_pipeline.dataset.normalisation import canonical_form
from embed_pipeline.records import SPLITS
from embed_pipeline.synthesis.chat import ChatAnswer, ChatModel, Progress
from embed_pipeline.synthesis.prompting import grade_request
from embed_pipeline.synthesis.questions import SyntheticQuestion
from embed_pipeline.synthesis.sources import Sources
from embed_pipeline.synthesis.templates import Template

Search = Callable[[Sequence[str]], Sequence[Sequence[str]]]
"""For every question the ids of the passages found, best first."""

_GRAM = 5


@dataclass(frozen=True, slots=True)
class Filtered:
    """What a filter kept and what it left out, both in the order of the questions given."""

    kept: tuple[SyntheticQuestion, ...]
    dropped: tuple[LedgerEntry, ...]


def drop_copied(questions: Sequence[SyntheticQuestion], sources: Sources, copied_share: float) -> Filtered:
    """The questions that stand in none of their passages word for word, or only in a share below `copied_share`.

    Measured on letters and digits: the longest run that question and passage have in common, and the 5-grams of the
    question that the passage has too; the larger share counts.
    """
    forms: dict[str, str] = {}
    kept: list[SyntheticQuestion] = []
    dropped: list[LedgerEntry] = []
    for question in questions:
        text = canonical_form(question.text)
        share = 0.0
        for passage_id in question.passage_ids:
            if passage_id not in forms:
                forms[passage_id] = canonical_form(sources.by_id[passage_id].text)
            share = max(share, copied_share_of(text, forms[passage_id], copied_share))
        if share >= copied_share:
            detail = f"{share:.0%} of it stand in the passage word for word; the limit is {copied_share:.0%}."
            dropped.append(sources.reject(question, "copied_question", detail))
        else:
            kept.append(question)
    return Filtered(tuple(kept), tuple(dropped))


def copied_share_of(question: str, passage: str, threshold: float) -> float:
    """The share of a question that its passage holds too, both in canonical form; 0 where no run reaches the threshold.

    A 5-gram is counted as often as the question has it.
    """
    length = len(question)
    grams = [question[at : at + _GRAM] for at in range(length - _GRAM + 1)]
    shared = sum(gram in passage for gram in grams) / len(grams) if grams else 0.0
    # Runs below the threshold decide nothing, so the search ends there.
    for run in range(length, max(1, math.ceil(threshold * length - 1e-9)) - 1, -1):
        if any(question[at : at + run] in passage for at in range(length - run + 1)):
            return max(shared, run / length)
    return shared


def drop_near_duplicates(questions: Sequence[SyntheticQuestion], sources: Sources, threshold: float) -> Filtered:
    """The questions without those that repeat another one; of two in one split the first stays.

    Of two in different splits the one of test stays, then validation: held-out questions stay, training ones go.
    """
    order = sorted(range(len(questions)), key=lambda at: -SPLITS.index(questions[at].split))
    index = NearDuplicateIndex(shingle_texts([canonical_form(questions[at].text) for at in order]), threshold)
    entries: dict[int, LedgerEntry] = {}
    for position, found in index.find_each(earlier=True):
        near = [(-one.similarity, order[one.position]) for one in found if order[one.position] not in entries]
        if near:
            (less, first), at = min(near), order[position]
            other = questions[first]
            detail = f"Nearly the same as {other.id} of {other.split} (similarity {-less:.2f}): {other.text}"
            entries[at] = sources.reject(questions[at], "near_duplicate_question", detail[:300])
    kept = tuple(question for at, question in enumerate(questions) if at not in entries)
    return Filtered(kept, tuple(entries[at] for at in sorted(entries)))


def keep_found_again(
    questions: Sequence[SyntheticQuestion], sources: Sources, search: Search, *, recipe: str, top_k: int
) -> Filtered:
    """The questions whose passages are all among the first `top_k` hits of a search, with their worst rank.

    Raises:
        ValueError: the search does not answer every question.
    """
    found = search([question.text for question in questions]) if questions else []
    if len(found) != len(questions):
        raise ValueError(
            f"round trip: expected hits for each of {len(questions)} questions, found {len(found)}. Correct the search."
        )
    kept: list[SyntheticQuestion] = []
    dropped: list[LedgerEntry] = []
    for question, hits in zip(questions, found, strict=True):
        ranks = {passage_id: rank for rank, passage_id in reversed(list(enumerate(hits[:top_k], start=1)))}
        lost = [passage_id for passage_id in question.passage_ids if passage_id not in ranks]
        if lost:
            detail = f"{recipe} does not find {', '.join(lost)} among the first {top_k} hits."
            dropped.append(sources.reject(question, "lost_in_round_trip", detail))
        else:
            rank = max(ranks[passage_id] for passage_id in question.passage_ids)
            kept.append(question.model_copy(update={"rank": rank}))
    return Filtered(tuple(kept), tuple(dropped))


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
