"""What decides which weights users take: the validation queries of the data set, and its general suite.

Belongs here: measuring a mixture or a checkpoint for the choice; test queries of the data set never count. Does not
belong here: the rule (merging/promotion.py), the figures of the table (evaluation/measuring.py).
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.dataset.sampling import sample_dataset
from embed_pipeline.encoding.encoder import Encoder, EncoderSettings
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.evaluation.measures import Measure
from embed_pipeline.evaluation.measuring import measure_split
from embed_pipeline.merging.mixing import merge_weights
from embed_pipeline.merging.promotion import MergePoint
from embed_pipeline.merging.settings import MergeSettings
from embed_pipeline.records import CHOSEN_ON, EVALUATED_SPLIT, Split
from embed_pipeline.retrieval.searching import Search

GENERAL_MEASURE = Measure("ndcg", 10)


@dataclass(frozen=True)
class Trial:
    """What checkpoints are chosen by: the target and each general suite, with its language."""

    target: RetrievalDataset
    headline: Measure
    suites: Mapping[str, tuple[RetrievalDataset, str]]

    def measure(self, search: Search, alpha: float) -> MergePoint:
        """The headline on validation, and the mean nDCG@10 of the suites' queries."""
        general = [
            self._mean(search.in_language(language), suite, EVALUATED_SPLIT, GENERAL_MEASURE)
            for suite, language in self.suites.values()
        ]
        target = self._mean(search, self.target, CHOSEN_ON, self.headline)
        return MergePoint(alpha, target, fmean(general) if general else 0.0)

    def sampled(self, settings: MergeSettings) -> "Trial":
        """The same at most as large as a sweep may be."""

        def sample(dataset: RetrievalDataset, split: Split) -> RetrievalDataset:
            limits = {"max_queries": settings.max_queries, "max_passages": settings.max_passages}
            return sample_dataset(dataset, split, **limits, seed=settings.seed)

        suites = {name: (sample(suite, EVALUATED_SPLIT), language) for name, (suite, language) in self.suites.items()}
        return replace(self, target=sample(self.target, CHOSEN_ON), suites=suites)

    @staticmethod
    def _mean(search: Search, dataset: RetrievalDataset, split: Split, measure: Measure) -> float:
        values = [found.value for found in measure_split(search, dataset, split) if found.measure == measure]
        if not values:
            raise ValueError(
                f"choosing a checkpoint needs {split} queries with a relevant passage and the measure {measure}, found "
                f"none. Give the {split} split a share."
            )
        return fmean(values)


def measure_mixtures(
    trial: Trial,
    search: Search,
    base: Path,
    tuned: Sequence[Path],
    settings: MergeSettings,
    encoder: EncoderSettings,
    cached: Callable[[Encoder], Encoder],
) -> tuple[MergePoint, ...]:
    """A point per alpha; one mixture lies on disk at a time. `search` searches with the base, which is the point at 0.

    `cached` puts the cache of vectors around an encoder: what is chosen is encoded with again when it is evaluated.
    """
    points, sampled = [], trial.sampled(settings)
    for alpha in settings.alphas:
        if alpha == 0:
            points.append(sampled.measure(search, alpha))
            continue
        with tempfile.TemporaryDirectory() as folder:
            alone = alpha == 1 and len(tuned) == 1
            mixture = tuned[0] if alone else mix(base, tuned, alpha, Path(folder) / "mixture", encoder)
            mixed = cached(load_local_encoder(encoder, device=search.device, directory=mixture))
            points.append(sampled.measure(replace(search, encoder=mixed), alpha))
    return tuple(points)


def mix(base: Path, tuned: Sequence[Path], alpha: float, output: Path, encoder: EncoderSettings) -> Path:
    """Base times 1 - alpha and the tuned models in equal shares, as a model directory."""
    share = alpha / len(tuned)
    return merge_weights((base, *tuned), (1 - alpha, *(share for _ in tuned)), output, encoder=encoder)
