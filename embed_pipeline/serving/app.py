"""The paths of the service and what each answers.

Belongs here: routes, who may ask, limits, the shape of answers. Does not belong here: bodies of requests (wire), the
model's turns (batching), starting, stopping and reloading (server).
"""

import asyncio
import hashlib
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Lifespan

from embed_pipeline.encoding.cross_encoder import TextPair
from embed_pipeline.encoding.encoder import Role
from embed_pipeline.serving.batching import Batcher, QueueFullError, Work
from embed_pipeline.serving.metrics import CONTENT_TYPE, Metrics
from embed_pipeline.serving.served import Embedded, Served
from embed_pipeline.serving.wire import (
    MAX_BYTES,
    EmbeddingsBody,
    RefusedError,
    RerankBody,
    SearchBody,
    cut_vector,
    format_vector,
    parse_body,
)
from embed_pipeline.settings_file import shown

CHECKPOINT_HEADER = "X-Checkpoint-Digest"
VARIANT_HEADER = "X-Variant"
_BODY_SECONDS = 30.0
_JSON = TypeAdapter(Any)
_PAGE = Path(__file__).with_name("page.html")
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@dataclass
class Service:
    """What the paths share: what is served now, the model's turns, the counters, who may ask."""

    served: Served
    batcher: Batcher
    metrics: Metrics
    api_key: str | None
    input_type: Role | None
    """What a text is where a request does not say; None: it must say, if that changes the vector."""
    stopping: bool = False

    def check_key(self, request: Request) -> None:
        """Raises RefusedError where a key is asked for and the request has another or none."""
        if self.api_key is None:
            return
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not secrets.compare_digest(*(hashlib.sha256(key.encode()).digest() for key in (given, self.api_key))):
            raise RefusedError(401, "Authorization: expected Bearer and the service's API key.", "invalid_api_key")

    def check_model(self, served: Served, name: str | None) -> Role | None:
        """The role that a model's name says by its end, as in disease/e5-query.

        Raises:
            RefusedError: another model is meant.
        """
        names = (served.name, served.variant)
        roles: tuple[Role, ...] = ("query", "passage")
        for role in roles:
            if name in {f"{known}-{role}" for known in names}:
                return role
        if name is not None and name not in names:
            known = " or ".join(dict.fromkeys(names))
            message = f"model: expected {known} (with -query or -passage at the end, if need be), found {shown(name)}."
            raise RefusedError(404, message, "model_not_found", param="model")
        return None

    async def encode(self, served: Served, role: Role, texts: Sequence[str]) -> list[Embedded]:
        """The vectors of the texts when it is their turn."""
        tokens = [served.rough_tokens(text) for text in texts]
        return await self.batcher.submit((served, role), lambda some: served.embed(role, some), texts, tokens)

    async def ask(self, served: Served, kind: object, work: Work, items: Sequence[Any]) -> list[Any]:
        """What else the model gives for the items when it is their turn."""
        lengths = [len(str(item)) for item in items]
        return await self.batcher.submit((served, kind), work, items, lengths, counted=True)


class _Answer(JSONResponse):
    def render(self, content: object) -> bytes:
        # json.dumps takes ten times as long for vectors, and the model waits for it (one thread of Python at a time).
        return _JSON.dump_json(content)


Answer = Callable[[Service, Served, bytes], Awaitable[tuple[object, int]]]
"""From a body to the answer and how many texts it was about."""


