"""What is done to frozen vectors: the settings of an adaptation and nothing else."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Method = Literal["linear", "whiten", "nudge_m", "nudge_n"]
Power = Annotated[float, Field(gt=0, le=1)]


class AdaptationSettings(BaseModel):
    """How vectors are adapted to training queries while the encoder stays as it is. NUDGE itself has nothing to set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = Field(
        default="linear",
        description="linear: a matrix behind the encoder, also for passages never asked about. whiten: one that is "
        "computed from the corpus, not trained, so that no direction that all texts share decides. nudge_m, nudge_n: "
        "move the vectors of passages that have training queries; the others stay.",
    )
    of: str | None = Field(
        default=None,
        min_length=1,
        description="In place of an encoder section: the fine-tuned, mixed or zero-shot variant of the data set behind "
        "whose encoder it is put.",
    )
    powers: tuple[Power, ...] = Field(
        default=(0.1, 0.2, 0.3, 0.4, 0.5),
        min_length=1,
        description="whiten: each principal axis of the corpus is divided by its variance to this power; the best on "
        "validation is kept where its gain is proven, else nothing changes. 0.5 is full whitening.",
    )
    sides: Literal["query", "both"] = Field(
        default="query",
        description="linear: query maps queries only, the corpus keeps its vectors and its index; both maps passages "
        "by a matrix of their own.",
    )
    dimension: int | None = Field(
        default=None, ge=1, description="linear, both sides: length of the vectors afterwards; left out, as before."
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="linear: step of Adam.")
    epochs: int = Field(default=30, ge=1, description="linear: most passes over the training queries.")
    patience: int = Field(
        default=3, ge=1, description="linear: stop after this many passes without a better validation measure."
    )
    batch_size: int = Field(default=256, ge=1, description="linear: training queries per step.")
    candidates: int = Field(
        default=20_000,
        ge=2,
        description="linear: passages a query is held against: the corpus up to this size, else the true answers of "
        "the batch and a draw from the corpus per step.",
    )
    temperature: float = Field(default=0.05, gt=0, description="linear: similarities are divided by this.")
    identity_pull: float = Field(
        default=1.0, ge=0, description="linear: strength of the L2 pull towards changing nothing; 0 is none."
    )
    seed: int = Field(default=0, ge=0, description="linear: seed of the order and of the drawn passages.")

    @model_validator(mode="after")
    def _refuse_settings_without_effect(self) -> Self:
        own = sorted(self.model_fields_set - {"method", "of"})
        for name in own:
            fitting = "whiten" if name == "powers" else "linear"
            if self.method != fitting:
                raise ValueError(f"{name} has no effect with method {self.method}; remove it or set method: {fitting}")
        if self.dimension is not None and self.sides == "query":
            raise ValueError(
                f"dimension is {self.dimension} with sides: query, but queries and passages need the same length; "
                "set sides: both or remove dimension"
            )
        return self
