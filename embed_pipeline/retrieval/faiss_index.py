"""The Faiss index of a corpus under one encoder: built, written, read.

Belongs here: the index, its files, and which encoder it belongs to. Does not belong here: searching (search.py).
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from embed_pipeline.records import StoreKind

if TYPE_CHECKING:
    import faiss

EXACT_UP_TO = 200_000
"""Passages up to which `auto` searches exactly."""
_FACTORY_STRINGS = {"flat": "Flat", "sq8": "SQ8", "hnsw": "HNSW{neighbours}", "ivf": "IVF{lists},Flat"}
_FACTORY_STRINGS["ivf_sq8"] = "IVF{lists},SQ8"
KINDS = ("auto", *_FACTORY_STRINGS)
_VECTORS_AS_GIVEN = ("flat", "hnsw", "ivf")
_FACTORY_STRING = re.compile(r"(?=.*[A-Z])[A-Za-z0-9_,()x]+")

INDEX_FILE = "index.faiss"
PASSAGE_IDS_FILE = "passage_ids.json"
DESCRIPTION_FILE = "index.json"

RECALL_AT = 10
_RECALL_SAMPLE = 200
_TRAINING_VECTORS_PER_LIST = 64
ADDED_AT_ONCE = 100_000
"""Passages whose vectors are in memory at once while they are indexed; another number gives a graph other bytes."""
GPU_HITS = 2048
"""Faiss's search on a GPU ends the process where more are asked for."""
_MAPPED_FROM_BYTES = 1 << 30
"""A larger file's cells are read when they are searched, not into memory before."""


class IndexSettings(BaseModel):
    """How a corpus is indexed: exactly up to a size, approximately above it, unless a kind is named."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(
        default="auto",
        description=f"`auto`: exact up to {EXACT_UP_TO:,} passages, `hnsw` above. `flat`: exact. `sq8`: the same over "
        "vectors in 8 bits. `hnsw`: a graph. `ivf`, `ivf_sq8`: cells. Or a Faiss factory string, such as "
        "`OPQ48,IVF4096,PQ48`.",
    )
    hnsw_neighbours: int = Field(default=32, ge=2, description="hnsw: links of a passage in the graph.")
    hnsw_ef_construction: int = Field(default=200, ge=1, description="hnsw: candidates while a passage is linked.")
    hnsw_ef_search: int = Field(default=256, ge=1, description="hnsw: candidates while searching.")
    ivf_lists: int | None = Field(
        default=None, ge=1, description="ivf: cells of the corpus; left out: four times the root of the passages."
    )
    ivf_probes: int = Field(default=64, ge=1, description="Cells looked at while searching, in a factory string too.")
    seed: int = Field(default=0, description="Seed of the k-means that finds the cells, and of the sample it sees.")
    recall_at_least: float = Field(
        default=0.95, ge=0, le=1, description="A check warns where a search finds less of what an exact one finds."
    )
    store: StoreKind | None = Field(
        default=None,
        description="Where production asks the vectors: a run publishes them there. Left out: nowhere.",
    )

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in KINDS and not _FACTORY_STRING.fullmatch(kind):
            raise ValueError(f"expected {', '.join(KINDS)} or a Faiss factory string such as IVF4096,PQ48")
        return kind

    def kind_for(self, passages: int) -> str:
        """The kind of index for a corpus of this size."""
        if self.kind != "auto":
            return self.kind
        return "flat" if passages <= EXACT_UP_TO else "hnsw"

    def shaping(self) -> dict[str, object]:
        """What changes an index's bytes."""
        return self.model_dump(mode="json", exclude={"recall_at_least", "store"})


class Vectors(Protocol):
    """Vectors that need not fit into memory; row i is passage i."""

    @property
    def shape(self) -> tuple[int, int]:
        """Passages and dimension."""
        ...

    def rows(self, wanted: np.ndarray) -> np.ndarray:
        """float32 (len(wanted), dimension): the vectors of these rows, in their order."""
        ...

    def blocks(self) -> Iterator[np.ndarray]:
        """float32 (at most ADDED_AT_ONCE, dimension): all vectors in their order, every block as long as it may be."""
        ...


