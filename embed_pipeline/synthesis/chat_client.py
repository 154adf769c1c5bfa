"""One call to a service that speaks OpenAI's chat API: the messages and the form out, the answer read.

Belongs here: what is particular to chat. Does not belong here: sending, repeating and explaining, which every service
shares (encoding/service_client.py); limits and the cache (hosted_chat.py), what an answer is worth (chat_answers.py).
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from embed_pipeline.encoding.service_client import BeforeAttempt, ServiceClient
from embed_pipeline.encoding.service_errors import ServiceError
from embed_pipeline.synthesis.call_cache import StoredAnswer
from embed_pipeline.synthesis.chat import ChatRequest, ChatSettings, Structure
from embed_pipeline.synthesis.chat_answers import is_strict
from embed_pipeline.synthesis.chat_workers import Pace

_LONGEST_WAIT_SECONDS = 120
"""The client gives up where a service asks for more."""
_TOKENS_AROUND = 128
"""Tokens that services put around messages, at most. A text has at most one token per UTF-8 byte."""
_MOST_BYTES = 16 * 2**20
_LIMIT_NAMES = ("max_tokens", "max_completion_tokens")
_NAME_REFUSED = re.compile(
    "unsupported|not supported|unrecognized|unknown|unexpected|not permitted|extra", re.IGNORECASE
)
_FORM_IN_WORDS = "Answer with one JSON object and nothing else. It must fit this JSON schema:\n"


@dataclass(frozen=True, slots=True)
class Reply:
    """What the service answered; tokens that it did not count are the most there can be."""

    answer: StoredAnswer
    seconds: float
    """From sending the attempt that was answered until its answer was read."""


class ChatClient(ServiceClient):
    """Sends calls to the service that the settings name; for any number of threads."""

    path = "/chat/completions"
    when_slow = "Raise timeout_seconds, or lower parallel or max_answer_tokens."
    when_limited = "lower parallel or requests_per_minute"

    def __init__(self, settings: ChatSettings, pace: Pace, report: Callable[[str], None] | None = None) -> None:
        super().__init__(settings, report)
        self.settings = settings
        self._pace = pace
        # Newer models of OpenAI refuse the old name, other servers do not know the new one.
        self._limit_names = list(_LIMIT_NAMES if settings.service == "compatible" else reversed(_LIMIT_NAMES))

    def ask(self, request: ChatRequest, before_attempt: BeforeAttempt) -> Reply:
        """The answer to a request; 429, 5xx, timeouts and lost connections are repeated as the settings say.

        A service that refuses the name under which max_answer_tokens is sent is asked under the other one.

        Raises:
            ServiceError: no key to send, refused, never answered, or answered with something else. It holds no key.
            CallRefusedError: by `before_attempt`, which is called before each attempt.
        """
        from openai import OpenAI
        from openai.types.chat import ChatCompletion

        limit = self._limit_names[0]
        options: Any = self._options(request, limit)

        def create(client: OpenAI) -> object:
            return client.chat.completions.create(
                model=self.settings.model,
                messages=options["messages"],
                extra_headers=self.authorization,
                **{name: value for name, value in options.items() if name != "messages"},
            )

        try:
            sent = self.send(create, ChatCompletion, before_attempt, most_bytes=_MOST_BYTES)
        except ServiceError as error:
            named = re.search(rf"\b{limit}\b", str(error)) and _NAME_REFUSED.search(str(error))
            if error.status not in (400, 422) or not named or limit == self._limit_names[-1]:
                raise
            sent, self._limit_names = None, self._limit_names[-1:]
        if sent is None:
            return self.ask(request, before_attempt)
        if not isinstance(sent.answer.choices, list):
            raise self.explain(None)
        return Reply(answer=self._stored(sent.answer, request), seconds=sent.seconds)

    def prompt_bytes(self, request: ChatRequest) -> int:
        """UTF-8 bytes that the service reads as the prompt, the schema included."""
        options = self._options(request)
        parts = [message["content"] for message in options["messages"]]
        if "response_format" in options:
            parts.append(json.dumps(options["response_format"], ensure_ascii=False))
        return sum(len(part.encode()) for part in parts)

    def most_prompt_tokens(self, request: ChatRequest) -> int:
        """No fewer tokens than the service can count for the prompt."""
        return self.prompt_bytes(request) + _TOKENS_AROUND

    def remedy_of_refusal(self, message: str) -> str:
        """See ServiceClient."""
        if self.settings.structured != "prompt" and ("response_format" in message or "json_schema" in message):
            others = " or ".join(one for one in get_args(Structure) if one != self.settings.structured)
            return f"This service or model takes no {self.settings.structured}: set structured: {others}."
        return (
            "Correct the setting that it names: leave temperature out, set send_seed: false, lower max_answer_tokens; "
            "a prompt that is too long needs shorter passages."
        )

    def after_answer(self, response: Any) -> None:
        """See ServiceClient; a wait that the service asks for holds every thread, and ends early when work does."""
        super().after_answer(response)
        seconds = _seconds_asked(response.headers) if response.status_code >= 400 else 0
        if 0 < seconds <= _LONGEST_WAIT_SECONDS:
            self._pace.hold(seconds)
            # The next attempt waits for the pace; the client, which cannot be interrupted, need not.
            response.headers["retry-after-ms"] = "1"

    def _options(self, request: ChatRequest, limit: str = _LIMIT_NAMES[0]) -> dict[str, Any]:
        settings, system = self.settings, request.system
        if settings.structured != "json_schema":
            form = _FORM_IN_WORDS + json.dumps(request.schema, ensure_ascii=False)
            system = f"{system}\n\n{form}" if system else form
        messages = [{"role": "system", "content": system}] if system else []
        messages = [*messages, {"role": "user", "content": request.user}]
        options: dict[str, Any] = {"messages": messages, limit: settings.max_answer_tokens}
        if settings.temperature is not None:
            options["temperature"] = settings.temperature
        if settings.send_seed:
            options["seed"] = request.seed
        if settings.structured == "json_object":
            options["response_format"] = {"type": "json_object"}
        if settings.structured == "json_schema":
            schema = {"name": request.schema_name, "schema": request.schema, "strict": is_strict(request.schema)}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        return options

    def _stored(self, found: Any, request: ChatRequest) -> StoredAnswer:
        choice = found.choices[0] if found.choices else None
        message, usage = getattr(choice, "message", None), getattr(found, "usage", None)
        refusal = getattr(message, "refusal", None)
        return StoredAnswer(
            text=_text_of(message),
            finish_reason=str(getattr(choice, "finish_reason", None) or ""),
            refusal=refusal if isinstance(refusal, str) else "",
            prompt_tokens=_count(usage, "prompt_tokens", self.most_prompt_tokens(request)),
            answer_tokens=_count(usage, "completion_tokens", self.settings.max_answer_tokens),
        )


def _text_of(message: object) -> str | None:
    """What the model wrote, wherever servers put it: as text, in parts, as JSON, in a call of a tool, as thoughts."""
    content = getattr(message, "content", None)
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    if isinstance(content, dict):
        content = json.dumps(content, ensure_ascii=False)
    if isinstance(content, str) and content.strip():
        return content
    called = [getattr(getattr(call, "function", None), "arguments", None) for call in _list(message, "tool_calls")]
    thoughts = [getattr(message, name, None) for name in ("reasoning_content", "reasoning")]
    # Thoughts without an object in them are no answer.
    found = (text for text in (*called, *thoughts) if isinstance(text, str) and "{" in text)
    return next(found, content if isinstance(content, str) else None)


def _list(message: object, name: str) -> list[Any]:
    found = getattr(message, name, None)
    return found if isinstance(found, list) else []


def _count(usage: object, name: str, most: int) -> int:
    found = getattr(usage, name, None)
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else most


def _seconds_asked(headers: Any) -> float:
    """The wait in the headers; 0 where there is none, or a date, which the client reads itself."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1)):
        try:
            return float(headers[name]) * unit
        except (KeyError, ValueError):
            continue
    return 0.0