async def embeddings(service: Service, served: Served, text: bytes) -> tuple[object, int]:
    """POST /v1/embeddings."""
    body = parse_body(EmbeddingsBody, text)
    role = _role_of(service, served, body)
    dimension = body.dimensions or served.dimensions[-1]
    if dimension not in served.dimensions:
        known = ", ".join(map(str, served.dimensions))
        message = f"dimensions: expected a length that {served.variant} was trained for ({known}), found {dimension}."
        raise RefusedError(400, message, "invalid_value", param="dimensions")
    found = await service.encode(served, role, body.input)
    data = [
        {
            "object": "embedding",
            "index": at,
            "embedding": format_vector(cut_vector(one.vector, dimension), body.encoding_format),
        }
        for at, one in enumerate(found)
    ]
    answer: dict[str, object] = {"object": "list", "data": data, "model": body.model}
    tokens = [one.tokens for one in found if one.tokens is not None]
    if tokens:  # without a tokenizer nobody knows
        answer |= {"usage": {"prompt_tokens": sum(tokens), "total_tokens": sum(tokens)}}
        answer |= {"truncated": [at for at, one in enumerate(found) if one.cut]}
    return answer, len(found)


async def rerank(service: Service, served: Served, text: bytes) -> tuple[object, int]:
    """POST /v1/rerank."""
    body = parse_body(RerankBody, text)
    service.check_model(served, body.model)
    if served.reranks_by is None:
        message = f"{served.variant} has neither a cross-encoder nor vectors. Serve another variant."
        raise RefusedError(400, message, "not_supported")
    pairs = [TextPair(body.query, document) for document in body.documents]
    scores: list[float] = await service.ask(served, "pairs", served.score, pairs)
    # By the model's own scores: from about 37 on all of them are 1.0 between 0 and 1.
    order = sorted(range(len(scores)), key=lambda at: (-scores[at], at))[: body.top_n]
    if served.reranks_by == "cross-encoder" and not body.raw_scores:
        scores = [_sigmoid(score) for score in scores]
    results = [
        {
            "index": at,
            "relevance_score": scores[at],
            **({"document": {"text": body.documents[at]}} if body.return_documents else {}),
        }
        for at in order
    ]
    return {"model": served.variant, "scored_by": served.reranks_by, "results": results}, len(pairs)


async def search(service: Service, served: Served, text: bytes) -> tuple[object, int]:
    """POST /search."""
    body = parse_body(SearchBody, text)
    service.check_model(served, body.model)
    (hits,) = await service.ask(served, body.k, lambda queries: served.find(body.k, queries), [body.query])
    weights, calibration = served.search.weights, served.calibration
    answer = {
        "model": served.variant,
        "query": body.query,
        "hits": [asdict(hit) for hit in hits],
        "sure": served.is_sure(hits),
        "threshold": calibration.threshold if calibration else None,
        "returned": served.returned(hits),
        "clauses": list(served.clauses(body.query)),
        "weights": {"whole": 1.0, **asdict(weights)} if weights else None,
        "second_stage": served.search.scorer is not None,
    }
    return answer, 1


async def health(service: Service, request: Request) -> Response:
    """GET /healthz: what is served, by digests; 503 while the service ends."""
    served = service.served
    content = {
        "status": "stopping" if service.stopping else "ok",
        "variant": served.variant,
        "dimensions": list(served.dimensions),
        "reranks_by": served.reranks_by,
        "passages": len(served.searcher.passages),
        "artifacts": dict(served.digests),
    }
    return JSONResponse(content, 503 if service.stopping else 200, headers=_headers(served))


async def models(service: Service, request: Request) -> Response:
    """GET /v1/models: the names that requests may give."""
    service.check_key(request)
    names = dict.fromkeys((service.served.name, service.served.variant))
    found = [{"id": name, "object": "model", "created": 0, "owned_by": "embed-pipeline"} for name in names]
    return JSONResponse({"object": "list", "data": found}, headers=_headers(service.served))


async def metrics(service: Service, request: Request) -> Response:
    """GET /metrics."""
    service.check_key(request)
    served = service.served
    labels = {"variant": served.variant, "checkpoint": served.checkpoint}
    return PlainTextResponse(
        service.metrics.render(waiting=service.batcher.waiting, served=labels), media_type=CONTENT_TYPE
    )


