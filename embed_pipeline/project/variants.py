"""The variants of a data set: rows of the comparison, each joined to the variants that its recipe names.

Belongs here: what a variant searches with, what was trained for it, what a recipe's names of other variants mean and
which of them fit. Does not belong here: reading recipes (recipes.py), where the folders lie (project.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
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


Find = Callable[[str, str, str, Callable[[Recipe], bool]], Variant]
"""A variant by its name, the field that names it, what is expected of it in words, and whether a recipe fits."""


def join_variants(dataset: str, own: Mapping[str, Recipe], recipes: Path) -> dict[str, Variant]:
    """The variants of one data set with those they stand on; `recipes` is the folder, for errors.

    Raises:
        ValueError: a recipe names a variant that does not exist or does not fit, or two wait for each other.
    """
    joined: dict[str, Variant] = {}

    def join(name: str, waiting: tuple[str, ...]) -> Variant:
        if name not in joined:
            joined[name] = _join(dataset, name, own, recipes, lambda other: join(other, (*waiting, name)), waiting)
        return joined[name]

    return {name: join(name, ()) for name in own}


def sources_first(variants: Mapping[str, Variant]) -> tuple[Variant, ...]:
    """The variants in their order, but each after those it stands on."""
    ordered: dict[str, Variant] = {}

    def add(variant: Variant) -> None:
        for source in variant.stands_on:  # it ends: circles are refused
            add(variants[source.key])
        ordered.setdefault(variant.key, variant)

    for variant in variants.values():
        add(variant)
    return tuple(ordered.values())


def _join(
    dataset: str,
    name: str,
    own: Mapping[str, Recipe],
    recipes: Path,
    join: Callable[[str], Variant],
    waiting: tuple[str, ...],
) -> Variant:
    recipe, file = own[name], f"{recipes / name}.yaml"

    def other(wanted: str, field: str, expected: str, fits: Callable[[Recipe], bool]) -> Variant:
        if wanted in own and wanted in (name, *waiting) and fits(own[wanted]):
            chain = " → ".join((*waiting, name, wanted))
            raise ValueError(
                f"{file}, {field}: each variant would wait for the other's weights: {chain}. Let the first of them "
                "stand on its base: remove the field there."
            )
        if wanted not in own or not fits(own[wanted]):
            fitting = ", ".join(key for key, found in own.items() if key != name and fits(found)) or "none"
            raise ValueError(
                f"{file}, {field}: expected {expected} of {dataset} ({fitting}), found {wanted!r}. Add it to the data "
                "set's variants or correct the name."
            )
        return join(wanted)

    tuned = ()
    if recipe.merge:
        tuned = tuple(other(one, "merge.of", "a fine-tuned variant", _trains) for one in recipe.merge.of)
        _check_one_base(tuned, f"{file}, merge.of")
    return Variant(
        dataset,
        name,
        recipe,
        dense_part=_dense_part(recipe, other),
        mining_source=other(recipe.mining.weights, "mining.weights", "a fine-tuned variant", _trains)
        if recipe.mining and recipe.mining.weights
        else None,
        tuned=tuned,
        adapted=other(recipe.adaptation.of, "adaptation.of", "a dense variant without adaptation", _is_model)
        if recipe.adaptation and recipe.adaptation.of
        else None,
        first_stage=_first_stage(recipe, other, file),
    )


def _dense_part(recipe: Recipe, other: Find) -> Variant | None:
    for field, section in (("fusion.dense", recipe.fusion), ("hybrid.dense", recipe.hybrid)):
        if section:
            return other(section.dense, field, "a dense variant", _is_dense)
    return None


def _first_stage(recipe: Recipe, other: Find, file: str) -> Variant | None:
    if recipe.rerank is None:
        return None
    if recipe.rerank.training is None:
        return other(recipe.rerank.of, "rerank.of", "a variant of one stage", _has_one_stage)
    found = other(recipe.rerank.of, "rerank.of", "a variant with fine-tuned weights", _may_have_negatives)
    return _check_negatives(found, file)


def _trains(recipe: Recipe) -> bool:
    return recipe.training is not None


def _is_dense(recipe: Recipe) -> bool:
    return recipe.retriever == "dense"


def _is_model(recipe: Recipe) -> bool:
    return _is_dense(recipe) and recipe.adaptation is None


def _has_one_stage(recipe: Recipe) -> bool:
    return recipe.rerank is None


def _may_have_negatives(recipe: Recipe) -> bool:
    return bool(recipe.training or recipe.merge or recipe.fusion or recipe.hybrid or recipe.adaptation)


def _check_negatives(first_stage: Variant, file: str) -> Variant:
    if first_stage.negatives_variant is None:
        raise ValueError(
            f"{file}, rerank.of: expected a variant with fine-tuned weights, found {first_stage.name}, whose dense "
            "part was not trained: there are no mined negatives to learn from. Name another."
        )
    mining = first_stage.negatives_variant.recipe.mining
    if mining is None or mining.number == 0:  # auto mines nothing
        raise ValueError(
            f"{file}, rerank.of: expected a variant with mined negatives to learn from, found {first_stage.name}, "
            f"whose recipe {first_stage.negatives_variant.name} has mining.number: 0. Raise it there, or name another."
        )
    return first_stage


def _check_one_base(tuned: tuple[Variant, ...], place: str) -> None:
    different = next((one for one in tuned if one.recipe.encoder != tuned[0].recipe.encoder), None)
    if different is not None:
        raise ValueError(
            f"{place}: expected variants with equal encoder sections, {different.name} has another than "
            f"{tuned[0].name}. Mix variants of one base, pooling and lengths."
        )
