"""A chat model behind an HTTP service: requests in, answers out in their order, each call made and paid for once.

Belongs here: a call's identity, what happens around it (cache, limits, pace), the estimate. Does not belong here: the
call itself (chat_client.py), the threads (chat_workers.py), the log (chat_usage.py), judging answers (chat_answers.py).
"""

import hashlib
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from embed_pipeline.artifacts.digests import canonical_json, sha256_of_json
from embed_pipeline.encoding.service_errors import ServiceError
from embed_pipeline.encoding.usage import CallRefusedError
from embed_pipeline.synthesis.call_cache import CallCache, CallClaims, StoredAnswer
from embed_pipeline.synthesis.chat import ChatAnswer, ChatEstimate, ChatRequest, ChatSettings, Progress
from embed_pipeline.synthesis.chat_answers import check_schema, content_of
from embed_pipeline.synthesis.chat_client import ChatClient, Reply
from embed_pipeline.synthesis.chat_usage import AnsweredCall, CallBudget, CallLog, CallStoppedError
from embed_pipeline.synthesis.chat_workers import Pace, Workers

_BYTES_PER_TOKEN = 3
"""An estimate before the first call: about 4 in English, 3 in Chinese."""
_REQUESTS_PER_LOOKUP = 250
_REQUESTS_AHEAD = 500
"""How far the calls may be ahead of the answer that is waited for."""
_CONTENT_FILTER = "content_filter"
# Gateways put the status, or a word of their own, where Azure says content_filter.
_FILTERED = re.compile(
    "content_filter|content management policy|Content ?Policy ?Violation|ResponsibleAI", re.IGNORECASE
)


def load_hosted_chat(
    settings: ChatSettings,
    *,
    cache_directory: Path,
    usage_directory: Path,
    report: Callable[[str], None] | None = None,
) -> "HostedChat":
    """The chat model that the settings name; no call is made and no key is read yet.

    `report` is told what a call is repeated for.
    """
    return HostedChat(settings, cache=CallCache(cache_directory), usage_directory=usage_directory, report=report)


@dataclass(frozen=True, slots=True)
class _Task:
    request: ChatRequest
    key: bytes


@dataclass(frozen=True, slots=True)
class _Found:
    answer: StoredAnswer
    cached: bool


@dataclass(frozen=True, slots=True)
class _Pending:
    request: ChatRequest
    key: bytes
    found: _Found | Future[_Found]
    repeated: bool
    """Whether an equal request before it makes the call."""


