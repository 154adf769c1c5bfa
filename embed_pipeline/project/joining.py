"""The variants of a data set, each joined to those that its recipe names.

Belongs here: what a recipe's names of other variants mean, and which of them fit. Does not belong here: reading recipes
(recipes.py), what a joined variant searches with (variants.py).
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from embed_pipeline.project.recipes import Recipe
from embed_pipeline.project.variants import Variant

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
