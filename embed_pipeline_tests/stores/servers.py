"""Servers on 127.0.0.1 that speak the documented REST calls of Elasticsearch and Qdrant that a store is asked by.

Elasticsearch's is written from its reference: documents are found after a refresh, names of indices and aliases exclude
each other, scores are those of `max_inner_product`, BM25 and rrf. Qdrant's hands the calls to the local mode of
qdrant-client.
"""

import fnmatch
import json
import math
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client.http.models import QueryRequest

from embed_pipeline_tests.failing_server import FailingHandler

KEY = "not-to-be-told"
Answer = tuple[int, Any]
Ask = Callable[[str, str, bytes, Mapping[str, str]], Answer]
"""Method, path, body and headers (names in lower case) to status and JSON."""


@contextmanager
def serve(ask: Ask) -> Iterator[str]:
    """The address of a server that answers with `ask`, one call at a time."""
    lock = threading.Lock()

    class Handler(FailingHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            with lock:
                status, content = ask(self.command, urlsplit(self.path).path, body, headers)
            self.send(status, json.dumps(content).encode(), {})

        do_GET = do_PUT = do_POST = do_DELETE = answer

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class Elasticsearch:
    """Indices by name, aliases by name."""

    def __init__(self) -> None:
        self.mappings: dict[str, dict[str, Any]] = {}
        self.bm25: dict[str, dict[str, Any]] = {}
        self.documents: dict[str, dict[str, Any]] = {}
        self.searchable: dict[str, dict[str, Any]] = {}
        self.aliases: dict[str, str] = {}

    def ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """What Elasticsearch answers."""
        if headers.get("authorization") != f"ApiKey {KEY}":
            return 401, {"error": {"type": "security_exception"}, "status": 401}
        target, _, call = path.strip("/").partition("/")
        if body and headers["content-type"] != ("application/x-ndjson" if call == "_bulk" else "application/json"):
            return 406, _error("media_type_header_exception")
        if target == "_alias":
            index = self.aliases.get(call)
            return (200, {index: {"aliases": {call: {}}}}) if index else (404, {"error": "missing", "status": 404})
        if target == "_aliases":
            return self._turn(json.loads(body)["actions"])
        if call == "_alias":
            found = {name for name in self.mappings if fnmatch.fnmatchcase(name, target)}
            found |= {index for alias, index in self.aliases.items() if fnmatch.fnmatchcase(alias, target)}
            return 200, {name: {"aliases": {a: {} for a, i in self.aliases.items() if i == name}} for name in found}
        if method == "PUT":
            if target in self.mappings or target in self.aliases or target != target.lower():
                return 400, _error("invalid_index_name_exception")
            asked = json.loads(body)
            self.mappings[target] = asked["mappings"]
            self.bm25[target] = asked.get("settings", {}).get("index", {}).get("similarity", {}).get("default", {})
            self.documents[target], self.searchable[target] = {}, {}
            return 200, {"acknowledged": True}
        if method == "DELETE":
            if target in self.aliases:
                return 400, _error("illegal_argument_exception")
            if target not in self.mappings:
                return 404, _error("index_not_found_exception")
            for kept in (self.mappings, self.documents, self.searchable):
                del kept[target]
            self.aliases = {alias: index for alias, index in self.aliases.items() if index != target}
            return 200, {"acknowledged": True}
        name = self.aliases.get(target, target)
        if name not in self.mappings:
            return 404, _error("index_not_found_exception")
        if call == "_settings":
            return 200, {name: {"settings": {"index": {"similarity": {"default": self.bm25[name]}}}}}
        return {"_bulk": self._bulk, "_refresh": self._refresh, "_search": self._search, "_count": self._count}[call](
            name, body
        )

    def _turn(self, actions: list[dict[str, dict[str, str]]]) -> Answer:
        aliases = dict(self.aliases)
        for action in actions:
            ((kind, one),) = action.items()
            if one["index"] not in self.mappings or (kind == "remove" and aliases.get(one["alias"]) != one["index"]):
                return 404, _error("aliases_not_found_exception")
            if kind == "remove":
                del aliases[one["alias"]]
            elif one["alias"] in self.mappings:
                return 400, _error("invalid_alias_name_exception")
            else:
                aliases[one["alias"]] = one["index"]
        self.aliases = aliases
        return 200, {"acknowledged": True}

    def _bulk(self, name: str, body: bytes) -> Answer:
        assert body.endswith(b"\n")
        lines = [json.loads(line) for line in body.decode().split("\n")[:-1]]
        fields, items = self.mappings[name]["properties"], []
        for action, document in zip(lines[::2], lines[1::2], strict=True):
            bad = set(document) - set(fields) or len(document["vector"]) != fields["vector"]["dims"]
            error = {"error": {"type": "document_parsing_exception"}} if bad else {}
            if not bad:
                self.documents[name][action["index"]["_id"]] = document
            items.append({"index": {"_id": action["index"]["_id"], "status": 400 if bad else 201, **error}})
        return 200, {"errors": any("error" in item["index"] for item in items), "items": items}

    def _refresh(self, name: str, _: bytes) -> Answer:
        self.searchable[name] = dict(self.documents[name])
        return 200, {"_shards": {"failed": 0}}

    def _count(self, name: str, body: bytes) -> Answer:
        return 200, {"count": len(self._matching(name, json.loads(body)["query"]["bool"]["filter"]))}

    def _search(self, name: str, body: bytes) -> Answer:
        asked = json.loads(body)
        try:
            found = self._retrieve(name, asked.get("retriever") or {"knn": asked["knn"]}, asked["size"])
        except ValueError as error:
            return 400, _error(str(error))
        documents = self.searchable[name]
        hits = [
            {
                "_index": name,
                "_id": key,
                "_score": score,
                "_source": {at: documents[key][at] for at in asked["_source"]},
            }
            for key, score in found
        ]
        return 200, {"hits": {"hits": hits}}

    def _retrieve(self, name: str, retriever: dict[str, Any], size: int) -> list[tuple[str, float]]:
        """Documents and scores, best first, at equal scores the smaller number; a part of rrf is its window long."""
        ((kind, asked),) = retriever.items()
        scores: dict[str, float] = {}
        if kind == "rrf":
            constant, window = asked.get("rank_constant", 60), asked.get("rank_window_size", 10)
            if window < size or constant < 1 or len(asked["retrievers"]) < 2:
                raise ValueError("action_request_validation_exception")
            for part in asked["retrievers"]:
                for rank, (key, _) in enumerate(self._retrieve(name, part, window), start=1):
                    scores[key] = float(np.float32(scores.get(key, 0.0)) + np.float32(1 / (constant + rank)))
        elif kind == "standard":
            scores = self._bm25(name, asked["query"]["match"]["text"], asked.get("filter", []))
        else:
            field = self.mappings[name]["properties"]["vector"]
            assert field["similarity"] == "max_inner_product" and field["index_options"] == {"type": "hnsw"}
            if not asked["k"] <= asked["num_candidates"] <= 10_000 or len(asked["query_vector"]) != field["dims"]:
                raise ValueError("illegal_argument_exception")
            query, size = np.array(asked["query_vector"], dtype=np.float32), min(size, asked["k"])
            for key, one in self._matching(name, asked.get("filter", [])).items():
                product = float(np.array(one["vector"], dtype=np.float32) @ query)
                scores[key] = float(np.float32(1 / (1 - product) if product < 0 else product + 1))
        return sorted(scores.items(), key=lambda hit: (-hit[1], int(hit[0])))[:size]

    def _bm25(self, name: str, text: str, terms: list[dict[str, dict[str, str]]]) -> dict[str, float]:
        """Lucene's, over words or, with the analyzer `cjk`, over pairs of neighbouring characters."""
        analyzer = self.mappings[name]["properties"]["text"]["analyzer"]
        words_of = {key: _words(one["text"], analyzer) for key, one in self.searchable[name].items()}
        average = sum(map(len, words_of.values())) / max(1, len(words_of))
        k1, b = self.bm25[name].get("k1", 1.2), self.bm25[name].get("b", 0.75)
        scores: dict[str, float] = defaultdict(float)
        allowed = self._matching(name, terms)
        for word in _words(text, analyzer):
            having = sum(word in words for words in words_of.values())
            idf = math.log(1 + (len(words_of) - having + 0.5) / (having + 0.5))
            for key in allowed:
                if count := words_of[key].count(word):
                    scores[key] += idf * count / (count + k1 * (1 - b + b * len(words_of[key]) / average))
        return {key: float(np.float32(score)) for key, score in scores.items()}

    def _matching(self, name: str, terms: list[dict[str, dict[str, str]]]) -> dict[str, Any]:
        assert self.mappings[name]["properties"]["attributes"]["type"] == "flattened"
        wanted = {key.removeprefix("attributes."): value for one in terms for key, value in one["term"].items()}
        found = self.searchable[name].items()
        return {key: one for key, one in found if wanted.items() <= one["attributes"].items()}


def _words(text: str, analyzer: str) -> list[str]:
    found = re.findall(r"\w+", text.lower())
    if analyzer == "standard":
        return found
    assert analyzer == "cjk"
    return [word[at : at + 2] for word in found for at in range(max(1, len(word) - 1))]


def _error(kind: str) -> dict[str, Any]:
    return {"error": {"type": kind, "reason": kind}, "status": 400}


class Qdrant:
    """Qdrant's paths over its local mode, which has no server; `indexed` are the fields with a payload index."""

    def __init__(self) -> None:
        self.client = QdrantClient(":memory:", force_disable_check_same_thread=True)
        self.indexed: list[str] = []

    def ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """What Qdrant answers."""
        if headers.get("api-key") != KEY:
            return 403, {"status": {"error": "Must provide an API key"}, "time": 0.0}
        try:
            result = self._do(method, path.strip("/").split("/"), json.loads(body or b"{}"))
        except ValueError as error:
            return 400, {"status": {"error": str(error)}, "time": 0.0}
        if hasattr(result, "model_dump"):
            result = result.model_dump(mode="json")
        return 200, {"result": result, "status": "ok", "time": 0.0}

    def _do(self, method: str, path: list[str], body: dict[str, Any]) -> Any:
        local = self.client
        match (method, *path):
            case ("GET", "collections"):
                return local.get_collections()
            case ("GET", "aliases"):
                return local.get_aliases()
            case ("POST", "collections", "aliases"):
                taken = {one.name for one in local.get_collections().collections}
                changes = models.ChangeAliasesOperation.model_validate(body).actions
                if any(getattr(one, "create_alias", None) and one.create_alias.alias_name in taken for one in changes):
                    raise ValueError("a collection of that name exists")
                return local.update_collection_aliases(changes)
            case ("PUT", "collections", name):
                asked = models.CreateCollection.model_validate(body)
                return local.create_collection(name, asked.vectors, metadata=asked.metadata)
            case ("GET", "collections", name):
                return local.get_collection(name)
            case ("DELETE", "collections", name):
                return local.delete_collection(name)
            case ("PUT", "collections", _, "index"):
                self.indexed.append(models.CreateFieldIndex.model_validate(body).field_name)
                return {"operation_id": 0, "status": "completed"}
            case ("PUT", "collections", name, "points"):
                return local.upsert(name, models.PointsList.model_validate(body).points)
            case ("POST", "collections", name, "points", "count"):
                return local.count(name, models.CountRequest.model_validate(body).filter)
            case ("POST", "collections", name, "points", "query"):
                asked = QueryRequest.model_validate(body)
                return local.query_points(name, asked.query, query_filter=asked.filter, limit=asked.limit or 10)
        raise ValueError(f"{method} {path}: not spoken here")
