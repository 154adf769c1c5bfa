"""The Faiss index of a corpus under one encoder: built, written, read.

Belongs here: the index, its files, and which encoder it belongs to. Does not belong here: searching (search.py).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import faiss

IndexKind = Literal["flat", "hnsw", "ivf"]

INDEX_FILE = "index.faiss"
PASSAGE_IDS_FILE = "passage_ids.json"
DESCRIPTION_FILE = "index.json"


class IndexSettings(BaseModel):
    """How a corpus is indexed: exactly up to a size, approximately above it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flat_up_to: int = Field(default=200_000, ge=0, description="Passages up to which the search is exact.")
    above: IndexKind = Field(default="hnsw", description="The index of a larger corpus; flat keeps the search exact.")
    hnsw_neighbours: int = Field(default=32, ge=2, description="Links of a passage in the graph.")
    hnsw_ef_construction: int = Field(default=200, ge=1, description="Candidates looked at while a passage is linked.")
    hnsw_ef_search: int = Field(default=256, ge=1, description="Candidates looked at while searching.")
    ivf_lists: int = Field(default=1024, ge=1, description="Cells the corpus is divided into.")
    ivf_probes: int = Field(default=64, ge=1, description="Cells looked at while searching.")
    seed: int = Field(default=0, description="Seed of the k-means that finds the cells.")

    def kind(self, passages: int) -> IndexKind:
        """The kind of index for a corpus of this size."""
        return "flat" if passages <= self.flat_up_to else self.above


@dataclass(frozen=True, slots=True)
class PassageIndex:
    """Row i of the Faiss index is the vector of passage_ids[i]; scores are inner products."""

    faiss_index: "faiss.Index"
    passage_ids: tuple[str, ...]
    kind: IndexKind
    dimension: int
    encoder_fingerprint: str


def build_index(
    passage_ids: Sequence[str],
    vectors: np.ndarray,
    *,
    encoder_fingerprint: str,
    settings: IndexSettings | None = None,
) -> PassageIndex:
    """The inner-product index of float32 vectors (passages, dimension), the same for the same input; maybe empty.

    An HNSW graph is built on one thread, because the order in which passages are linked changes it.
    Raises ValueError for wrong shapes, repeated ids, and vectors that hold NaN or infinity.
    """
    settings = settings or IndexSettings()
    _check_vectors(passage_ids, vectors)
    kind = settings.kind(len(passage_ids))
    return PassageIndex(
        faiss_index=_filled_index(np.ascontiguousarray(vectors, dtype=np.float32), kind, settings),
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
    _write_json(directory / PASSAGE_IDS_FILE, list(index.passage_ids))
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
    faiss_index = faiss.read_index(str(directory / INDEX_FILE))
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


def _filled_index(vectors: np.ndarray, kind: IndexKind, settings: IndexSettings) -> "faiss.Index":
    import faiss

    rows, dimension = vectors.shape
    if kind == "flat":
        index = faiss.IndexFlatIP(dimension)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(dimension, settings.hnsw_neighbours, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = settings.hnsw_ef_construction
        index.hnsw.efSearch = settings.hnsw_ef_search
    else:
        lists = min(settings.ivf_lists, max(rows, 1))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimension), dimension, lists, faiss.METRIC_INNER_PRODUCT)
        index.nprobe = settings.ivf_probes
        index.cp.seed = settings.seed
    if not rows:
        return index
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1 if kind != "flat" else threads)
    try:
        index.train(vectors)
        index.add(vectors)
    finally:
        faiss.omp_set_num_threads(threads)
    if isinstance(index, faiss.IndexIVFFlat):
        index.make_direct_map()  # without it a vector cannot be read back for the exact score
    return index


def _check_vectors(passage_ids: Sequence[str], vectors: np.ndarray) -> None:
    if vectors.ndim != 2 or len(vectors) != len(passage_ids):
        raise ValueError(
            f"index: expected one vector for each of {len(passage_ids)} passages, found an array of shape "
            f"{vectors.shape}. Encode the corpus again."
        )
    if len(set(passage_ids)) != len(passage_ids):
        repeated = next(passage_id for passage_id in passage_ids if list(passage_ids).count(passage_id) > 1)
        raise ValueError(f"index: passage id {repeated!r} occurs more than once. Unite passages of one id.")
    unusable = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if unusable.size:
        raise ValueError(
            f"index: {unusable.size} vectors hold NaN or infinity, the first of passage "
            f"{passage_ids[unusable[0]]!r}. The encoder is broken; encode again in float32."
        )


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
