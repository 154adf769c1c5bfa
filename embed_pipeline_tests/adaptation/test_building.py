"""Laws of an adaptation's files: what is measured while it is chosen is what is searched afterwards."""

from pathlib import Path

import numpy as np
import pytest

from embed_pipeline.adaptation.building import build_adaptation, read_adapted
from embed_pipeline.adaptation.settings import AdaptationSettings
from embed_pipeline.dataset.formats import RetrievalDataset, build_dataset
from embed_pipeline.encoding.encoder import joint_fingerprint
from embed_pipeline.records import SPLITS, Judgment, Passage, Query
from embed_pipeline_tests.fakes import FakeEncoder

PASSAGES = [f"{word} leaves at noon" for word in ("ferry", "barge", "tug", "liner", "yacht", "canoe", "raft", "kayak")]


class LongEncoder(FakeEncoder):
    """The fake's vectors three times as long, as of an encoder with normalize: false."""

    def encode_passages(self, texts):  # type: ignore[no-untyped-def]
        return 3 * super().encode_passages(texts)

    @property
    def passage_fingerprint(self) -> str:
        return joint_fingerprint(super().passage_fingerprint, "long")


def asked() -> RetrievalDataset:
    """A question of each split for every passage, in words that lead elsewhere before anything is moved."""
    queries = [
        Query(f"{split}{at}", f"{PASSAGES[at - 1]} {at} {split[:2]}", split)
        for split in SPLITS
        for at in range(len(PASSAGES))
    ]
    judged = [Judgment(f"{split}{at}", f"p{at}") for split in SPLITS for at in range(len(PASSAGES))]
    return build_dataset(queries, [Passage(f"p{at}", text) for at, text in enumerate(PASSAGES)], judged)


@pytest.mark.parametrize("method", ["nudge_m", "nudge_n"])
def test_what_validation_gained_is_what_a_search_of_the_moved_vectors_finds(tmp_path: Path, method: str) -> None:
    dataset, encoder = asked(), FakeEncoder()
    found = build_adaptation(dataset, encoder, AdaptationSettings.model_validate({"method": method}), tmp_path)
    adapted = read_adapted(encoder, tmp_path)
    queries = adapted.encode_queries([query.text for query in dataset.queries_of("validation")])
    first = (queries @ adapted.encode_passages(PASSAGES).T).argmax(axis=1)
    assert found["gamma"] and found["validation_after"] == pytest.approx(np.mean(first == np.arange(len(first))))


@pytest.mark.parametrize("method", ["nudge_m", "nudge_n"])
def test_passages_of_other_lengths_than_1_are_not_moved_among_each_other(tmp_path: Path, method: str) -> None:
    settings = AdaptationSettings.model_validate({"method": method})
    with pytest.raises(ValueError, match=rf"{method} needs .*length 1, found lengths from 3 to 3. Set encoder.normal"):
        build_adaptation(asked(), LongEncoder(), settings, tmp_path)
    assert not list(tmp_path.iterdir())
