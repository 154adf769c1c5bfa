"""What every vector store is asked for, and how one is opened by its address in the environment.

Belongs here: the protocol, what goes into a store, addresses and keys. Does not belong here: one kind of store (its
module), the order of building, checking and replacing (publishing).
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Protocol
from urllib.parse import urlsplit

import numpy as np

from embed_pipeline.records import Passage, StoreKind
from embed_pipeline.retrieval.fusion import FusionSettings
from embed_pipeline.retrieval.lexical import LexicalSettings

_DIGESTED_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class FusedSearch:
    """How words and vectors are joined where a recipe fuses them by rank."""

    fusion: FusionSettings
    words: LexicalSettings


@dataclass(frozen=True)
class Corpus:
    """What goes into a store: row i of the float32 vectors (passages, dimension) belongs to passages[i]."""

    passages: Sequence[Passage]
    vectors: np.ndarray
    encoder_fingerprint: str
    """Of the encoder whose query vectors fit."""
    fused: FusedSearch | None = None
    """Of a variant that fuses; what a store cannot do of it is left out there."""

    @property
    def dimension(self) -> int:
        return self.vectors.shape[1]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all of it: the same content has the same name in every store."""
        digest = hashlib.sha256(f"{self.encoder_fingerprint} {self.vectors.shape}\n".encode())
        if self.fused:
            digest.update(self.fused.words.model_dump_json().encode() + b"\n")
        for passage in self.passages:
            content = [passage.id, passage.text, dict(passage.attributes)]
            digest.update(json.dumps(content, sort_keys=True).encode() + b"\n")
        for start in range(0, len(self.vectors), _DIGESTED_ROWS):
            digest.update(np.ascontiguousarray(self.vectors[start : start + _DIGESTED_ROWS], dtype="<f4").tobytes())
        return digest.hexdigest()

    def batches(self, size: int) -> Iterator[tuple[range, Sequence[Passage], np.ndarray]]:
        """Rows, passages and vectors, at most `size` at a time."""
        for start in range(0, len(self.passages), size):
            rows = range(start, min(start + size, len(self.passages)))
            yield rows, self.passages[start : rows.stop], self.vectors[start : rows.stop]


@dataclass(frozen=True, slots=True)
class Found:
    """A passage as a store returns it; the score is the inner product."""

    passage_id: str
    text: str
    score: float


class VectorStore(Protocol):
    """Collections of passages by name, and aliases that each lead to one of them.

    `where` names every passage whose attributes have all of these values; None and an empty mapping name all.
    """

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """What the store's client raises where the store refuses or cannot be reached; no message holds a key."""
        ...

    def build(self, name: str, corpus: Corpus) -> None:
        """A new collection with the whole corpus, to be searched when this returns."""
        ...

    def point(self, alias: str, name: str) -> None:
        """Have the alias, new or not, lead to this collection: who asks meets the old one or the new one."""
        ...

    def current(self, alias: str) -> str | None:
        """The collection that an alias leads to; None where there is no such alias."""
        ...

    def names(self, prefix: str) -> Sequence[str]:
        """The collections, not the aliases, whose names begin like that."""
        ...

    def search(self, name: str, vector: np.ndarray, k: int, where: Mapping[str, str] | None = None) -> Sequence[Found]:
        """The k passages of the largest inner products with a vector (dimension), best first, as the store finds them.

        `name` may be an alias.
        """
        ...

    def count(self, name: str, where: Mapping[str, str] | None = None) -> int:
        """The passages in a collection; `name` may be an alias."""
        ...

    def drop(self, name: str) -> None:
        """Remove a collection that no alias leads to; nothing where there is none."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store of a kind is, and the key to it: of the environment, because neither changes what is published."""

    kind: StoreKind
    address: str
    key: str | None

    @property
    def shown(self) -> str:
        """The address without what stands before @ in it, which may be a password, and without its query."""
        scheme, mark, rest = self.address.partition("://")
        # As PostgreSQL reads it, to which ? and # in a password are no end of it.
        password_ends = rest.partition("/")[0].rfind("@") + 1
        return scheme + mark + re.split("[?#]", rest[password_ends:], maxsplit=1)[0]

    @property
    def has_a_password_cut_off(self) -> bool:
        """Whether an @ comes after what the store takes for the host: errors would repeat what stands before it."""
        ends = "/" if self.kind == "pgvector" else "[/?#]"
        found = re.split(ends, self.address.partition("://")[2], maxsplit=1)
        before, at, _ = found[-1].partition("@") if len(found) > 1 else ("", "", "")
        return bool(at) and not (self.kind == "pgvector" and re.search(r"\?.*=", before))


