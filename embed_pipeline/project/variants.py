"""A variant of a data set: one row of the comparison, with the variants that it stands on.

Belongs here: what a variant searches with and what was trained for it. Does not belong here: which variants a recipe's
names mean (joining.py), where the folders lie (project.py).
"""

from dataclasses import dataclass
from typing import Literal

from embed_pipeline.encoding.any_settings import AnyEncoderSettings
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.project.recipes import Recipe

WeightsAsset = Literal["finetuned_checkpoint", "merged_checkpoint", "adapter", "word_vectors"]


@dataclass(frozen=True)
class Variant:
    """One row of the comparison: a data set and a recipe. Its partition key is `dataset/name`."""

    dataset: str
    name: str
    recipe: Recipe
    dense_part: "Variant | None" = None
    """fused, hybrid: the variant whose encoder and weights it uses."""
    mining_source: "Variant | None" = None
    """mining.weights: the variant whose fine-tuned weights mine the negatives."""
    tuned: tuple["Variant", ...] = ()
    """merge.of: the variants whose weights are mixed with their base's."""
    adapted: "Variant | None" = None
    """adaptation.of: the variant behind whose encoder the adaptation is put."""
    first_stage: "Variant | None" = None
    """rerank.of: the variant whose hits are ordered anew."""

    @property
    def key(self) -> str:
        return f"{self.dataset}/{self.name}"

    @property
    def trains(self) -> bool:
        return self.recipe.training is not None

    @property
    def trains_reranker(self) -> bool:
        """Whether its second stage was fine-tuned."""
        return self.recipe.rerank is not None and self.recipe.rerank.training is not None

    @property
    def encoding_variant(self) -> "Variant":
        """The variant whose encoder this one searches with: itself, its dense part, or its first stage's."""
        if self.first_stage is not None:
            return self.first_stage.encoding_variant
        return self.dense_part or self

    @property
    def encoder(self) -> AnyEncoderSettings | None:
        """The settings of the encoder it searches with; None for a variant without vectors of a model."""
        return self._trained_first.recipe.encoder

    @property
    def _trained_first(self) -> "Variant":
        """The variant whose training its vectors go back to: below an adaptation, of a mixture the first."""
        found = self.encoding_variant.adapted or self.encoding_variant
        return found.tuned[0] if found.tuned else found

    @property
    def local_encoder(self) -> EncoderSettings:
        """The same for an encoder whose weights are here; raises ValueError where there is none."""
        if not isinstance(self.encoder, EncoderSettings):
            raise ValueError(f"{self.key}: the recipe has no local encoder. Name one or leave this asset out.")
        return self.encoder

    @property
    def weights_asset(self) -> WeightsAsset | None:
        """The asset that was trained for the vectors it searches with, of its encoding variant; None: nothing was."""
        variant = self.encoding_variant
        if variant.trains:
            return "finetuned_checkpoint"
        if variant.tuned:
            return "merged_checkpoint"
        if variant.recipe.adaptation:
            return "adapter"
        return "word_vectors" if variant.recipe.retriever == "word2vec" else None

    @property
    def weights_are_a_model(self) -> bool:
        """Whether what was trained is a whole model, so that what searches with it does not see the base."""
        return self.weights_asset in ("finetuned_checkpoint", "merged_checkpoint")

    @property
    def is_trained(self) -> bool:
        """Whether a base was trained, mixed, adapted, weighed or given a second stage, so that there is a before."""
        later = self.first_stage or self.hybrid_variant
        return self.weights_asset not in (None, "word_vectors") or later is not None

    @property
    def is_checkpoint(self) -> bool:
        """Whether it is one local encoder and nothing else, which a user could be handed as a folder."""
        plain = self.recipe.retriever == "dense" and not self.recipe.adaptation
        return plain and isinstance(self.encoder, EncoderSettings)

    @property
    def stands_on(self) -> "tuple[Variant, ...]":
        """The other variants whose weights this one needs, in a fixed order, without theirs."""
        found = (self.dense_part, self.mining_source, *self.tuned, self.adapted, self.first_stage)
        return tuple(variant for variant in found if variant is not None)

    @property
    def hybrid_variant(self) -> "Variant | None":
        """The hybrid variant whose weighed scores this one searches with: itself or its first stage; None: neither."""
        variant = self.first_stage or self
        return variant if variant.recipe.hybrid else None

    @property
    def negatives_variant(self) -> "Variant | None":
        """The variant whose mined negatives trained the vectors it searches with; None where none did."""
        return self._trained_first if self._trained_first.trains else None
