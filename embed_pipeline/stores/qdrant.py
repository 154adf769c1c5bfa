"""Qdrant: a server by its address, or its local mode in a folder."""

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from embed_pipeline.stores.store import Corpus, Found, Place

if TYPE_CHECKING:
    from qdrant_client import models

_BATCH = 256
_TIMEOUT_SECONDS = 120
_INDEXED_WITHIN_SECONDS = 3600.0


class QdrantStore:
    """A payload has `passage_id`, `text` and `attributes`; points are numbered by the corpus's rows."""

    def __init__(self, place: Place) -> None:
        """Raises ValueError where another process has the folder of the local mode."""
        import qdrant_client
        from qdrant_client.common.client_exceptions import QdrantException
        from qdrant_client.http.exceptions import ApiException

        self.failures = (ApiException, QdrantException, RuntimeError)
        self._is_remote = "://" in place.address
        try:
            self._client = qdrant_client.QdrantClient(
                url=place.address if self._is_remote else None,
                path=None if self._is_remote else place.address,
                api_key=place.key,
                timeout=_TIMEOUT_SECONDS,
                check_compatibility=False,
            )
        except RuntimeError as error:
            raise ValueError(
                f"{place.address}: the folder of Qdrant's local mode is for one process at a time: {error}. End the "
                "other one, or run a Qdrant server and name its address."
            ) from error

    def build(self, name: str, corpus: Corpus) -> None:
        """See VectorStore; a server has built its graph when this returns, so that latencies are what they will be."""
        from qdrant_client import models

        self._client.create_collection(
            name,
            vectors_config=models.VectorParams(size=corpus.dimension, distance=models.Distance.DOT),
            metadata={"made_by": "embed-pipeline", "encoder": corpus.encoder_fingerprint},
        )
        if self._is_remote:  # before the points, so that the graph knows the filters
            for attribute in sorted({attribute for passage in corpus.passages for attribute in passage.attributes}):
                self._client.create_payload_index(name, _path(attribute), models.PayloadSchemaType.KEYWORD, wait=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Local mode is not recommended")  # docs/stores.md says it
            self._client.upload_points(name, _points(corpus), batch_size=_BATCH, wait=True)
        end = time.monotonic() + _INDEXED_WITHIN_SECONDS
        while self._client.get_collection(name).status == models.CollectionStatus.YELLOW and time.monotonic() < end:
            time.sleep(1)

    def point(self, alias: str, name: str) -> None:
        """See VectorStore; one request, which Qdrant carries out as a whole."""
        from qdrant_client import models

        create = models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=name, alias_name=alias))
        delete = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))
        self._client.update_collection_aliases([delete, create] if self.current(alias) else [create])

    def current(self, alias: str) -> str | None:
        """See VectorStore."""
        found = self._client.get_aliases().aliases
        return next((one.collection_name for one in found if one.alias_name == alias), None)

    def names(self, prefix: str) -> Sequence[str]:
        """See VectorStore."""
        return sorted(one.name for one in self._client.get_collections().collections if one.name.startswith(prefix))

    def search(self, name: str, vector: np.ndarray, k: int, where: Mapping[str, str] | None = None) -> Sequence[Found]:
        """See VectorStore."""
        found = self._client.query_points(name, query=vector.tolist(), query_filter=_filter(where), limit=k).points
        payloads = [point.payload or {} for point in found]
        return [Found(one["passage_id"], one["text"], at.score) for one, at in zip(payloads, found, strict=True)]

    def count(self, name: str, where: Mapping[str, str] | None = None) -> int:
        """See VectorStore."""
        return self._client.count(name, count_filter=_filter(where), exact=True).count

    def drop(self, name: str) -> None:
        """See VectorStore."""
        if name in self.names(name):
            self._client.delete_collection(name, timeout=_TIMEOUT_SECONDS)

    def close(self) -> None:
        """See VectorStore."""
        self._client.close()


def _points(corpus: Corpus) -> "Iterator[models.PointStruct]":
    from qdrant_client import models

    for rows, passages, vectors in corpus.batches(_BATCH):
        for row, passage, vector in zip(rows, passages, vectors.tolist(), strict=True):
            payload = {"passage_id": passage.id, "text": passage.text, "attributes": dict(passage.attributes)}
            yield models.PointStruct(id=row, vector=vector, payload=payload)


def _filter(where: Mapping[str, str] | None) -> "models.Filter | None":
    from qdrant_client import models

    if not where:
        return None
    conditions = {_path(name): models.MatchValue(value=value) for name, value in where.items()}
    return models.Filter(must=[models.FieldCondition(key=key, match=match) for key, match in conditions.items()])


def _path(attribute: str) -> str:
    return f'attributes."{attribute}"'
