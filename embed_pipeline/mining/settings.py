"""What a hard negative is: the settings of mining and nothing else."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from embed_pipeline.encoding.any_settings import AnyEncoderSettings
from embed_pipeline.encoding.cross_encoder import CrossEncoderSettings

Rank = Annotated[int, Field(strict=True, ge=0)]
Share = Annotated[float, Field(strict=True, gt=0, lt=1)]
Miner = Literal["dense", "bm25"]


class ScorerSettings(BaseModel):
    """Another encoder that judges instead of the base."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: AnyEncoderSettings = Field(description="A stronger encoder, local or hosted, as in the encoder section.")


class MiningRerankerSettings(CrossEncoderSettings):
    """The cross-encoder that scores positives and candidates anew."""

    activation: Literal["sigmoid", "none"] = Field(
        "sigmoid",
        description="What the margins and the groups see: a probability, for which a share of the positive's score "
        "means something, or the plain output.",
    )


class ReplaySettings(BaseModel):
    """Pairs of another data set that are trained on as well, so that less of what the base knew is forgotten."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str = Field(min_length=1, description="Another data set of the project, whose train queries are replayed.")
    share: float = Field(default=0.2, gt=0, description="Replayed queries per own train query.")


class MiningSettings(BaseModel):
    """Which of the passages nearest to a query become its hard negatives.

    Ranks count the passages that are not positives of the query, nearest first; equal texts count once. A rank is a
    whole number, or a fraction between 0 and 1: a share of the corpus, rounded. Margins hold against the scores of the
    reranker where there is one, else of the encoder that searched.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    range_start: Rank | Share = Field(
        default=0, description="Nearest non-positives to skip: a count, or a share (0, 1)."
    )
    range_end: Rank | Share = Field(
        default=50, description="Last rank taken: a count, or a share (0, 1). Beyond the corpus it means all of it."
    )
    number: int = Field(
        default=7,
        ge=0,
        description="Negatives per query; a query with fewer candidates gets fewer. 0: nothing is encoded or searched, "
        "for candidates that need no mined negatives.",
    )
    margin_absolute: float | None = Field(
        default=None, ge=0, description="A negative scores at most the weakest positive's score minus this."
    )
    margin_relative: float | None = Field(
        default=0.95,
        gt=0,
        le=1,
        description="A negative scores at most this share of the weakest positive's score (NV-Retriever's 95 %).",
    )
    sampling: Literal["top", "random"] = Field(
        default="top", description="The nearest candidates in the range, or a seeded draw from it."
    )
    seed: int = Field(default=0, ge=0, description="Seed of random sampling and of the random passages in the report.")
    miners: tuple[Miner, ...] = Field(
        default=("dense",),
        min_length=1,
        description="Who finds candidates, each by its own ranks. Several take turns, best first; a passage counts for "
        "all that found it.",
    )
    scorer: ScorerSettings | None = Field(
        default=None, description="Search and score with a stronger encoder. Left out: with the base."
    )
    weights: str | None = Field(
        default=None,
        min_length=1,
        description="Search and score with the fine-tuned weights of another variant of the data set: a second round.",
    )
    reranker: MiningRerankerSettings | None = Field(
        default=None, description="A cross-encoder that scores positives and candidates anew; margins see its scores."
    )

    replay: ReplaySettings | None = Field(
        default=None, description="Pairs of another data set that are trained on as well."
    )

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        alike = isinstance(self.range_start, int) == isinstance(self.range_end, int)
        if self.range_end == 0 or (alike and self.range_start >= self.range_end):
            raise ValueError(
                f"range_end must be greater than range_start, found {self.range_start} to {self.range_end}; "
                "widen the range"
            )
        return self

    @model_validator(mode="after")
    def _check_who_mines(self) -> Self:
        if len(set(self.miners)) < len(self.miners):
            raise ValueError(f"miners must name each miner once, found {', '.join(self.miners)}")
        if self.scorer and self.weights:
            raise ValueError("scorer and weights both name the encoder that mines; keep one of them")
        without_effect = [name for name in ("scorer", "weights", "reranker") if getattr(self, name)]
        if self.number == 0 and without_effect:
            raise ValueError(f"{', '.join(without_effect)}: of no effect with number: 0; remove it or mine negatives")
        return self

    def ranks(self, corpus_size: int) -> range:
        """The ranks, from 0, that candidates are taken from in a corpus of `corpus_size` different texts.

        Raises:
            ValueError: a range of a count and a share is empty for this corpus.
        """
        start, end = (
            bound if isinstance(bound, int) else round(bound * corpus_size)
            for bound in (self.range_start, self.range_end)
        )
        if start >= end:
            raise ValueError(
                f"mining range {self.range_start} to {self.range_end} is ranks {start} to {end} in a corpus of "
                f"{corpus_size} passages: empty. Widen it."
            )
        return range(start, min(end, corpus_size))

    def highest_score(self, weakest_positive: float) -> float:
        """The score that a negative may not exceed; infinite without margins, below a positive < 0 too."""
        bounds = [float("inf")]
        if self.margin_absolute is not None:
            bounds.append(weakest_positive - self.margin_absolute)
        if self.margin_relative is not None:
            bounds.append(weakest_positive - (1 - self.margin_relative) * abs(weakest_positive))
        return min(bounds)
