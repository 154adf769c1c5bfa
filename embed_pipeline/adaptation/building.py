"""From a data set and an encoder to the adaptation's files, and back to an encoder made of both.

Belongs here: which queries are learnt from, which method runs, what is told about it. Does not belong here: the methods
(linear.py, nudge.py).
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from embed_pipeline.adaptation.adapter import AdaptedEncoder, read_adapter, write_adapter
from embed_pipeline.adaptation.linear import Asked, train_adapter
from embed_pipeline.adaptation.nudge import SHIFTED_FILE, ShiftedEncoder, read_shifted, shift_corpus, write_shifted
from embed_pipeline.adaptation.ranks import explain_reach
from embed_pipeline.adaptation.settings import AdaptationSettings
from embed_pipeline.adaptation.whitening import whiten
from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.encoding.encoder import Encoder
from embed_pipeline.records import Split

_LENGTH_ERROR = 0.01
"""What a lower precision takes off the length of a vector, at most."""


def build_adaptation(
    dataset: RetrievalDataset, encoder: Encoder, settings: AdaptationSettings, directory: Path
) -> dict[str, object]:
    """Learn from the train queries, choose on validation, write the files; returns the figures.

    Test queries are not looked at.

    Raises:
        ValueError: there are no train or no validation queries with a relevant passage, or passages would be moved
            whose vectors are not of length 1.
    """
    corpus = encoder.encode_passages([passage.text for passage in dataset.passages])
    train, validation = (_asked(dataset, split, encoder) for split in ("train", "validation"))
    for split, asked in (("train", train), ("validation", validation)):
        if not asked.relevant:
            raise ValueError(f"adaptation: the data set has no {split} query with a relevant passage. Add some.")
    reach = explain_reach(train.relevant, validation.relevant, passages=len(corpus))
    if settings.method == "linear":
        trained = train_adapter(
            corpus, train=train, validation=validation, settings=settings, encoder_fingerprint=encoder.fingerprint
        )
        write_adapter(trained.adapter, directory)
        best = trained.passes[trained.best_pass]
        return {
            "method": settings.method,
            "best_pass": best.number,
            "validation_before": round(trained.passes[0].validation_mrr_at_10, 4),
            "validation_after": round(best.validation_mrr_at_10, 4),
            "explanation": f"MRR@10 of {reach.queries} validation queries; {reach.explanation}",
            "passes": [asdict(one) for one in trained.passes],
        }
    if settings.method == "whiten":
        whitened = whiten(
            corpus,
            train.vectors,
            validation=validation,
            powers=settings.powers,
            encoder_fingerprint=encoder.fingerprint,
        )
        write_adapter(whitened.adapter, directory)
        values = {one.power: one.validation_mrr_at_10 for one in whitened.tried}
        return {
            "method": settings.method,
            "power": whitened.power,
            "validation_before": round(values[0], 4),
            "validation_after": round(values[whitened.power], 4),
            "explanation": f"MRR@10 of {len(validation.relevant)} validation queries: {values[0]:.4f} as it was, "
            + (
                f"{values[whitened.power]:.4f} with power {whitened.power:g}"
                if whitened.power
                else f"at best {max(values.values()):.4f}, no proven gain: nothing is changed"
            ),
            "passes": [asdict(one) for one in whitened.tried],
        }
    _check_lengths(corpus, settings.method)
    shifted = shift_corpus(
        corpus,
        variant=settings.method,
        train_queries=train.vectors,
        train_relevant=train.relevant,
        validation_queries=validation.vectors,
        validation_relevant=validation.relevant,
    )
    moved = sorted({row for rows in train.relevant for row in rows}) if shifted.gamma else []
    texts = list(dict.fromkeys(dataset.passages[row].text for row in moved))
    row_of = {passage.text: row for row, passage in enumerate(dataset.passages)}
    write_shifted(texts, shifted.vectors[[row_of[text] for text in texts]], encoder.fingerprint, directory)
    return {
        "method": settings.method,
        "gamma": shifted.gamma,
        "moved_passages": len(texts),
        "validation_before": round(shifted.validation_before, 4),
        "validation_after": round(shifted.validation_after, 4),
        "explanation": shifted.explanation,
    }


def read_adapted(encoder: Encoder, directory: Path) -> AdaptedEncoder | ShiftedEncoder:
    """The encoder with what the directory holds behind it: an adapter or moved vectors.

    Raises:
        ValueError: the directory holds neither, or it was made for another encoder.
    """
    if (directory / SHIFTED_FILE).is_file():
        return read_shifted(encoder, directory)
    return AdaptedEncoder(encoder, read_adapter(directory))


def _check_lengths(corpus: np.ndarray, method: str) -> None:
    """Moved vectors are of about length 1 and lie among the others, which are as long as the encoder makes them."""
    lengths = np.linalg.norm(corpus, axis=1)
    if (np.abs(lengths[lengths > 0] - 1) > _LENGTH_ERROR).any():
        raise ValueError(
            f"adaptation: {method} needs passage vectors of length 1, found lengths from {lengths.min():.3g} to "
            f"{lengths.max():.3g}. Set encoder.normalize: true, or method: linear."
        )


def _asked(dataset: RetrievalDataset, split: Split, encoder: Encoder) -> Asked:
    # Passages of equal text are one answer: all their rows count.
    rows_of: dict[str, list[int]] = {}
    for row, passage in enumerate(dataset.passages):
        rows_of.setdefault(passage.text, []).append(row)
    text_of = {passage.id: passage.text for passage in dataset.passages}
    relevant = {
        query: sorted({row for passage, grade in grades.items() if grade > 0 for row in rows_of[text_of[passage]]})
        for query, grades in dataset.relevant().items()
    }
    queries = [query for query in dataset.queries_of(split) if relevant.get(query.id)]
    return Asked(encoder.encode_queries([query.text for query in queries]), [relevant[query.id] for query in queries])