@dataclass(frozen=True, slots=True)
class _InMemory:
    """Implements Vectors over an array."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        rows, dimension = self.array.shape
        return rows, dimension

    def rows(self, wanted: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(self.array[wanted], dtype=np.float32)

    def blocks(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self.array), ADDED_AT_ONCE):
            yield np.ascontiguousarray(self.array[start : start + ADDED_AT_ONCE], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class PassageIndex:
    """Row i of the Faiss index is the vector of passage_ids[i]; scores are inner products."""

    faiss_index: "faiss.Index"
    passage_ids: tuple[str, ...]
    kind: str
    """One of KINDS but auto, or a Faiss factory string."""
    dimension: int
    encoder_fingerprint: str

    def vectors(self) -> np.ndarray | None:
        """float32 (passages, dimension), row i of passage_ids[i]; None where the index holds them compressed."""
        if self.kind not in _VECTORS_AS_GIVEN:
            return None
        return self.faiss_index.reconstruct_n(0, len(self.passage_ids))


def build_index(
    passage_ids: Sequence[str],
    vectors: np.ndarray | Vectors,
    *,
    encoder_fingerprint: str,
    settings: IndexSettings | None = None,
) -> PassageIndex:
    """The inner-product index of float32 vectors (passages, dimension), the same for the same input; maybe empty.

    Beside the index a block of the vectors is in memory, and what k-means sees of them. A graph is built on one thread,
    because the order in which passages are linked changes it.
    Raises ValueError for wrong shapes, repeated ids, vectors that hold NaN or infinity, and a factory string that
    Faiss does not take.
    """
    settings = settings or IndexSettings()
    _check_shape(passage_ids, vectors.shape)
    kind = settings.kind_for(len(passage_ids))
    return PassageIndex(
        faiss_index=_filled_index(passage_ids, _vectors(vectors), kind, settings),
        passage_ids=tuple(passage_ids),
        kind=kind,
        dimension=vectors.shape[1],
        encoder_fingerprint=encoder_fingerprint,
    )


def write_index(index: PassageIndex, directory: Path) -> None:
    """Writes index.faiss, passage_ids.json and index.json into the directory."""
    import faiss

    directory.mkdir(parents=True, exist_ok=True)
    faiss.write_index(index.faiss_index, str(directory / INDEX_FILE))
    _write_ids(directory / PASSAGE_IDS_FILE, index.passage_ids)
    description = {
        "kind": index.kind,
        "dimension": index.dimension,
        "passages": len(index.passage_ids),
        "encoder_fingerprint": index.encoder_fingerprint,
    }
    _write_json(directory / DESCRIPTION_FILE, description)


def read_index(directory: Path) -> PassageIndex:
    """The index written there; raises ValueError when its three files do not belong together."""
    import faiss

    description = json.loads((directory / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    passage_ids = tuple(json.loads((directory / PASSAGE_IDS_FILE).read_text(encoding="utf-8")))
    large = (directory / INDEX_FILE).stat().st_size >= _MAPPED_FROM_BYTES
    faiss_index = faiss.read_index(str(directory / INDEX_FILE), faiss.IO_FLAG_MMAP if large else 0)
    expected = (description["passages"], description["passages"], description["dimension"])
    found = (len(passage_ids), faiss_index.ntotal, faiss_index.d)
    if expected != found:
        raise ValueError(
            f"{directory}: {DESCRIPTION_FILE} states ids, rows and dimension {expected}, found {found}. "
            "The files are of different indexes; build it again."
        )
    return PassageIndex(
        faiss_index=faiss_index,
        passage_ids=passage_ids,
        kind=description["kind"],
        dimension=description["dimension"],
        encoder_fingerprint=description["encoder_fingerprint"],
    )


def refuse_missing_gpu() -> None:
    """Raises ValueError where Faiss finds no GPU: `index_cpu_to_all_gpus` would be empty, and its search crashes."""
    import faiss

    if not hasattr(faiss, "get_num_gpus") or faiss.get_num_gpus() == 0:
        raise ValueError("EMBED_PIPELINE_DEVICE: expected a GPU that Faiss can use, found none. Set it to cpu.")


def recall_against_exact(index: PassageIndex, vectors: np.ndarray | Vectors, *, seed: int = 0) -> float:
    """The share of the RECALL_AT nearest passages of an exact search that the index finds.

    Asked are vectors of the corpus itself, a drawn sample: they cost no encoding. `vectors` is what the index was built
    from; passages at equal distance stand for each other.
    """
    corpus = vectors.shape[0]
    rows = np.random.default_rng(seed).permutation(corpus)[:_RECALL_SAMPLE]
    wanted = min(RECALL_AT, corpus)
    if not wanted:
        return 1.0
    vectors = _vectors(vectors)
    asked = vectors.rows(rows)
    _, found = index.faiss_index.search(asked, wanted)
    known = np.unique(found[found >= 0])
    vector_of = dict(zip(known.tolist(), vectors.rows(known), strict=True))
    reached = [
        sum(vector_of[at] @ query >= worst - 1e-5 for at in ids[ids >= 0].tolist())
        for query, ids, worst in zip(asked, found, lowest_of_nearest(vectors, asked, wanted), strict=True)
    ]
    return float(sum(reached)) / (wanted * len(rows))


def lowest_of_nearest(vectors: np.ndarray | Vectors, asked: np.ndarray, wanted: int) -> np.ndarray:
    """The score from which on a hit is among the `wanted` nearest of an exact search, (queries,).

    `vectors` (passages, dimension) and `asked` (queries, dimension) are float32; there are at least `wanted` passages.
    """
    best = np.full((len(asked), wanted), -np.inf, dtype=np.float32)
    for block in _vectors(vectors).blocks():
        scores = np.concatenate([best, asked @ block.T], axis=1)
        best = np.partition(scores, scores.shape[1] - wanted, axis=1)[:, -wanted:]
    return best.min(axis=1)


def _vectors(vectors: np.ndarray | Vectors) -> Vectors:
    return _InMemory(vectors) if isinstance(vectors, np.ndarray) else vectors


def _filled_index(passage_ids: Sequence[str], vectors: Vectors, kind: str, settings: IndexSettings) -> "faiss.Index":
    import faiss

    rows, dimension = vectors.shape
    lists = min(settings.ivf_lists or round(4 * rows**0.5), max(rows, 1))
    string = _FACTORY_STRINGS.get(kind, kind).format(lists=lists, neighbours=settings.hnsw_neighbours)
    try:
        index = faiss.index_factory(dimension, string, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ValueError(
            f"index.kind: Faiss takes no {string!r} for vectors of {dimension} numbers: {str(error)[-200:]}. "
            f"Correct it, or take one of {', '.join(KINDS)}."
        ) from error
    if isinstance(index, faiss.IndexHNSW):
        index.hnsw.efConstruction, index.hnsw.efSearch = settings.hnsw_ef_construction, settings.hnsw_ef_search
    cells = _cells_of(index)
    if cells is not None:
        cells.nprobe, cells.cp.seed = settings.ivf_probes, settings.seed
    parts: tuple[Any, ...] = (_inmost(index), faiss.downcast_index(cells) if cells is not None else None)
    for part in parts:
        if hasattr(part, "do_polysemous_training"):
            part.do_polysemous_training = False  # orders the codes for a kind of search that is not ours, in minutes
    if not rows:
        return index
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1 if "HNSW" in string else threads)
    try:
        if not index.is_trained:
            seen = _training_rows(rows, cells.nlist if cells is not None else 0, settings.seed)
            ids: list[str] = [str(passage_ids[row]) for row in seen.tolist()]
            index.train(_finite(ids, vectors.rows(seen)))
        for start, block in zip(range(0, rows, ADDED_AT_ONCE), vectors.blocks(), strict=True):
            index.add(_finite(passage_ids[start : start + ADDED_AT_ONCE], block))
    finally:
        faiss.omp_set_num_threads(threads)
    if cells is not None:
        cells.make_direct_map()  # without it a vector cannot be read back for its score
    return index


def _cells_of(index: "faiss.Index") -> "faiss.IndexIVF | None":
    import faiss

    try:
        return faiss.extract_index_ivf(index)
    except RuntimeError:
        return None


def _inmost(index: "faiss.Index") -> "faiss.Index":
    import faiss

    return _inmost(faiss.downcast_index(index.index)) if isinstance(index, faiss.IndexPreTransform) else index


def _training_rows(rows: int, lists: int, seed: int) -> np.ndarray:
    """What k-means sees: all, or a draw that is large enough for the cells and for 8-bit codes."""
    enough = max(_TRAINING_VECTORS_PER_LIST * lists, ADDED_AT_ONCE)
    return np.arange(rows) if rows <= enough else np.sort(np.random.default_rng(seed).permutation(rows)[:enough])


def _check_shape(passage_ids: Sequence[str], shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or shape[0] != len(passage_ids):
        raise ValueError(
            f"index: expected one vector for each of {len(passage_ids)} passages, found an array of shape "
            f"{shape}. Encode the corpus again."
        )
    if len(set(passage_ids)) != len(passage_ids):
        repeated = Counter(passage_ids).most_common(1)[0][0]
        raise ValueError(f"index: passage id {repeated!r} occurs more than once. Unite passages of one id.")


def _finite(passage_ids: Sequence[str], vectors: np.ndarray) -> np.ndarray:
    """The vectors of these passages; raises ValueError where one holds NaN or infinity."""
    unusable = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if unusable.size:
        raise ValueError(
            f"index: {unusable.size} vectors hold NaN or infinity, the first of passage "
            f"{passage_ids[unusable[0]]!r}. The encoder is broken; encode again in float32."
        )
    return vectors


def _write_ids(path: Path, passage_ids: Sequence[str]) -> None:
    """The bytes that _write_json gives a list, an id at a time: json needs gigabytes for the text of millions."""
    encode = json.JSONEncoder(ensure_ascii=False).encode
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        file.writelines(f"{',' * bool(at)}\n {encode(one)}" for at, one in enumerate(passage_ids))
        file.write("\n]\n" if passage_ids else "]\n")


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
