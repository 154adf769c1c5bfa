"""Checks of the stage `evaluation`: does the encoder see the texts it is measured on; did training cost more elsewhere
than allowed?
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import dagster as dg

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.defs.checks.outcome import CheckOutcome
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.tokens import count_truncated, count_unknown
from embed_pipeline.evaluation.comparison import Comparison
from embed_pipeline.evaluation.measures import Measure
from embed_pipeline.project.variants import Variant
from embed_pipeline.records import EVALUATED_SPLIT

# What is cut off is not searched: one text in twenty already moves a recall by up to five points.
TRUNCATED_LIMIT = 0.05
UNKNOWN_LIMIT = 0.05

SPECS = [
    dg.AssetCheckSpec(
        "queries_fit_query_max_length",
        asset="query_metrics",
        description=f"At most {TRUNCATED_LIMIT:.0%} of the test queries are longer than query_max_length tokens.",
    ),
    dg.AssetCheckSpec(
        "passages_fit_passage_max_length",
        asset="query_metrics",
        description=f"At most {TRUNCATED_LIMIT:.0%} of the passages are longer than passage_max_length tokens.",
    ),
    dg.AssetCheckSpec(
        "characters_are_known_to_the_tokenizer",
        asset="query_metrics",
        description=f"At most {UNKNOWN_LIMIT:.0%} of the test queries' characters are unknown to the tokenizer.",
    ),
]


def check_tokens(variant: Variant, dataset: RetrievalDataset, directory: Path | None) -> list[CheckOutcome]:
    """Share of test queries cut off, share of passages, and share of the queries' characters that are unknown.

    Where no tokenizer is at hand (words, n-grams, hosted encoders) both pass and say so.
    """
    settings = variant.encoder
    if not isinstance(settings, EncoderSettings):
        retriever = (variant.first_stage or variant).recipe.retriever
        note = "the tokenizer is the service's own" if settings else f"{retriever} has no tokenizer"
        return [
            CheckOutcome(name=spec.name, passed=True, figures={"note": note}, remedy="none needed") for spec in SPECS
        ]
    texts = [query.text for query in dataset.queries_of(EVALUATED_SPLIT)]
    truncated = count_truncated(settings, "query", texts, directory=directory)
    passages = [passage.text for passage in dataset.passages]
    cut = count_truncated(settings, "passage", passages, directory=directory)
    unknown = count_unknown(settings, texts, directory=directory)
    return [
        CheckOutcome(
            name="queries_fit_query_max_length",
            passed=truncated.share <= TRUNCATED_LIMIT,
            figures={
                "share_truncated": round(truncated.share, 4),
                "truncated": truncated.count,
                "queries": truncated.total,
                "limit": TRUNCATED_LIMIT,
            },
            remedy="Raise query_max_length in the recipe.",
        ),
        CheckOutcome(
            name="passages_fit_passage_max_length",
            passed=cut.share <= TRUNCATED_LIMIT,
            figures={
                "share_truncated": round(cut.share, 4),
                "truncated": cut.count,
                "passages": cut.total,
                "limit": TRUNCATED_LIMIT,
            },
            remedy="Raise passage_max_length in the recipe, or cut the passages into shorter ones.",
        ),
        CheckOutcome(
            name="characters_are_known_to_the_tokenizer",
            passed=unknown.share <= UNKNOWN_LIMIT,
            figures={
                "share_unknown": round(unknown.share, 4),
                "unknown": unknown.count,
                "characters": unknown.total,
                "limit": UNKNOWN_LIMIT,
            },
            remedy="Set vocabulary_extension in the recipe, or name a base encoder made for this language.",
        ),
    ]


FORGETTING = Measure("ndcg", 10)

GENERAL_SPECS = [
    dg.AssetCheckSpec(
        "general_quality_is_kept",
        asset="general_metrics",
        description=f"On no general suite is {FORGETTING} lower than before training, or without an untrained second "
        "stage, by more than general_loss_limit.",
    )
]


def check_forgetting(
    losses: Mapping[str, Sequence[Comparison]], limit: float, *, trained: bool = True
) -> list[CheckOutcome]:
    """The loss on each suite against the base model, with its interval; without a base there is nothing to lose.

    `trained`: whether training made the difference, else an untrained second stage did.
    """
    found = {
        suite: next(comparison for comparison in comparisons if comparison.measure == FORGETTING)
        for suite, comparisons in losses.items()
    }
    told = {suite: f"{100 * c.difference:+.1f} [{100 * c.low:+.1f}, {100 * c.high:+.1f}]" for suite, c in found.items()}
    return [
        CheckOutcome(
            name="general_quality_is_kept",
            passed=all(comparison.difference >= -limit for comparison in found.values()),
            figures={**(told or {"note": "nothing was trained"}), "measure": str(FORGETTING), "limit": limit},
            remedy=(
                "Train fewer epochs or with a lower learning rate, mix in general pairs"
                if trained
                else "Name another cross-encoder as rerank.model, or do without the second stage"
            )
            + ", or accept the loss: raise general_loss_limit in dataset.yaml.",
        )
    ]