async def page(service: Service, request: Request) -> Response:
    """GET /: a page to try queries in."""
    return HTMLResponse(_PAGE.read_text(encoding="utf-8"), headers=_PAGE_HEADERS)


def build_app(service: Service, *, hosts: Sequence[str], lifespan: Lifespan[Starlette]) -> Starlette:
    """The application; `hosts` are the names under which a browser may call it, `*` any."""

    async def failed(request: Request, error: Exception) -> Response:
        service.metrics.answered(request.url.path, 500, 0.0)
        refused = RefusedError(500, "The model failed on this request; the service's log says why.", "failed")
        return JSONResponse(refused.body(), 500)

    asked: Mapping[str, Answer] = {"/v1/embeddings": embeddings, "/v1/rerank": rerank, "/search": search}
    shown = {"/healthz": health, "/v1/models": models, "/metrics": metrics, "/": page}
    return Starlette(
        routes=[
            *(Route(path, _answering(service, path, answer), methods=["POST"]) for path, answer in asked.items()),
            *(Route(path, _showing(service, show), methods=["GET"]) for path, show in shown.items()),
        ],
        # A page of another site whose name leads to this machine is not let in.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)],
        exception_handlers={Exception: failed},
        lifespan=lifespan,
    )


def _answering(service: Service, path: str, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        began, served = time.monotonic(), service.served
        try:
            service.check_key(request)
            content, texts = await answer(service, served, await _read(request))
            response: Response = _Answer(content, headers=_headers(served))
            service.metrics.texts[path] += texts
        except RefusedError as error:
            response = JSONResponse(error.body(), error.status, headers=_headers(served))
        except QueueFullError as error:
            refused = RefusedError(429, f"{error}. Try again in a second.", "queue_full")
            response = JSONResponse(refused.body(), 429, headers={"Retry-After": "1", **_headers(served)})
        service.metrics.answered(path, response.status_code, time.monotonic() - began)
        return response

    return endpoint


def _showing(
    service: Service, show: Callable[[Service, Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            return await show(service, request)
        except RefusedError as error:
            return JSONResponse(error.body(), error.status)

    return endpoint


async def _read(request: Request) -> bytes:
    """The body of a request, as far as it is allowed.

    Raises:
        RefusedError: it is no JSON, too large, or comes too slowly.
    """
    # A page of another site can send text without asking, but no JSON.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusedError(415, "Content-Type: expected application/json.", "unsupported_media_type")
    found = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                found += part
                if len(found) > MAX_BYTES:
                    message = f"body: expected at most {MAX_BYTES // 2**20} MiB, found more. Send fewer texts at once."
                    raise RefusedError(413, message, "too_large")
    except TimeoutError as error:
        raise RefusedError(408, f"body: it did not come within {_BODY_SECONDS:g} s.", "timeout") from error
    except ClientDisconnect as error:
        raise RefusedError(400, "body: the connection ended.", "disconnected") from error
    return bytes(found)


def _role_of(service: Service, served: Served, body: EmbeddingsBody) -> Role:
    named = service.check_model(served, body.model)
    if not served.dimensions:
        message = f"{served.variant} has no vectors. Serve a variant with an encoder, or use /search."
        raise RefusedError(400, message, "not_supported", param="model")
    role = body.input_type or named or service.input_type
    if role is None and not served.roles_are_alike:
        message = (
            f"input_type: {served.variant} encodes queries and passages differently. Say query or passage, as field "
            f"input_type, or at the end of the model's name ({served.variant}-query)."
        )
        raise RefusedError(400, message, "missing_input_type", param="input_type")
    return role or "passage"


def _headers(served: Served) -> dict[str, str]:
    return {CHECKPOINT_HEADER: served.checkpoint, VARIANT_HEADER: served.variant}


def _sigmoid(score: float) -> float:
    return 1.0 / (1.0 + math.exp(-score)) if score >= 0 else math.exp(score) / (1.0 + math.exp(score))