class HostedChat:
    """Implements ChatModel through the openai client."""

    def __init__(
        self,
        settings: ChatSettings,
        *,
        cache: CallCache,
        usage_directory: Path,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings
        self.cache = cache
        self.usage = CallLog(usage_directory / f"chat-{_model_digest(settings)}.jsonl")
        self._budget = CallBudget(settings, self.usage)
        self._claims = CallClaims(cache.directory / "claims.lock")
        self._pace = Pace(settings.requests_per_minute)
        self._client = ChatClient(settings, self._pace, report)

    @property
    def name(self) -> str:
        """The model's name as its settings say it."""
        return self.settings.model

    def answer(self, requests: Sequence[ChatRequest], progress: Progress | None = None) -> Iterator[ChatAnswer]:
        """One answer for each request, in the order of the requests; every answer is in the cache before it comes out.

        At a limit or an error, and when the iterator is closed, no further call is made and those under way are
        finished and kept. `cached` says that no call was made for this request.

        Raises:
            CallLimitError, SpendLimitError: the next call could pass a limit.
            ServiceError: no key, or the service refuses or does not answer a call. No error holds the key.
            ValueError: a schema that answers cannot be checked for.
        """
        _check_schemas(requests)
        workers: Workers[_Task, _Found] = Workers(self._work, self.settings.parallel)
        with workers:
            for done, pending in enumerate(self._pending(requests, workers), start=1):
                found = pending.found
                found = workers.result(found) if isinstance(found, Future) else found
                if progress:
                    progress(done, len(requests))
                yield self._judge(pending.request, found.answer, cached=found.cached or pending.repeated)

    def estimate(self, requests: Sequence[ChatRequest]) -> ChatEstimate:
        """What `answer` would still have to ask for, at what calls took so far; no call is made.

        Before the first call a token per 3 bytes of the prompt is assumed and max_answer_tokens for every answer.
        """
        _check_schemas(requests)
        distinct = {call_key(self.settings, request): request for request in requests}
        stored = self.cache.lookup(list(distinct))
        missing = [request for key, request in distinct.items() if key not in stored]
        calls = self.usage.requests
        seen_bytes = sum(call.bytes for call in calls)
        per_byte = sum(call.prompt_tokens for call in calls) / seen_bytes if seen_bytes else 1 / _BYTES_PER_TOKEN
        per_answer = (
            sum(call.answer_tokens for call in calls) / len(calls) if calls else self.settings.max_answer_tokens
        )
        prompt_tokens = round(sum(map(self._client.prompt_bytes, missing)) * per_byte)
        answer_tokens = round(len(missing) * per_answer)
        return ChatEstimate(
            calls=len(missing),
            answered=len(stored),
            prompt_tokens=prompt_tokens,
            answer_tokens=answer_tokens,
            cost_usd=self.settings.cost(prompt_tokens, answer_tokens),
        )

    def _judge(self, request: ChatRequest, stored: StoredAnswer, *, cached: bool) -> ChatAnswer:
        found = content_of(stored, request)
        content, problem = (None, found) if isinstance(found, str) else (found, "")
        cost = self.settings.cost(stored.prompt_tokens, stored.answer_tokens)
        return ChatAnswer(request=request, content=content, problem=problem, cached=cached, cost_usd=cost)

    def _pending(self, requests: Sequence[ChatRequest], workers: Workers[_Task, _Found]) -> Iterator[_Pending]:
        """Every request with its answer stored or to come; calls are begun some way ahead."""
        ahead: deque[_Pending] = deque()
        called: dict[bytes, Future[_Found]] = {}
        for start in range(0, len(requests), _REQUESTS_PER_LOOKUP):
            part = requests[start : start + _REQUESTS_PER_LOOKUP]
            keys = [call_key(self.settings, request) for request in part]
            stored = self.cache.lookup(list(dict.fromkeys(keys)))
            for request, key in zip(part, keys, strict=True):
                repeated = key in called
                if key in stored:
                    found: _Found | Future[_Found] = _Found(stored[key], cached=True)
                else:
                    found = called[key] if repeated else workers.submit(_Task(request, key))
                    called[key] = found
                ahead.append(_Pending(request, key, found, repeated))
            while len(ahead) > _REQUESTS_AHEAD:
                called.pop(ahead[0].key, None)  # equal requests that follow find its answer in the cache
                yield ahead.popleft()
        yield from ahead

    def _work(self, task: _Task, stop: threading.Event) -> _Found:
        with self._claims.claim(task.key, stop):
            # Another process, or an equal request, may have been answered meanwhile.
            stored = self.cache.lookup([task.key]).get(task.key)
            if stored:
                return _Found(stored, cached=True)
            return _Found(self._call(task, stop), cached=False)

    def _call(self, task: _Task, stop: threading.Event) -> StoredAnswer:
        most_prompt = self._client.most_prompt_tokens(task.request)
        with self._budget.call(self.settings.cost(most_prompt, self.settings.max_answer_tokens), stop) as reservation:

            def before_attempt(silent: bool) -> None:
                if silent:
                    reservation.renew()
                self._pace.wait(stop)
                if stop.is_set():
                    raise CallStoppedError

            try:
                reply = self._client.ask(task.request, before_attempt)
            except CallRefusedError:
                reservation.release()
                raise
            except ServiceError as error:
                if error.status != 400 or not _FILTERED.search(f"{error.code} {error}"):
                    if not error.charges:
                        reservation.release()
                    raise
                # Refuses this prompt and no other, and is charged for reading it.
                filtered = StoredAnswer(
                    text=None, finish_reason=_CONTENT_FILTER, refusal="", prompt_tokens=most_prompt, answer_tokens=0
                )
                reply = Reply(filtered, seconds=0)
            return self._keep(task, reply, reservation.name)

    def _keep(self, task: _Task, reply: Reply, reservation: str | None) -> StoredAnswer:
        answer = reply.answer
        try:
            # First: a process killed in between has the answer, and counts more than it cost rather than less.
            return self.cache.store(task.key, answer)
        finally:
            self.usage.settle(
                AnsweredCall(
                    reservation=reservation,
                    seconds=reply.seconds,
                    cost_usd=self.settings.cost(answer.prompt_tokens, answer.answer_tokens),
                    bytes=self._client.prompt_bytes(task.request),
                    prompt_tokens=answer.prompt_tokens,
                    answer_tokens=answer.answer_tokens,
                )
            )


def call_key(settings: ChatSettings, request: ChatRequest) -> bytes:
    """The digest of everything that decides the answer; a service that changes its model under one name is not seen."""
    identity = {
        "call": 1,  # raise when chat_client.py starts to send something else
        "url": settings.url,
        "model": settings.model,
        "temperature": settings.temperature,
        "max_answer_tokens": settings.max_answer_tokens,
        "structured": settings.structured,
        "send_seed": settings.send_seed,
        "seed": request.seed,
        "system": request.system,
        "user": request.user,
        "schema_name": request.schema_name,
        "schema": request.schema,
    }
    return hashlib.sha256(canonical_json(identity).encode()).digest()


def _model_digest(settings: ChatSettings) -> str:
    return sha256_of_json({"url": settings.url, "model": settings.model})


def _check_schemas(requests: Sequence[ChatRequest]) -> None:
    for request in {id(request.schema): request for request in requests}.values():
        check_schema(request.schema, f"schema {request.schema_name}")
