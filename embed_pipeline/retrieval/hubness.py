"""Hubness: how near a passage is to train questions that it does not answer, as some passages are to all.

Belongs here: measuring it and its file. Does not belong here: how it is weighed beside the other scores (hybrid.py).

In a space of many dimensions a few points are among the nearest of very many others (Radovanović, Nanopoulos and
Ivanović 2010, "Hubs in Space"). The correction is the passage's half of cross-domain similarity local scaling (Conneau
et al. 2018, "Word Translation Without Parallel Data"): its mean cosine to the nearest questions is taken off its score.
A question's own half is the same for all passages and changes no order. Only train questions are looked at, and never
one that a passage answers, or passages with train questions would be set back for having them.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.dataset.sampling import draw_by_hash
from embed_pipeline.encoding.encoder import Encoder
from embed_pipeline.retrieval.faiss_index import PassageIndex

QUESTIONS = 500
"""Of more train questions so many are drawn, by a hash of their ids: a thousand found no more."""
FEWEST_QUESTIONS = 50
NEAREST_SHARE = 0.1
"""The nearest tenth of the questions counts."""
HUBNESS_FILE = "hubness.npy"
_PASSAGES_AT_ONCE = 8192


def measure_hubness(index: PassageIndex, dataset: RetrievalDataset, encoder: Encoder) -> np.ndarray | None:
    """float32 (passages), a mean cosine each, in the order of the index; None with fewer than FEWEST_QUESTIONS.

    The vectors are those that the index holds, and the questions' from the encoder it was built with.
    """
    questions = draw_by_hash(dataset.queries_of("train"), QUESTIONS, lambda query: query.id)
    if len(questions) < FEWEST_QUESTIONS:
        return None
    vectors = encoder.encode_queries([query.text for query in questions])
    row_of, column_of = (
        {one: at for at, one in enumerate(ids)} for ids in (index.passage_ids, [q.id for q in questions])
    )
    answers = [
        (row_of[judgment.passage_id], column_of[judgment.query_id])
        for judgment in dataset.judgments
        if judgment.grade > 0 and judgment.query_id in column_of and judgment.passage_id in row_of
    ]
    answered = np.array(sorted(answers), dtype=np.int64).reshape(-1, 2)
    found = np.empty(len(index.passage_ids), dtype=np.float32)
    for start in range(0, len(found), _PASSAGES_AT_ONCE):
        size = min(_PASSAGES_AT_ONCE, len(found) - start)
        cosines = index.faiss_index.reconstruct_n(start, size) @ vectors.T
        first, last = np.searchsorted(answered[:, 0], (start, start + size))
        own = answered[first:last]
        found[start : start + size] = _mean_of_nearest(cosines, own - (start, 0))
    return found


def _mean_of_nearest(cosines: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """Per row the mean of its greatest cosines but those of its own questions; of a row without others that of all."""
    nearest = max(1, round(NEAREST_SHARE * cosines.shape[1]))
    kept = np.ones(cosines.shape, dtype=bool)
    kept[answered[:, 0], answered[:, 1]] = False
    kept[~kept.any(axis=1)] = True
    ordered = np.sort(np.where(kept, cosines, -np.inf), axis=1)[:, -nearest:]
    counted = np.isfinite(ordered)
    return np.where(counted, ordered, 0.0).sum(axis=1, dtype=np.float64) / counted.sum(axis=1)


def write_hubness(hubness: np.ndarray, directory: Path) -> None:
    """Write hubness.npy."""
    np.save(directory / HUBNESS_FILE, hubness, allow_pickle=False)


def read_hubness(directory: Path, passage_ids: Sequence[str]) -> np.ndarray | None:
    """float64 (passages); None where none was written.

    Raises:
        ValueError: it is of another number of passages.
    """
    path = directory / HUBNESS_FILE
    if not path.exists():
        return None
    found = np.load(path, allow_pickle=False).astype(np.float64)
    if found.shape != (len(passage_ids),):
        raise ValueError(f"{path}: expected {len(passage_ids)} numbers, found {found.shape}. Build the index again.")
    return found
