"""Questions for passages: split the sources, write, filter. And what writing would ask, without asking it.

Belongs here: the order of the steps, and what is known before the first question is written. Does not belong here: any
of the steps.

The filters run from cheap to paid: malformed, copied, near duplicates, round trip, judge.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from embed_pipeline.dataset.ledger import LedgerEntry, summarise_ledger
from embed_pipeline.records import Passage, Split
from embed_pipeline.synthesis.chat import ChatModel, ChatRequest, Progress
from embed_pipeline.synthesis.chat_writing import MAX_QUESTION_CHARACTERS, Written, write_with_model
from embed_pipeline.synthesis.filters import (
    Filtered,
    Search,
    drop_copied,
    drop_near_duplicates,
    keep_answerable,
    keep_found_again,
)
from embed_pipeline.synthesis.inverse_cloze import write_offline
from embed_pipeline.synthesis.prompting import WritingRequest, draw_passages, grade_request, writing_requests
from embed_pipeline.synthesis.questions import SyntheticQuestion
from embed_pipeline.synthesis.settings import JUDGE, SynthesisSettings
from embed_pipeline.synthesis.sources import Sources, SourceSplits, collect_sources, split_sources
from embed_pipeline.synthesis.templates import grades_answers, load_template


@dataclass(frozen=True, slots=True)
class SynthesisCounts:
    """How many questions were written and what became of them: written = kept + the six reasons.

    `lost_usd` is what the answers cost in which no question was found.
    """

    passages: int
    passages_drawn: int
    requests: int
    written: int
    unanswered_call: int
    malformed_question: int
    copied_question: int
    near_duplicate_question: int
    lost_in_round_trip: int
    not_answerable: int
    kept: int
    lost_usd: float


@dataclass(frozen=True, slots=True)
class SynthesisResult:
    """The questions that passed every filter, in the order they were written, and an entry for each that did not.

    `splits` has every passage; `sources_description` says in words how they were split.
    """

    questions: tuple[SyntheticQuestion, ...]
    ledger: tuple[LedgerEntry, ...]
    counts: SynthesisCounts
    splits: Mapping[str, Split]
    sources_description: str


@dataclass(frozen=True, slots=True)
class RequestPlan:
    """The requests that writing sends, and the most that judging can send.

    The judge is asked about what was written and passed the filters, so `judging_at_most` stands in with one request of
    the longest question for every question asked for. Both are empty where nobody is asked.
    """

    writing: tuple[ChatRequest, ...]
    judging_at_most: tuple[ChatRequest, ...]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """The passages and their splits, those drawn to be asked about, and the language to ask in."""

    sources: Sources
    splits: SourceSplits
    drawn: tuple[Passage, ...]
    language: str


def synthesise(
    passages: Sequence[Passage],
    settings: SynthesisSettings,
    *,
    language: str,
    chat: ChatModel | None = None,
    judge: ChatModel | None = None,
    search: Search | None = None,
    templates_folder: Path | None = None,
    progress: Progress | None = None,
) -> SynthesisResult:
    """The questions for the passages; the same passages, settings and answers give the same questions.

    `language` is the data set's. `chat` writes where the generator is chat; `judge` grades, left out: the one that
    writes. `search` gives the hits of the round trip in the whole corpus. `templates_folder` is `own_templates`.

    Raises:
        ValueError: too few documents or sections, a template is missing or malformed, or somebody who is needed is not
            given.
        CallLimitError, SpendLimitError: as `ChatModel.answer`; every answer so far is in its cache.
    """
    writer = chat if settings.generator == "chat" else None
    grader = (judge or writer) if grades_answers(settings) else None
    _check_given(settings, writer=writer, grader=grader, search=search)
    made = _prepare(passages, settings, language)
    requests = _requests_for(made, settings, templates_folder)
    if writer is not None:
        written = write_with_model(
            requests, writer, made.sources, made.splits, number=settings.questions_per_passage, progress=progress
        )
    else:
        written = write_offline(made.drawn, made.sources, made.splits, settings)
    filtered = _filter(written, made.sources, settings, search)
    if grader is not None and settings.answerable_threshold is not None:
        graded = keep_answerable(
            filtered.kept,
            made.sources,
            grader,
            load_template(JUDGE, made.language, templates_folder),
            language=made.language,
            threshold=settings.answerable_threshold,
            seed=settings.seed,
            progress=progress,
        )
        filtered = Filtered(graded.kept, (*filtered.dropped, *graded.dropped))
    return SynthesisResult(
        questions=filtered.kept,
        ledger=filtered.dropped,
        counts=_count(made, len(requests), filtered, written.lost_usd),
        splits=made.splits.splits,
        sources_description=made.splits.description,
    )


def plan_requests(
    passages: Sequence[Passage],
    settings: SynthesisSettings,
    *,
    language: str,
    templates_folder: Path | None = None,
) -> RequestPlan:
    """What `synthesise` would ask; nothing is sent.

    Raises:
        ValueError: too few documents or sections, or a template is missing or malformed.
    """
    made = _prepare(passages, settings, language)
    requests = _requests_for(made, settings, templates_folder)
    if not grades_answers(settings):
        return RequestPlan(tuple(one.request for one in requests), ())
    if settings.generator == "chat":
        asked = [one.passage_ids for one in requests for _ in range(settings.questions_per_passage)]
    else:
        asked = [one.passage_ids for one in write_offline(made.drawn, made.sources, made.splits, settings).questions]
    template = load_template(JUDGE, made.language, templates_folder)
    judging = tuple(
        grade_request(
            # The number tells the requests apart: equal ones would be one call.
            str(number).rjust(MAX_QUESTION_CHARACTERS, "?"),
            [made.sources.by_id[passage_id] for passage_id in passage_ids],
            template,
            language=made.language,
            seed=settings.seed,
        )
        for number, passage_ids in enumerate(asked)
    )
    return RequestPlan(tuple(one.request for one in requests), judging)


def _prepare(passages: Sequence[Passage], settings: SynthesisSettings, language: str) -> _Prepared:
    """The start of writing; `language` is the data set's, the settings may name another.

    Raises:
        ValueError: a passage does not say its file, or there are too few documents or sections.
    """
    sources = collect_sources(passages)
    splits = split_sources(sources.ordered, settings.split, settings.split_by)
    return _Prepared(sources, splits, draw_passages(sources, splits, settings), settings.language or language)


def _requests_for(
    made: _Prepared, settings: SynthesisSettings, templates_folder: Path | None
) -> tuple[WritingRequest, ...]:
    """The requests for questions; none where no model writes. Raises ValueError as `load_template`."""
    if settings.generator != "chat":
        return ()
    templates = [load_template(style, made.language, templates_folder) for style in settings.styles]
    return writing_requests(
        made.drawn, made.sources, made.splits, settings, templates=templates, language=made.language
    )


def _check_given(
    settings: SynthesisSettings, *, writer: ChatModel | None, grader: ChatModel | None, search: Search | None
) -> None:
    if settings.generator == "chat" and writer is None:
        raise ValueError("synthesis.generator: chat needs a chat model, found none. Give one.")
    if grades_answers(settings) and grader is None:
        raise ValueError("synthesis.judge: expected a chat model that grades, found none. Give one.")
    if settings.round_trip is not None and search is None:
        raise ValueError(
            f"synthesis.round_trip: expected the search of {settings.round_trip.recipe}, found none. Give one, or set "
            "round_trip: null."
        )


def _filter(written: Written, sources: Sources, settings: SynthesisSettings, search: Search | None) -> Filtered:
    kept, dropped = written.questions, list(written.dropped)
    steps: list[Callable[[Sequence[SyntheticQuestion]], Filtered]] = []
    if settings.generator == "chat":  # a sentence of the passage is copied on purpose
        steps.append(lambda questions: drop_copied(questions, sources, settings.copied_share))
    steps.append(lambda questions: drop_near_duplicates(questions, sources, settings.near_duplicate_threshold))
    if (trip := settings.round_trip) is not None and search is not None:
        steps.append(
            lambda questions: keep_found_again(questions, sources, search, recipe=trip.recipe, top_k=trip.top_k)
        )
    for step in steps:
        filtered = step(kept)
        kept = filtered.kept
        dropped.extend(filtered.dropped)
    return Filtered(kept, tuple(dropped))


def _count(made: _Prepared, requests: int, filtered: Filtered, lost_usd: float) -> SynthesisCounts:
    dropped = summarise_ledger(filtered.dropped)
    return SynthesisCounts(
        passages=len(made.sources.ordered),
        passages_drawn=len(made.drawn),
        requests=requests,
        written=len(filtered.kept) + len(filtered.dropped),
        unanswered_call=dropped.get("unanswered_call", 0),
        malformed_question=dropped.get("malformed_question", 0),
        copied_question=dropped.get("copied_question", 0),
        near_duplicate_question=dropped.get("near_duplicate_question", 0),
        lost_in_round_trip=dropped.get("lost_in_round_trip", 0),
        not_answerable=dropped.get("not_answerable", 0),
        kept=len(filtered.kept),
        lost_usd=round(lost_usd, 6),
    )
