"""pgvector: a table per collection in PostgreSQL, and a view per alias."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from embed_pipeline.stores.store import Corpus, Found, Place

if TYPE_CHECKING:
    from psycopg2.sql import Composed

_BATCH = 1000
_INDEXED_DIMENSIONS = 2000
"""pgvector builds no graph over longer vectors; they are searched one by one."""
_CANDIDATES = 100
_MOST_CANDIDATES = 1000
_VIEW = """CREATE OR REPLACE VIEW {alias} AS
    SELECT row_number, passage_id, text, attributes, embedding::vector AS embedding FROM {name}"""
"""Without a length in its type the column stays the same for another encoder: the view keeps its grants."""


class PgvectorStore:
    """Columns: row_number, passage_id, text, attributes (jsonb), embedding (vector, float32)."""

    def __init__(self, place: Place) -> None:
        """Raises ValueError where PostgreSQL cannot be reached or refuses."""
        import psycopg2

        self.failures = (psycopg2.Error,)
        try:
            self._connection = psycopg2.connect(place.address, password=place.key)
        except psycopg2.Error as error:
            raise ValueError(
                f"{place.shown}: PostgreSQL cannot be reached or refuses: {str(error).strip()}. Correct "
                "EMBED_PIPELINE_PGVECTOR_URL and EMBED_PIPELINE_PGVECTOR_PASSWORD."
            ) from error
        self._connection.autocommit = True

    def build(self, name: str, corpus: Corpus) -> None:
        """See VectorStore; one transaction: a build that is killed leaves nothing."""
        with self._connection, self._connection.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
            columns = (
                "row_number bigint PRIMARY KEY, passage_id text NOT NULL UNIQUE, text text NOT NULL, "
                f"attributes jsonb NOT NULL, embedding vector({corpus.dimension}) NOT NULL"
            )
            cursor.execute(_sql(f"CREATE TABLE {{name}} ({columns})", name=name))
            comment = f"made by embed-pipeline, encoder {corpus.encoder_fingerprint}"
            cursor.execute(_sql("COMMENT ON TABLE {name} IS %s", name=name), [comment])
            for rows, passages, vectors in corpus.batches(_BATCH):
                lines = io.StringIO()
                writer = csv.writer(lines, quoting=csv.QUOTE_ALL)
                for row, passage, vector in zip(rows, passages, vectors, strict=True):
                    attributes = json.dumps(dict(passage.attributes), ensure_ascii=False)
                    writer.writerow([row, passage.id, passage.text, attributes, _literal(vector)])
                lines.seek(0)
                cursor.copy_expert(_sql("COPY {name} FROM STDIN (FORMAT csv)", name=name), lines)
            if corpus.dimension <= _INDEXED_DIMENSIONS:
                cursor.execute(_sql("CREATE INDEX ON {name} USING hnsw (embedding vector_ip_ops)", name=name))
            cursor.execute(_sql("CREATE INDEX ON {name} USING gin (attributes jsonb_path_ops)", name=name))
            cursor.execute(_sql("ANALYZE {name}", name=name))

    def point(self, alias: str, name: str) -> None:
        """See VectorStore."""
        self._rows(_sql(_VIEW, alias=alias, name=name))

    def current(self, alias: str) -> str | None:
        """See VectorStore."""
        found = self._rows(
            "SELECT DISTINCT used.relname FROM pg_class AS view JOIN pg_rewrite AS rule ON rule.ev_class = view.oid "
            "JOIN pg_depend AS edge ON edge.classid = 'pg_rewrite'::regclass AND edge.objid = rule.oid "
            "AND edge.refclassid = 'pg_class'::regclass JOIN pg_class AS used ON used.oid = edge.refobjid "
            "WHERE view.relkind = 'v' AND view.relname = %s AND view.relnamespace = current_schema()::regnamespace "
            "AND used.oid <> view.oid",
            alias,
        )
        return found[0][0] if found else None

    def names(self, prefix: str) -> Sequence[str]:
        """See VectorStore."""
        found = self._rows(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'm', 'f') AND starts_with(relname, %s) "
            "AND relnamespace = current_schema()::regnamespace ORDER BY relname",
            prefix,
        )
        return [name for (name,) in found]

    def search(self, name: str, vector: np.ndarray, k: int, where: Mapping[str, str] | None = None) -> Sequence[Found]:
        """See VectorStore; with `where` one by one, because the graph would drop hits after it found them."""
        # Without a condition that holds for all: the planner would take it for one that few rows meet.
        condition = "WHERE attributes @> %(where)s::jsonb " if where else ""
        query = _sql(
            f"SELECT passage_id, text, -(embedding <#> %(vector)s::vector) FROM {{name}} {condition}"
            "ORDER BY embedding <#> %(vector)s::vector LIMIT %(k)s",
            name=name,
        )
        with self._connection, self._connection.cursor() as cursor:
            if where:
                cursor.execute("SET LOCAL enable_indexscan = off")
            else:
                cursor.execute(f"SET LOCAL hnsw.ef_search = {min(max(_CANDIDATES, k), _MOST_CANDIDATES)}")
            cursor.execute(query, {"vector": _literal(vector), "where": json.dumps(dict(where or {})), "k": k})
            return [Found(*row) for row in cursor.fetchall()]

    def count(self, name: str, where: Mapping[str, str] | None = None) -> int:
        """See VectorStore."""
        query = _sql("SELECT count(*) FROM {name} WHERE attributes @> %s::jsonb", name=name)
        return self._rows(query, json.dumps(dict(where or {})))[0][0]

    def drop(self, name: str) -> None:
        """See VectorStore."""
        self._rows(_sql("DROP TABLE IF EXISTS {name}", name=name))

    def close(self) -> None:
        """See VectorStore."""
        self._connection.close()

    def _rows(self, query: "str | Composed", *values: object) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(query, values)
            return cursor.fetchall() if cursor.description else []


def _sql(text: str, **names: str) -> "Composed":
    from psycopg2 import sql

    return sql.SQL(text).format(**{key: sql.Identifier(name) for key, name in names.items()})


def _literal(vector: np.ndarray) -> str:
    return "[" + ",".join(f"{value:.9g}" for value in vector.tolist()) + "]"  # 9 digits give a float32 back
