"""Vectors kept per text across assets and runs, keyed by what made them, never by a name.

Belongs here: where vectors lie on disk, how they survive kills, damage and other processes, and the encoder that asks
there first. Does not belong here: computing a fingerprint (encoder.py), running a model (local.py).

One SQLite file per fingerprint. A damaged file is left alone and the next generation of it is begun, because renaming
or deleting a database that another process has open would damage the new one.
"""

import hashlib
import re
import sqlite3
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import accumulate, groupby, islice, pairwise
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from filelock import FileLock

from embed_pipeline.encoding.encoder import (
    Encoder,
    EncoderAround,
    Progress,
    RefusedTextsError,
    Role,
    fingerprint_as,
    show_texts,
)

Result = TypeVar("Result")

_ROWS_PER_LOOKUP = 1000
_TEXTS_PER_COMMIT = 256
_LENGTH_ERROR = 0.01
SAME_VECTORS = 8
"""Where so many different texts get one vector, nothing encodes them."""
_MOST_REFUSED = 8
"""Texts that cannot be encoded after which no further one is looked for."""
_LOCK_TIMEOUT_SECONDS = 120
_FILE_NAME = re.compile(r"(?P<fingerprint>[0-9a-f]{64})\.(?P<generation>\d+)\.sqlite(-wal|-shm)?")
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_SCHEMA = "CREATE TABLE IF NOT EXISTS vectors (text_digest BLOB PRIMARY KEY, vector BLOB NOT NULL, checksum INTEGER)"
_LOOKUP = "SELECT text_digest, vector, checksum FROM vectors WHERE text_digest IN ({})"
_STORE = "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Lookup:
    """What the cache holds for a sequence of texts: row i of both arrays is text i."""

    vectors: np.ndarray
    """float32 (texts, dimension); a row that was not found is zero."""
    found: np.ndarray
    """bool (texts,)"""


