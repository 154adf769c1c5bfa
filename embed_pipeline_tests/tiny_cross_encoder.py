"""A cross-encoder small enough for a test, and a stand-in that needs no model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embed_pipeline.encoding.cross_encoder import TextPair
from embed_pipeline_tests.small_project import write_model


def write_cross_encoder(directory: Path, *, seed: int = 0, outputs: int = 1) -> Path:
    """A BERT of two layers with random weights and a head, over the tokenizer of the small project's model."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    write_model(directory)
    config = BertConfig.from_pretrained(directory, num_labels=outputs, dropout=0.0)
    torch.manual_seed(seed)
    network = BertForSequenceClassification(config)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.5)  # scores that differ visibly
    network.save_pretrained(directory)
    return directory


class FakePairScorer:
    """Implements PairScorer with a given score per passage text, 0 where none is given; `calls` records every pair."""

    def __init__(self, scores: dict[str, float], *, fingerprint: str = "f" * 64) -> None:
        self.scores = scores
        self.fingerprint = fingerprint
        self.calls: list[TextPair] = []

    def score(self, pairs: Sequence[TextPair]) -> np.ndarray:
        """See PairScorer."""
        self.calls += pairs
        return np.array([self.scores.get(pair.passage, 0.0) for pair in pairs], dtype=np.float32)
