"""Questions out of a chat model's answers, and the answers that hold none.

Belongs here: reading answers to writing requests. Does not belong here: the requests (prompting), the filters.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from embed_pipeline.dataset.ledger import LedgerEntry
from embed_pipeline.dataset.normalisation import canonical_form, normalise_text, query_id
from embed_pipeline.synthesis.chat import ChatAnswer, ChatModel, Progress
from embed_pipeline.synthesis.prompting import WritingRequest
from embed_pipeline.synthesis.questions import SyntheticQuestion
from embed_pipeline.synthesis.source_splits import SourceSplits
from embed_pipeline.synthesis.sources import Sources

MAX_QUESTION_CHARACTERS = 300
"""A longer text is an answer or a passage, and no question."""

TEMPLATE_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Written:
    """The questions in the order of their requests, and an entry for everything that is no question."""

    questions: tuple[SyntheticQuestion, ...]
    dropped: tuple[LedgerEntry, ...]


def write_with_model(
    requests: Sequence[WritingRequest],
    chat: ChatModel,
    sources: Sources,
    splits: SourceSplits,
    *,
    number: int,
    progress: Progress | None = None,
) -> Written:
    """What the model writes: at most `number` questions an answer, the rest of the answer is left out.

    An answer that did not come is one entry `unanswered_call`; one without a usable question, and every part of an
    answer that is none, is one entry `malformed_question`.

    Raises:
        CallLimitError, SpendLimitError, ValueError: as `ChatModel.answer`.
    """
    questions: list[SyntheticQuestion] = []
    dropped: list[LedgerEntry] = []
    answers = chat.answer([one.request for one in requests], progress)
    for request, answer in zip(requests, answers, strict=True):
        for found in _read_answer(answer, number):
            if found.problem:
                reason = "unanswered_call" if answer.content is None else "malformed_question"
                style = request.template.style
                dropped.append(sources.entry(request.passage_ids, style, reason, found.text, found.problem))
            else:
                questions.append(_question(found.text, request, chat.name, splits))
    return Written(tuple(questions), tuple(dropped))


@dataclass(frozen=True, slots=True)
class _Found:
    """A question, or what stands in its place with what is wrong with it."""

    text: str
    problem: str = ""


def _read_answer(answer: ChatAnswer, number: int) -> Iterator[_Found]:
    if answer.content is None:
        yield _Found("", f"No answer of the model: {answer.problem}")
        return
    items = answer.content.get("questions")
    if not isinstance(items, list):
        yield _Found(str(answer.content), f"Expected a list of questions, found {type(items).__name__}.")
    elif not items:
        yield _Found("", "The model wrote no question for it.")
    else:
        for at, item in enumerate(items):
            text = _text_of(item)
            problem = _problem_of(item, text) if at < number else f"More than the {number} asked for."
            yield _Found(text, problem)


def _text_of(item: Any) -> str:
    question = item.get("question") if isinstance(item, dict) else None
    return normalise_text(question if isinstance(question, str) else str(item))


def _problem_of(item: Any, text: str) -> str:
    if not isinstance(item, dict) or not isinstance(item.get("question"), str):
        return "Expected an object with a text as question."
    if not any(character.isalnum() for character in canonical_form(text)):
        return "The question has no letter."
    if len(text) > MAX_QUESTION_CHARACTERS:
        return f"The question has {len(text)} characters, more than {MAX_QUESTION_CHARACTERS}."
    answer = item.get("answer")
    if isinstance(answer, str) and not answer.strip():
        return "The model has no answer to its own question."
    return ""


def _question(text: str, request: WritingRequest, model: str, splits: SourceSplits) -> SyntheticQuestion:
    return SyntheticQuestion.model_validate(
        {
            "id": query_id(text),
            "text": text,
            "passage_ids": request.passage_ids,
            "split": splits.splits[request.passage_ids[0]],
            "style": request.template.style,
            "generator": "chat",
            "model": model,
            "template": request.template.digest[:TEMPLATE_DIGITS],
            "seed": request.request.seed,
        }
    )
