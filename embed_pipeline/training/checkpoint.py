"""Whether what training saves can be what evaluation loads.

Belongs here: what a base must be like to be trained. Does not belong here: the files beside the saved weights
(encoding/description.py).
"""

from pathlib import Path

from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.layout import read_layout

TRAINABLE_POOLINGS = ("cls", "mean", "last_token")


def check_trainable(directory: Path, settings: EncoderSettings) -> None:
    """Guarantees that the trainer computes the vectors that evaluation will compute; raises ValueError otherwise."""
    heads = [head.directory.name for head in read_layout(directory).heads]
    if heads:
        raise ValueError(
            f"{directory}: the model ends in {', '.join(heads)}, and the trainer would train it without. Train another "
            "base, or use the model zero-shot."
        )
    if settings.pooling not in TRAINABLE_POOLINGS:
        raise ValueError(
            f"{directory}: expected pooling of {', '.join(TRAINABLE_POOLINGS)} for training, found {settings.pooling}. "
            "Train another base, or use the model zero-shot."
        )
