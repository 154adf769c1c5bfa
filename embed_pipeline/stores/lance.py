"""LanceDB: a table per collection, in a folder or a bucket, and a table of one row per alias."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import numpy as np

from embed_pipeline.retrieval.faiss_index import EXACT_UP_TO
from embed_pipeline.stores.store import Corpus, Found, Place

if TYPE_CHECKING:
    import pyarrow
    from lancedb.query import LanceVectorQueryBuilder
    from lancedb.table import Table

_BATCH = 5000
_CELLS_LOOKED_AT = 64
_LED_TO = "collection"
"""The one column of an alias."""


class LanceError(RuntimeError):
    """What LanceDB told; its own errors are of built-in types, as ours are."""


class LanceStore:
    """Columns: passage_id, text, attributes (JSON), vector (float32). No server; any number of readers, one writer."""

    def __init__(self, place: Place) -> None:
        """Where a bucket is, and its keys, the environment says as for other programs: AWS_ENDPOINT_URL and so on."""
        import lancedb

        self.failures = (LanceError,)
        # As botocore, for a server of one's own: LanceDB refuses its address otherwise.
        plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
        options = {"allow_http": "true"} if plain and place.address.startswith("s3://") else {}
        with _told():
            self._database = lancedb.connect(place.address, storage_options=options)
        self._collections: dict[str, Table] = {}  # opened once: nothing is written to one after it was built

    def build(self, name: str, corpus: Corpus) -> None:
        """See VectorStore; above the size from which our own index is approximate too, cells over the full vectors."""
        import pyarrow
        from lancedb.index import IvfFlat

        described = {"made_by": "embed-pipeline", "encoder": corpus.encoder_fingerprint}
        text, vector = pyarrow.string(), pyarrow.list_(pyarrow.float32(), corpus.dimension)
        fields = {"passage_id": text, "text": text, "attributes": pyarrow.json_(), "vector": vector}
        schema = pyarrow.schema(list(fields.items()), metadata=described)
        with _told():
            table = self._database.create_table(name, schema=schema)
        for _, passages, vectors in corpus.batches(_BATCH):
            attributes = [json.dumps(dict(passage.attributes), ensure_ascii=False) for passage in passages]
            columns = [
                pyarrow.array([passage.id for passage in passages], text),
                pyarrow.array([passage.text for passage in passages], text),
                pyarrow.ExtensionArray.from_storage(fields["attributes"], pyarrow.array(attributes, text)),
                pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), corpus.dimension),
            ]
            with _told():
                table.add(pyarrow.table(columns, schema=schema))
        if len(corpus.passages) > EXACT_UP_TO:
            with _told():
                table.create_index("vector", config=IvfFlat(distance_type="dot"))

    def point(self, alias: str, name: str) -> None:
        """See VectorStore; one version of a table in place of another: Lance writes its manifest last, and whole."""
        import pyarrow

        with _told():
            self._database.create_table(alias, data=pyarrow.table({_LED_TO: [name]}), mode="overwrite")

    def current(self, alias: str) -> str | None:
        """See VectorStore."""
        with _told():
            return self._leads_to(alias) if alias in self._database.list_tables().tables else None

    def names(self, prefix: str) -> Sequence[str]:
        """See VectorStore; what a killed build or removal left is one too."""
        with _told():
            found = [name for name in self._database.list_tables().tables if name.startswith(prefix)]
        return sorted(name for name in found if self._leads_to(name) is None)

    def search(self, name: str, vector: np.ndarray, k: int, where: Mapping[str, str] | None = None) -> Sequence[Found]:
        """See VectorStore; what does not meet `where` is left out before the k are taken."""
        with _told():
            asked = self._open(name).search(vector, vector_column_name="vector", query_type="vector")
            query = cast("LanceVectorQueryBuilder", asked).distance_type("dot").nprobes(_CELLS_LOOKED_AT)
            if where:
                query.where(_condition(where))
            query.limit(k).select(["passage_id", "text", "_distance"])
            return [Found(one["passage_id"], one["text"], 1 - one["_distance"]) for one in query.to_list()]

    def count(self, name: str, where: Mapping[str, str] | None = None) -> int:
        """See VectorStore."""
        with _told():
            return self._open(name).count_rows(_condition(where) if where else None)

    def drop(self, name: str) -> None:
        """See VectorStore."""
        self._collections.pop(name, None)
        with _told():
            if name in self._database.list_tables().tables:
                self._database.drop_table(name)

    def close(self) -> None:
        """See VectorStore; nothing is open."""

    def _open(self, name: str) -> "Table":
        if name not in self._collections:
            name = self._leads_to(name) or name
        if name not in self._collections:
            self._collections[name] = self._database.open_table(name)
        return self._collections[name]

    def _leads_to(self, name: str) -> str | None:
        """The collection that an alias leads to; None for what is no alias, or no whole table."""
        try:
            table = self._database.open_table(name)
        except ValueError:  # its folder is there, and nothing that Lance reads
            return None
        return _only(table.to_arrow()) if table.schema.names == [_LED_TO] else None


def _only(alias: "pyarrow.Table") -> str:
    (name,) = alias[_LED_TO].to_pylist()
    return name


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError, RuntimeError) as error:
        raise LanceError(str(error)) from error


def _condition(where: Mapping[str, str]) -> str:
    """In LanceDB's SQL, in which only a quote is special in a text."""
    return " AND ".join(f"json_get_string(attributes, {_text(name)}) = {_text(value)}" for name, value in where.items())


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