_ADDRESSES: Mapping[StoreKind, tuple[str, str | None, str]] = {
    "qdrant": (
        "EMBED_PIPELINE_QDRANT_URL",
        "EMBED_PIPELINE_QDRANT_API_KEY",
        "an address such as http://127.0.0.1:6333, or a folder for its local mode",
    ),
    "pgvector": (
        "EMBED_PIPELINE_PGVECTOR_URL",
        "EMBED_PIPELINE_PGVECTOR_PASSWORD",
        "an address such as postgresql://user@127.0.0.1:5432/database",
    ),
    "elasticsearch": (
        "EMBED_PIPELINE_ELASTICSEARCH_URL",
        "EMBED_PIPELINE_ELASTICSEARCH_API_KEY",
        "an address such as http://127.0.0.1:9200",
    ),
    "lancedb": ("EMBED_PIPELINE_LANCEDB_URL", None, "a folder, or an address such as s3://bucket/folder"),
}
_PACKAGES: Mapping[StoreKind, tuple[str, str]] = {
    "qdrant": ("qdrant_client", "qdrant-client"),
    "pgvector": ("psycopg2", "psycopg2-binary"),
    "lancedb": ("lancedb", "lancedb"),
}
_SCHEMES: Mapping[StoreKind, tuple[str, ...]] = {
    "qdrant": ("http", "https"),
    "pgvector": ("postgresql", "postgres"),
    "elasticsearch": ("http", "https"),
    "lancedb": ("s3", "gs", "az"),
}
_IN_A_FOLDER: tuple[StoreKind, ...] = ("qdrant", "lancedb")


def store_place(kind: StoreKind, environment: Mapping[str, str] = os.environ) -> Place:
    """Where the environment says that a store of this kind is.

    Raises:
        ValueError: the variable is not set, or names no such address.
    """
    variable, key_variable, expected = _ADDRESSES[kind]
    place = Place(kind, environment.get(variable, "").strip(), environment.get(key_variable or "") or None)
    if not place.address:
        raise ValueError(f"{variable}: expected {expected}, found none. Set it where this runs (docs/stores.md).")
    is_folder = kind in _IN_A_FOLDER and "://" not in place.address
    if kind != "lancedb" and not is_folder and place.has_a_password_cut_off:
        raise ValueError(
            f"{variable}: expected a name and password in which / ? # @ are written %2F %3F %23 %40, found one of them "
            "before an @. Write it so."
        )
    if not is_folder and urlsplit(place.address).scheme not in _SCHEMES[kind]:
        raise ValueError(f"{variable}: expected {expected}, found {place.shown!r}. Correct it.")
    return place


def open_store(place: Place) -> VectorStore:
    """The store at a place, to be closed.

    Raises:
        ValueError: the package that it needs is missing, or it could not be opened.
    """
    check_package(place.kind)
    if place.kind == "qdrant":
        from embed_pipeline.stores.qdrant import QdrantStore

        return QdrantStore(place)
    if place.kind == "pgvector":
        from embed_pipeline.stores.pgvector import PgvectorStore

        return PgvectorStore(place)
    if place.kind == "lancedb":
        from embed_pipeline.stores.lance import LanceStore

        return LanceStore(place)
    from embed_pipeline.stores.elasticsearch import ElasticsearchStore

    return ElasticsearchStore(place)


def check_package(kind: StoreKind) -> None:
    """Raises ValueError where the package that a store of this kind needs is not installed."""
    module, package = _PACKAGES.get(kind, (None, None))
    if module and find_spec(module) is None:
        raise ValueError(
            f"index.store {kind}: expected the package {package}, found none. Install it: pip install "
            f"'embed-pipeline[{kind}]'."
        )
