"""The requests to a chat model: which passages with which template, and the form of the answers.

Belongs here: building requests. Does not belong here: reading the answers (chat_writing, filters), sending the requests
(hosted_chat).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from embed_pipeline.records import Passage
from embed_pipeline.synthesis.chat import ChatRequest
from embed_pipeline.synthesis.settings import SynthesisSettings
from embed_pipeline.synthesis.sources import Sources, SourceSplits
from embed_pipeline.synthesis.templates import Template

QUESTIONS_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "questions": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
                "required": ["question", "answer"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["questions"],
    "additionalProperties": False,
}

# The reason comes first: a grade that is written after its reason follows from it.
GRADE_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, "answerable": {"type": "number"}},
    "required": ["reason", "answerable"],
    "additionalProperties": False,
}

# A model follows a name more surely than a code.
_LANGUAGES = {
    "ar": "Arabic",
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "fi": "Finnish",
    "fr": "French",
    "hi": "Hindi",
    "hu": "Hungarian",
    "id": "Indonesian",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "no": "Norwegian",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sv": "Swedish",
    "th": "Thai",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "vi": "Vietnamese",
    "zh": "Chinese",
}


@dataclass(frozen=True, slots=True)
class WritingRequest:
    """A request for questions, and what it asks about."""

    request: ChatRequest
    template: Template
    passage_ids: tuple[str, ...]


def draw_passages(sources: Sources, splits: SourceSplits, settings: SynthesisSettings) -> tuple[Passage, ...]:
    """The passages that are asked about, in reading order: all, or `max_passages` drawn with the seed.

    Every split that has passages keeps at least one. Which passages are drawn does not depend on their order.
    """
    if settings.max_passages is None or settings.max_passages >= len(sources.ordered):
        return sources.ordered
    drawn = sorted(sources.ordered, key=lambda passage: _lot(passage.id, settings.seed))
    firsts = {splits.splits[passage.id]: passage.id for passage in reversed(drawn)}
    rest = [passage.id for passage in drawn if passage.id not in firsts.values()]
    chosen = {*firsts.values(), *rest[: settings.max_passages - len(firsts)]}
    return tuple(passage for passage in sources.ordered if passage.id in chosen)


def writing_requests(
    drawn: Sequence[Passage],
    sources: Sources,
    splits: SourceSplits,
    settings: SynthesisSettings,
    *,
    templates: Sequence[Template],
    language: str,
) -> tuple[WritingRequest, ...]:
    """One request for every drawn passage and template, style after style.

    A template for two passages asks about a passage and the one after it in the same group; the last passage of a group
    has none after it and starts no pair.
    """
    following = _next_in_group(sources, splits)
    found = []
    for template in templates:
        for passage in drawn:
            partner = following.get(passage.id)
            if template.passages == 2 and partner is None:
                continue
            asked = (passage, partner) if template.passages == 2 and partner else (passage,)
            values = {**describe_passages(asked, language), "number": str(settings.questions_per_passage)}
            request = ChatRequest(
                system=template.fill_system(values),
                user=template.fill_user(values),
                schema_name="questions",
                schema=QUESTIONS_SCHEMA,
                seed=settings.seed,
            )
            found.append(WritingRequest(request, template, tuple(passage.id for passage in asked)))
    return tuple(found)


def grade_request(
    question: str, passages: Sequence[Passage], template: Template, *, language: str, seed: int
) -> ChatRequest:
    """The request that asks the judge how well the passages answer a question."""
    values = {**describe_passages(passages, language), "question": question}
    return ChatRequest(
        system=template.fill_system(values),
        user=template.fill_user(values),
        schema_name="grade",
        schema=GRADE_SCHEMA,
        seed=seed,
    )


def describe_passages(passages: Sequence[Passage], language: str) -> Mapping[str, str]:
    """The fields passages, heading and language of a template; several passages are numbered [1], [2]."""
    texts = [passage.text for passage in passages]
    headings = dict.fromkeys(passage.attributes.get("heading", "") for passage in passages)
    return {
        "passages": texts[0]
        if len(texts) == 1
        else "\n\n".join(f"[{number}] {text}" for number, text in enumerate(texts, start=1)),
        "heading": "; ".join(heading for heading in headings if heading) or "–",
        "language": _LANGUAGES.get(language, f"the language with the ISO 639 code {language}"),
    }


def _lot(passage_id: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}\n{passage_id}".encode()).hexdigest()


def _next_in_group(sources: Sources, splits: SourceSplits) -> dict[str, Passage]:
    return {
        passage.id: after
        for passage, after in pairwise(sources.ordered)
        if splits.groups[passage.id] == splits.groups[after.id]
    }
