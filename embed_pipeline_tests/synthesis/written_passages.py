"""Passages of made-up documents and a chat model that answers from a rule, for the tests of this folder."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from embed_pipeline.dataset.normalisation import passage_id
from embed_pipeline.records import Passage
from embed_pipeline.synthesis.chat import ChatAnswer, ChatEstimate, ChatRequest, Progress

Rule = Callable[[ChatRequest], Mapping[str, Any] | None]


class RuleChat:
    """A chat model whose answer is a function of the request; None is an answer that did not come."""

    def __init__(self, rule: Rule, name: str = "rule") -> None:
        self._rule = rule
        self._name = name
        self.asked: list[ChatRequest] = []

    @property
    def name(self) -> str:
        return self._name

    def answer(self, requests: Sequence[ChatRequest], progress: Progress | None = None) -> Iterator[ChatAnswer]:
        for done, request in enumerate(requests, start=1):
            self.asked.append(request)
            content = self._rule(request)
            yield ChatAnswer(request, content, "" if content is not None else "the service is away")
            if progress:
                progress(done, len(requests))

    def estimate(self, requests: Sequence[ChatRequest]) -> ChatEstimate:
        return ChatEstimate(len({request.user for request in requests}), 0, 0, 0, 0.0)


def passage(text: str, file: str = "a.md", heading: str = "", start: int = 0, **attributes: str) -> Passage:
    """A passage as the stage documents makes them."""
    return Passage(
        passage_id(text), text, {"file": file, "heading": heading, "start": str(start), "end": "0", **attributes}
    )


def documents(files: int, passages: int, *, prefix: str = "doc") -> list[Passage]:
    """So many files of so many passages, two passages a heading; every text is different."""
    return [
        passage(
            f"{prefix} {file} says in line {at} that rule {file * 100 + at} holds for case {at * 7 + file}.",
            f"{prefix}{file:02}.md",
            f"Manual {file} › Part {at // 2}",
            at * 100,
        )
        for file in range(files)
        for at in range(passages)
    ]
