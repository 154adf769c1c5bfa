"""What is asked of a chat model and what it answers: the records, and who can be asked.

Belongs here: the contract between writing questions and calling a model. Does not belong here: the calls themselves.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Progress = Callable[[int, int], None]
"""Called with (requests done, requests in all)."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One call: the messages, and the JSON schema that the answer must have.

    Two equal requests to one model are one call. `seed` is sent to services that know it, and tells repeated requests
    apart.
    """

    system: str
    user: str
    schema_name: str
    schema: Mapping[str, Any]
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """What came back for a request: the JSON object, or None with the reason why there is no usable one."""

    request: ChatRequest
    content: Mapping[str, Any] | None
    problem: str = ""
    cached: bool = False
    cost_usd: float = 0.0
    """What the answer cost when it was made."""


@dataclass(frozen=True, slots=True)
class ChatEstimate:
    """What answering requests would take: calls that are not answered yet, their tokens and USD at most."""

    calls: int
    answered: int
    prompt_tokens: int
    answer_tokens: int
    cost_usd: float


class ChatModel(Protocol):
    """Answers requests, in parallel and from its cache; what was answered once is never asked again."""

    @property
    def name(self) -> str:
        """The model's name as its settings say it."""
        ...

    def answer(self, requests: Sequence[ChatRequest], progress: Progress | None = None) -> Iterator[ChatAnswer]:
        """One answer for each request, in the order of the requests.

        Raises:
            CallLimitError, SpendLimitError: the next call could pass a limit; every answer so far is in the cache.
            ValueError: no key, or the service refuses every call.
        """
        ...

    def estimate(self, requests: Sequence[ChatRequest]) -> ChatEstimate:
        """What `answer` would still have to ask for; no call is made."""
        ...
