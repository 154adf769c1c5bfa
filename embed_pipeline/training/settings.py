"""The settings of training, as a recipe states them.

Belongs here: fields, of the validation on the way too, their defaults, and which of them contradict each other. Does
not belong here: the recipe file (recipes.py), lengths, pooling and instructions (the encoder's settings), where
training runs (a resource).
"""

import re
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_EVERY = r"^\d+(\.\d+)? (steps|epochs)$"
_MEASURE = r"^(precise|hit_rate|recall|mrr|ndcg)@[1-9]\d*$"


class ValidationSettings(BaseModel):
    """Retrieval on the validation queries during training; its best step becomes the checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every: str = Field("0.25 epochs", pattern=_EVERY, description="How often: `200 steps` or `0.25 epochs`.")
    measure: str = Field("ndcg@10", pattern=_MEASURE, description="What is measured, as `ndcg@10` or `hit_rate@1`.")
    patience: int | None = Field(
        None, ge=1, description="Stop after so many evaluations without a new best; left out: train to the end."
    )
    max_queries: int = Field(1000, ge=1, description="A larger validation split is sampled, with the seed.")
    max_passages: int = Field(
        20_000, ge=1, description="A larger corpus is sampled, with the seed; all relevant passages stay."
    )
    stop_below_base: int | None = Field(
        5, ge=1, description="Stop with an error after so many evaluations in a row below the base; null: never."
    )

    def interval(self, steps_per_epoch: float) -> int:
        """Steps between two evaluations, at least 1."""
        number, unit = re.split(" ", self.every)
        return max(1, round(float(number) * (steps_per_epoch if unit == "epochs" else 1)))


Candidates = Literal["auto", "in_batch", "mined", "sample", "corpus", "flagembedding"]


class VocabularyExtension(BaseModel):
    """When and how characters that the tokenizer does not know become tokens of their own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unknown_limit: float = Field(
        0.02, ge=0, lt=1, description="Extend only if more than this share of the training characters is unknown."
    )
    min_count: int = Field(2, ge=1, description="A character must occur this often in the training texts to be added.")