class VectorCache:
    """Vectors under one directory; safe for several processes, a kill at any moment, and damaged files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def lookup(self, fingerprint: str, texts: Sequence[str], dimension: int) -> Lookup:
        """What is stored for the texts, in their order; a row whose checksum or length is wrong counts as not found."""
        vectors = np.zeros((len(texts), dimension), dtype=np.float32)
        found = np.zeros(len(texts), dtype=bool)
        rows_of: dict[bytes, list[int]] = {}
        for row, text in enumerate(texts):
            rows_of.setdefault(_text_digest(text), []).append(row)
        digests = list(rows_of)

        def select(connection: sqlite3.Connection) -> None:
            # Straight to their rows: the vectors of a large corpus are in memory once. What a damaged file gave goes.
            vectors.fill(0)
            found.fill(False)
            for start in range(0, len(digests), _ROWS_PER_LOOKUP):
                part = digests[start : start + _ROWS_PER_LOOKUP]
                for digest, vector, checksum in connection.execute(_LOOKUP.format(",".join("?" * len(part))), part):
                    whole = isinstance(vector, bytes) and zlib.crc32(digest + vector) == checksum
                    if whole and len(vector) == dimension * 4:
                        vectors[rows_of[digest]] = np.frombuffer(vector, dtype="<f4")
                        found[rows_of[digest]] = True

        if digests:
            self._run(fingerprint, select)
        return Lookup(vectors=vectors, found=found)

    def store(self, fingerprint: str, texts: Sequence[str], vectors: np.ndarray) -> None:
        """Commits one vector per text before it returns; an older vector of the same text is replaced."""
        if len(texts) != len(vectors):
            raise ValueError(f"vector cache: {len(texts)} texts, {len(vectors)} vectors. Pass one vector per text.")
        rows = []
        for text, vector in zip(texts, vectors, strict=True):
            digest, content = _text_digest(text), np.ascontiguousarray(vector, dtype="<f4").tobytes()
            rows.append((digest, content, zlib.crc32(digest + content)))

        def insert(connection: sqlite3.Connection) -> None:
            with connection:
                connection.executemany(_STORE, rows)

        self._run(fingerprint, insert)

    def recheck(self, fingerprint: str, *, unit_length: bool, dry_run: bool = False) -> tuple[int, Mapping[str, int]]:
        """How many vectors are kept under a fingerprint, and how many of them `find_faults` faults, by its words.

        They are removed, unless `dry_run`; the texts are then encoded again where they are needed.
        """
        if not self._generation(fingerprint) and not (self.directory / f"{fingerprint}.0.sqlite").exists():
            return 0, {}

        def look(connection: sqlite3.Connection) -> tuple[int, Mapping[str, int]]:
            # Twice through the file, so that no more than a portion of it is in memory at once.
            times = Counter(hash(vector) for (vector,) in connection.execute("SELECT vector FROM vectors"))
            faults: dict[bytes, str] = {}
            rows = connection.execute("SELECT text_digest, vector FROM vectors ORDER BY length(vector)")
            for _, alike in groupby(rows, key=lambda row: len(row[1])):
                while portion := list(islice(alike, _ROWS_PER_LOOKUP)):
                    vectors = np.stack([np.frombuffer(vector, dtype="<f4") for _, vector in portion])
                    found = find_faults(vectors, unit_length=unit_length, times=times)
                    faults |= {portion[at][0]: words for at, words in found.items()}
            if faults and not dry_run:
                with connection:
                    connection.executemany("DELETE FROM vectors WHERE text_digest = ?", [(one,) for one in faults])
            return times.total(), Counter(faults.values())

        return self._run(fingerprint, look)

    def gc(self, keep: Collection[str], *, dry_run: bool = False) -> int:
        """The bytes freed (or, with `dry_run`, to be freed) by deleting other fingerprints and damaged generations.

        Run it while nothing encodes.
        """
        freed = 0
        for path in sorted(self.directory.glob("*.sqlite*")):
            name = _FILE_NAME.fullmatch(path.name)
            if name is None:
                continue
            fingerprint, generation = name["fingerprint"], int(name["generation"])
            if fingerprint not in keep or generation < self._generation(fingerprint):
                freed += path.stat().st_size
                if not dry_run:
                    path.unlink()
        return freed

    def _run(self, fingerprint: str, work: Callable[[sqlite3.Connection], Result]) -> Result:
        generation = self._generation(fingerprint)
        try:
            with self._open(fingerprint, generation) as connection:
                return work(connection)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF not in _DAMAGED:
                raise
        with self._open(fingerprint, generation + 1) as connection:
            return work(connection)

    @contextmanager
    def _open(self, fingerprint: str, generation: int) -> Iterator[sqlite3.Connection]:
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"{fingerprint}.{generation}.sqlite"
        with closing(sqlite3.connect(path, timeout=_LOCK_TIMEOUT_SECONDS)) as connection:
            # SQLite does not wait for another process that begins the same file; it fails with "database is locked".
            with FileLock(self.directory / "opening.lock", timeout=_LOCK_TIMEOUT_SECONDS):
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.execute(_SCHEMA)
            yield connection

    def _generation(self, fingerprint: str) -> int:
        names = (_FILE_NAME.fullmatch(path.name) for path in self.directory.glob(f"{fingerprint}.*.sqlite"))
        return max((int(name["generation"]) for name in names if name), default=0)


def _text_digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def find_faults(vectors: np.ndarray, *, unit_length: bool, times: Mapping[int, int] | None = None) -> dict[int, str]:
    """The rows of float32 (texts, dimension) that are no vector of a text, each with what it is.

    One vector for many texts (SAME_VECTORS) is what a service sends that does not encode; `times`: how often each is
    there, by the hash of its bytes, where these are not all. With `unit_length` each must have length 1, but for what a
    lower precision loses.
    """
    hashes = [hash(row.tobytes()) for row in vectors]
    times = Counter(hashes) if times is None else times
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    kinds = (
        (~np.isfinite(lengths), "not finite"),
        (lengths == 0, "zeros"),
        (np.array([times[one] >= SAME_VECTORS for one in hashes], dtype=bool), "one for many texts"),
        (unit_length & (np.abs(lengths - 1) > _LENGTH_ERROR), "not of length 1"),
    )
    return {int(at): words for rows, words in reversed(kinds) for at in np.flatnonzero(rows)}


@runtime_checkable
class Portioned(Protocol):
    """An encoder that works in portions of its own, such as the requests to a service."""

    def portions(self, role: Role, texts: Sequence[str]) -> Sequence[int]:
        """How many of the texts go into each portion, in order; a portion given alone stays one."""
        ...


@runtime_checkable
class Parallel(Protocol):
    """An encoder that computes several portions at once."""

    def encode_portions(self, role: Role, portions: Sequence[Sequence[str]]) -> Iterator[tuple[int, np.ndarray]]:
        """(position of a portion, float32 (its texts, dimension)), each as soon as it is there, in any order."""
        ...


class CachedEncoder(EncoderAround[Encoder]):
    """Implements Encoder; what is stored is never encoded again, and every portion is stored as soon as it is done."""

    def __init__(self, encoder: Encoder, cache: VectorCache, *, progress: Progress | None = None) -> None:
        self.encoder = encoder
        self.cache = cache
        self.progress = progress
        self.encoded = 0
        """Distinct texts that went through the model, over all calls."""
        self.served = 0
        """Distinct texts that came from the cache, over all calls."""
        self._most_texts: int | None = None

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (len(texts), dimension), row i for text i.

        Raises:
            RefusedTextsError: texts that the encoder cannot encode, at their positions; every other one is stored, or
                those before the eighth such text.
        """
        return self._encode("query", self.encoder.encode_queries, texts)

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (len(texts), dimension), row i for text i. Raises as encode_queries."""
        return self._encode("passage", self.encoder.encode_passages, texts)

    def _encode(self, role: Role, encode: Callable[[Sequence[str]], np.ndarray], texts: Sequence[str]) -> np.ndarray:
        fingerprint = fingerprint_as(self, role)
        distinct = list(dict.fromkeys(texts))
        lookup = self.cache.lookup(fingerprint, distinct, self.dimension)
        vectors = lookup.vectors
        # Earlier versions stored what a service answered in place of vectors; zeros are asked for again.
        lookup.found[~vectors.any(axis=1) | ~np.isfinite(vectors).all(axis=1)] = False
        # Longest first, so that each portion is of alike length and running out of memory happens at once.
        missing = sorted(np.flatnonzero(~lookup.found).tolist(), key=lambda row: (-len(distinct[row]), row))
        self.served += len(distinct) - len(missing)

        def encode_rows(rows: Sequence[int]) -> dict[int, RefusedTextsError]:
            """Encodes and stores; returns the rows that it is known of that they cannot be, with the reason."""
            portion = [distinct[row] for row in rows]
            refused: dict[int, RefusedTextsError] = {}
            try:
                found = encode(portion)
            except RefusedTextsError as error:
                if error.vectors is None:
                    if len(rows) > 1:
                        raise
                    return {rows[0]: error}
                found, refused = error.vectors, {rows[at]: error for at in error.refused}
            good = [at for at, row in enumerate(rows) if row not in refused]
            keep([rows[at] for at in good], found[good])
            return refused

        def keep(rows: Sequence[int], found: np.ndarray) -> None:
            vectors[rows] = found
            self.cache.store(fingerprint, [distinct[row] for row in rows], found)
            self.encoded += len(rows)

        done, refused = 0, dict[int, RefusedTextsError]()

        def tell(rows: Sequence[int]) -> None:
            nonlocal done
            done += len(rows)
            if self.progress:
                self.progress(done, len(missing))

        ends = accumulate(self._portions(role, [distinct[row] for row in missing]), initial=0)
        portions = [missing[start:end] for start, end in pairwise(ends)]
        if isinstance(self.encoder, Parallel) and len(portions) > 1:
            for at, found in self.encoder.encode_portions(role, [[distinct[row] for row in rows] for rows in portions]):
                keep(portions[at], found)
                tell(portions[at])
            portions = []
        for rows in portions:
            refused |= self._encode_portion(rows, distinct, encode_rows)
            tell(rows)
            if len(refused) >= _MOST_REFUSED:
                break
        if refused:
            raise _explain_refused({distinct[row]: error for row, error in refused.items()}, texts, role)
        if len(distinct) == len(texts):
            return vectors
        row_of = {text: row for row, text in enumerate(distinct)}
        return vectors[[row_of[text] for text in texts]]

    def _encode_portion(
        self,
        rows: Sequence[int],
        texts: Sequence[str],
        encode_rows: Callable[[Sequence[int]], dict[int, RefusedTextsError]],
    ) -> dict[int, RefusedTextsError]:
        """Encodes the rows of the texts, in halves down to single texts where the portion as a whole is refused.

        Its ends go first and alone: where neither is taken, nothing of it would be. A portion that was only too large
        shows in its parts how large one may be, for all that follow.
        """
        if self._most_texts and len(rows) > self._most_texts:
            parts = [rows[at : at + self._most_texts] for at in range(0, len(rows), self._most_texts)]
            found = [self._encode_portion(part, texts, encode_rows) for part in parts]
            return {row: error for one in found for row, error in one.items()}
        try:
            return encode_rows(rows)
        except RefusedTextsError as error:
            whole = error
        refused: dict[int, RefusedTextsError] = {}
        parts = [part for part in (rows[-1:], rows[:1], *_halves(rows[1:-1])) if part]
        largest = 0
        while parts and len(refused) < _MOST_REFUSED:
            part = parts.pop(0)
            try:
                found = encode_rows(part)
            except RefusedTextsError:
                parts[:0] = _halves(part)
                continue
            refused |= found
            largest = max(largest, len(part) - len(found))
            if len(refused) == 2 and not largest:
                ends = show_texts([texts[row] for row in refused])
                raise RefusedTextsError(f"{whole} {ends}: refused alone too, so no other text of it was tried.")
        if not refused:
            self._most_texts = largest
        return refused

    def _portions(self, role: Role, texts: Sequence[str]) -> Sequence[int]:
        if isinstance(self.encoder, Portioned):
            return self.encoder.portions(role, texts)
        return [min(_TEXTS_PER_COMMIT, len(texts) - start) for start in range(0, len(texts), _TEXTS_PER_COMMIT)]


def _halves(rows: Sequence[int]) -> list[Sequence[int]]:
    middle = (len(rows) + 1) // 2
    return [part for part in (rows[:middle], rows[middle:]) if part]


def _explain_refused(refused: dict[str, RefusedTextsError], texts: Sequence[str], role: Role) -> RefusedTextsError:
    count, first = len(refused), next(iter(refused.values()))
    things = "queries" if role == "query" else "passages"
    more = "the rest was not tried" if count >= _MOST_REFUSED else "all others are kept"
    return RefusedTextsError(
        f"{count} of {len(set(texts))} {things} have no vector, {more}: {show_texts(list(refused))}. {first}",
        refused={at: text for at, text in enumerate(texts) if text in refused},
    )
