"""A chat model: its settings, what it is asked and what it answers, and who can be asked.

Belongs here: the contract between writing questions and calling a model. Does not belong here: the calls themselves
(hosted_chat), what is asked (the templates), what every service needs (encoding/service_settings.py), the key, which is
read from the environment when a call is made and is no setting.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from pydantic import Field

from embed_pipeline.encoding.service_settings import ServiceSettings

Structure = Literal["json_schema", "json_object", "prompt"]


class ChatSettings(ServiceSettings):
    """One chat model behind a service that speaks OpenAI's chat API, and how much may be spent on it."""

    title: ClassVar[str] = "chat model"

    timeout_seconds: float = Field(120, gt=0, description="How long one attempt may take, to its answer's last byte.")
    temperature: float | None = Field(
        None, ge=0, le=2, allow_inf_nan=False, description="Left out: the service's own; some models know no other."
    )
    max_answer_tokens: int = Field(
        1024, gt=0, description="The longest answer, with the thinking of models that think. It bounds a call's cost."
    )
    send_seed: bool = Field(True, description="Send the request's seed; off for services that refuse one.")
    structured: Structure = Field(
        "json_schema",
        description="How the service is held to the answer's form. json_schema: it keeps to a schema (OpenAI, Azure, "
        "vLLM, Ollama). json_object: it writes JSON, the schema stands in the prompt. prompt: the prompt alone.",
    )
    usd_per_million_prompt_tokens: float = Field(
        0, ge=0, allow_inf_nan=False, description="USD; 0 for a model of one's own."
    )
    usd_per_million_answer_tokens: float = Field(
        0, ge=0, allow_inf_nan=False, description="USD; 0 for a model of one's own."
    )
    spend_limit_usd: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="No call is made that could lift the sum of all runs above it."
    )
    call_limit: int | None = Field(
        None,
        gt=0,
        description="At most this many calls over all runs. One that got no answer counts, a refused one (429, 5xx) "
        "does not.",
    )
    parallel: int = Field(4, gt=0, le=256, description="Calls under way at once.")
    requests_per_minute: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Calls and their repeats are spread to at most this many."
    )

    def cost(self, prompt_tokens: float, answer_tokens: float) -> float:
        """USD for so many tokens."""
        return (
            prompt_tokens * self.usd_per_million_prompt_tokens + answer_tokens * self.usd_per_million_answer_tokens
        ) / 1e6

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.spend_limit_usd is not None and not self.cost(1, 1):
            problems.append(
                "spend_limit_usd needs usd_per_million_prompt_tokens or usd_per_million_answer_tokens above 0, else "
                "nothing is ever spent."
            )
        return problems


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