class LoraSettings(BaseModel):
    """Low-rank matrices that are trained in place of the linear layers and merged into them on saving."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(16, ge=1, description="Rank of the trained matrices.")
    alpha: int = Field(32, ge=1, description="The update is scaled by alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the trained matrices.")


class TrainingSettings(BaseModel):
    """How an encoder is fine-tuned. Lengths, pooling and instructions stand in the encoder's settings, once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidates: Candidates = Field(
        "auto",
        description="What a query is contrasted with. in_batch: the positives of its batch; mined: and the batch's "
        "mined negatives; sample: and a seeded draw from the corpus; corpus: every passage; flagembedding: the plain "
        "loss of that library; auto: corpus where it is small, else mined, else sample (docs/adr/0013).",
    )
    train_group_size: int = Field(
        8, ge=2, description="mined, sample: passages that a query brings along, positives first, then mined negatives."
    )
    positives_per_query: int = Field(
        4, ge=1, description="At most so many positives of a query are drawn into a step; corpus: all of them."
    )
    sample_size: int = Field(128, ge=1, description="sample: passages of the corpus that all queries of a step share.")
    learning_rate: float = Field(gt=0, description="Peak learning rate of AdamW.")
    layer_learning_rate_decay: float = Field(
        1.0, gt=0, le=1, description="The learning rate of a layer is this times that of the layer above it."
    )
    embedding_learning_rate_factor: float = Field(
        1.0,
        gt=0,
        description="The learning rate of the word embeddings is so many times what it would be. On a few hundred rows "
        "5 and 10 lost quality.",
    )
    epochs: float = Field(gt=0, description="Passes over the training queries.")
    max_queries: int | None = Field(
        None,
        ge=1,
        description="Train on at most so many of the train queries, drawn by the seed; most of them "
        "stay drawn when others come. Left out: all.",
    )
    batch_size: int = Field(32, ge=1, description="Queries per step and process.")
    gradient_accumulation_steps: int = Field(1, ge=1, description="Steps whose gradients are summed before an update.")
    warmup_share: float = Field(0.1, ge=0, lt=1, description="Share of the steps over which the learning rate rises.")
    scheduler: Literal["linear", "cosine", "constant"] = Field("linear", description="Learning rate after warm-up.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay.")
    max_gradient_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    temperature: float = Field(0.02, gt=0, description="Similarities are divided by this before the softmax.")
    negatives_cross_device: bool | None = Field(
        None,
        description="Whether the other processes' passages are candidates too, so that only the product of batch size "
        "and processes counts. Left out: yes, with flagembedding no.",
    )
    sub_batch_size: int | None = Field(None, ge=1, description="At most so many texts are encoded at once in a step.")
    gradient_cache: bool = Field(
        False,
        description="Keep vectors instead of activations and encode each sub-batch a second time in the backward pass: "
        "memory of one sub-batch, the same gradients, 1.3 to 1.6 times the time.",
    )
    gradient_checkpointing: bool = Field(False, description="Recompute activations in the backward pass.")
    freeze_position_embeddings: bool = Field(False, description="Keep the position embeddings as they are.")
    freeze_embeddings: bool = Field(False, description="Keep all embeddings as they are.")
    freeze_layers: int = Field(
        0,
        ge=0,
        description="Keep so many of the first layers as they are. With freeze_embeddings their output is "
        "computed once per text and kept, so that each step costs the layers above alone.",
    )
    lora: LoraSettings | None = Field(None, description="Train low-rank matrices instead of the weights.")
    matryoshka_dimensions: tuple[int, ...] = Field(
        (), description="Lengths that a vector may be cut to, each trained beside the full one."
    )
    matryoshka_weights: tuple[float, ...] | None = Field(
        None, description="Weight of the loss at each of these lengths; the full one has 1. Left out: all 1."
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Arithmetic of the forward pass. auto: bfloat16 where the device has it, else float32. float32 "
        "repeats to the byte on one machine; the others do not everywhere, there the fingerprint and not the digest "
        "decides what is built again. bfloat16 is refused where a processor would emulate it; float16 needs a GPU.",
    )
    deepspeed: Mapping[str, object] | None = Field(None, description="DeepSpeed configuration, in line.")
    knowledge_distillation: Literal["kl_div", "m3_kd_loss"] | None = Field(
        None,
        description="Learn from the scores in the groups: kl_div beside the contrastive loss, m3_kd_loss in its place.",
    )
    teacher_temperature: float = Field(
        1.0, gt=0, description="The teacher's scores are divided by this before their softmax."
    )
    vocabulary_extension: VocabularyExtension | None = Field(
        None, description="Add characters the base tokenizer maps to unknown; left out, the vocabulary stays."
    )
    validation: ValidationSettings | None = Field(
        None, description="Measure the model during training and keep its best step; left out: the last step is kept."
    )
    group_by_length: bool = Field(True, description="Batches of queries of similar length, less padding.")
    seed: int = Field(0, ge=0, description="Seed of weights, order, draws and dropout.")

    @model_validator(mode="after")
    def _refuse_settings_without_effect(self) -> Self:
        if self.candidates == "corpus" and self.negatives_cross_device:
            raise ValueError(
                "negatives_cross_device has no effect with candidates: corpus (every process already sees every "
                "passage); remove it or set candidates: in_batch"
            )
        if self.gradient_cache and self.sub_batch_size is None:
            raise ValueError("gradient_cache needs a sub_batch_size; add it (32 is a start)")
        if self.freeze_embeddings and self.embedding_learning_rate_factor != 1:
            raise ValueError(
                "embedding_learning_rate_factor has no effect with freeze_embeddings: true; remove one of them"
            )
        if self.vocabulary_extension and self.freeze_embeddings:
            raise ValueError("freeze_embeddings would leave the added tokens untrained; remove vocabulary_extension")
        return self

    @model_validator(mode="after")
    def _refuse_unfit_dimensions(self) -> Self:
        dimensions, weights = self.matryoshka_dimensions, self.matryoshka_weights
        if any(dimension < 1 for dimension in dimensions) or len(set(dimensions)) != len(dimensions):
            raise ValueError(f"matryoshka_dimensions: expected different lengths of 1 or more, found {dimensions}")
        if weights is not None and (len(weights) != len(dimensions) or any(weight <= 0 for weight in weights)):
            raise ValueError(
                f"matryoshka_weights: expected {len(dimensions)} weights above 0, one per dimension, found {weights}"
            )
        return self

    @model_validator(mode="after")
    def _refuse_what_flagembedding_lacks(self) -> Self:
        if self.candidates != "flagembedding":
            return self
        defaults = type(self).model_fields
        rates = ("layer_learning_rate_decay", "embedding_learning_rate_factor")
        names = ("lora", "gradient_cache", "freeze_embeddings", "freeze_layers")
        lacking = [
            name
            for name in (*rates, *names, "matryoshka_weights", "teacher_temperature")
            if getattr(self, name) != defaults[name].default
        ]
        if lacking:
            raise ValueError(
                f"{', '.join(lacking)}: not known to candidates: flagembedding; remove it or set candidates: mined"
            )
        return self
