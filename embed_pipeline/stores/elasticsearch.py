"""Elasticsearch by its REST calls, without a client library: kNN, BM25, both fused by rank, an alias per variant."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np

from embed_pipeline.retrieval.fusion import FusionSettings
from embed_pipeline.stores.store import Corpus, Found, Place

_BATCH = 500
_TIMEOUT_SECONDS = 120.0
_CANDIDATES_PER_HIT = 10
_LEAST_CANDIDATES, _MOST_CANDIDATES = 100, 10_000
_CUT_IN_PAIRS = ("zh", "ja", "ko")
"""Languages written without spaces: the built-in analyzer `cjk` takes two neighbouring characters for a word."""
_LONGEST_FILTERED = 8000
"""Characters of an attribute that can be filtered by; Lucene takes 32,766 bytes."""


class ElasticsearchStore:
    """Fields of a document: passage_id, text, attributes (flattened), vector (float32, `max_inner_product`)."""

    def __init__(self, place: Place) -> None:
        """Nothing is sent yet; the key is sent as `Authorization: ApiKey …`, a name and password as Basic."""
        import httpx2

        self.failures = (httpx2.HTTPError,)
        parts = urlsplit(place.address)
        # Not left in the address: errors repeat it.
        basic = (parts.username, parts.password or "") if parts.username else None
        self._client = httpx2.Client(
            base_url=urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")),
            auth=basic,
            headers={"Authorization": f"ApiKey {place.key}"} if place.key else {},
            timeout=_TIMEOUT_SECONDS,
        )

    def build(self, name: str, corpus: Corpus) -> None:
        """See VectorStore."""
        # In plain hnsw: the default of newer versions keeps vectors in 8 bits or one, and their scores are not ours.
        vector = {"type": "dense_vector", "dims": corpus.dimension, "index": True, "similarity": "max_inner_product"}
        words = corpus.fused.words if corpus.fused else None
        analyzer = "cjk" if words and words.language in _CUT_IN_PAIRS else "standard"
        properties = {
            "passage_id": {"type": "keyword"},
            "text": {"type": "text", "analyzer": analyzer},
            "attributes": {"type": "flattened", "ignore_above": _LONGEST_FILTERED},
            "vector": {**vector, "index_options": {"type": "hnsw"}},
        }
        meta = {"made_by": "embed-pipeline", "encoder": corpus.encoder_fingerprint}
        mappings = {"_meta": meta, "dynamic": "strict", "properties": properties}
        bm25 = {"default": {"type": "BM25", "k1": words.k1, "b": words.b}} if words else None
        settings = {"settings": {"index": {"similarity": bm25}}} if bm25 else {}
        self._ask("PUT", f"/{name}", {**settings, "mappings": mappings})
        for body in _bulk_bodies(corpus):
            answer = self._send("POST", f"/{name}/_bulk", body, "application/x-ndjson")
            if answer["errors"]:
                errors = (item["index"]["error"] for item in answer["items"] if "error" in item["index"])
                raise ValueError(f"Elasticsearch, index {name}: it refused a passage: {json.dumps(next(errors))[:400]}")
        self._ask("POST", f"/{name}/_refresh")

    def point(self, alias: str, name: str) -> None:
        """See VectorStore; one request, which Elasticsearch carries out as a whole."""
        before = self.current(alias)
        actions = [{"add": {"index": name, "alias": alias}}]
        if before not in (None, name):
            actions.insert(0, {"remove": {"index": before, "alias": alias}})
        self._ask("POST", "/_aliases", {"actions": actions})

    def current(self, alias: str) -> str | None:
        """See VectorStore."""
        found = self._ask("GET", f"/_alias/{alias}", missing={})
        return next(iter(sorted(found)), None)

    def names(self, prefix: str) -> Sequence[str]:
        """See VectorStore."""
        return sorted(name for name in self._ask("GET", f"/{prefix}*/_alias", missing={}) if name.startswith(prefix))

    def search(self, name: str, vector: np.ndarray, k: int, where: Mapping[str, str] | None = None) -> Sequence[Found]:
        """See VectorStore."""
        found = self._search(name, {"knn": _knn(vector, k, where)}, k)
        return [replace(one, score=_product(one.score)) for one in found]

    def search_words(self, name: str, text: str, k: int, where: Mapping[str, str] | None = None) -> Sequence[Found]:
        """The k passages that share words with a text, by BM25; fewer where fewer share any."""
        return self._search(name, {"retriever": {"standard": _match(text, where)}}, k)

    def search_fused(
        self,
        name: str,
        text: str,
        vector: np.ndarray,
        k: int,
        fusion: FusionSettings,
        where: Mapping[str, str] | None = None,
    ) -> Sequence[Found]:
        """The k best of both by reciprocal rank, at most fusion.depth; the score is the sum of reciprocal ranks.

        It takes a licence of the level Enterprise or its trial; without one the answer is status 403.
        """
        parts = [{"standard": _match(text, where)}, {"knn": _knn(vector, fusion.depth, where)}]
        ranks = {"rank_constant": fusion.rank_constant, "rank_window_size": fusion.depth}
        return self._search(name, {"retriever": {"rrf": {"retrievers": parts, **ranks}}}, min(k, fusion.depth))

    def count(self, name: str, where: Mapping[str, str] | None = None) -> int:
        """See VectorStore."""
        return self._ask("POST", f"/{name}/_count", {"query": {"bool": {"filter": _terms(where)}}})["count"]

    def drop(self, name: str) -> None:
        """See VectorStore."""
        self._ask("DELETE", f"/{name}", missing={})

    def close(self) -> None:
        """See VectorStore."""
        self._client.close()

    def _search(self, name: str, asked: Mapping[str, object], k: int) -> Sequence[Found]:
        body = {**asked, "size": k, "_source": ["passage_id", "text"]}
        hits = self._ask("POST", f"/{name}/_search", body)["hits"]["hits"]
        return [Found(one["_source"]["passage_id"], one["_source"]["text"], one["_score"]) for one in hits]

    def _ask(self, method: str, path: str, body: object = None, *, missing: Any = None) -> Any:
        """The answer; `missing`, where given, in place of one with status 404."""
        text = None if body is None else json.dumps(body).encode()
        return self._send(method, path, text, "application/json", missing)

    def _send(self, method: str, path: str, text: bytes | None, content_type: str, missing: Any = None) -> Any:
        import httpx2

        headers = {"Content-Type": content_type} if text is not None else {}
        answer = self._client.request(method, path, content=text, headers=headers)
        if answer.status_code == 404 and missing is not None:
            return missing
        if answer.is_error:
            told = f"{method} {path}: status {answer.status_code}: {answer.text[:400]}"
            raise httpx2.HTTPStatusError(told, request=answer.request, response=answer)
        return answer.json()


def _bulk_bodies(corpus: Corpus) -> Iterator[bytes]:
    for rows, passages, vectors in corpus.batches(_BATCH):
        lines = []
        for row, passage, vector in zip(rows, passages, vectors.tolist(), strict=True):
            content = {"passage_id": passage.id, "text": passage.text, "attributes": dict(passage.attributes)}
            lines += [json.dumps({"index": {"_id": str(row)}}), json.dumps({**content, "vector": vector})]
        yield ("\n".join(lines) + "\n").encode()


def _filter(where: Mapping[str, str] | None) -> dict[str, object]:
    return {"filter": _terms(where)} if where else {}


def _terms(where: Mapping[str, str] | None) -> list[dict[str, object]]:
    return [{"term": {f"attributes.{name}": value}} for name, value in (where or {}).items()]


def _knn(vector: np.ndarray, k: int, where: Mapping[str, str] | None) -> dict[str, object]:
    candidates = min(max(k * _CANDIDATES_PER_HIT, _LEAST_CANDIDATES), _MOST_CANDIDATES)
    knn = {"field": "vector", "query_vector": vector.tolist(), "k": k, "num_candidates": candidates}
    return {**knn, **_filter(where)}


def _match(text: str, where: Mapping[str, str] | None) -> dict[str, object]:
    return {"query": {"match": {"text": text}}, **_filter(where)}


def _product(score: float) -> float:
    """The inner product that Elasticsearch made a score of, which is never negative."""
    return score - 1 if score >= 1 else 1 - 1 / score
