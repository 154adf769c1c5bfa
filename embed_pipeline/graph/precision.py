"""What `precision: auto` and `dtype: auto` come to in a plan, and what of it a stored artifact was built with.

Belongs here: resolving settings, keeping what is stored, refusing what would be emulated. Does not belong here: what a
processor has (encoding/precision.py). Why it is so: docs/adr/0021-precision-follows-the-processor.md.
"""

from collections.abc import Mapping

from embed_pipeline.artifacts.digests import JSON
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.precision import AUTO, AUTO_PRECISIONS, NativePrecision, Precision, refuse_emulated
from embed_pipeline.project.project import Project
from embed_pipeline.project.variants import Variant

_AUTO_BFLOAT16 = "bfloat16 (auto)"
"""An encoder's bfloat16 where the recipe says auto: queries in float32 may then search its vectors."""

_STORED = {
    ("training", "precision"): {name: name for name in AUTO_PRECISIONS},
    ("encoder", "dtype"): {"float32": "float32", "bfloat16": _AUTO_BFLOAT16},
}
"""The settings that may say auto, by section and field, and how what it came to is written into a plan."""

_BUILT_IN = {"mined_negatives", "finetuned_checkpoint"}
"""What is built on the way to a training: refused with it, so that nothing is encoded for a training that cannot be."""


def resolve_settings(asked: Mapping[str, JSON], native: Precision, stored: Mapping[str, JSON] | None = None) -> dict:
    """The settings with every auto replaced: by what `stored` settings have there if auto may come to it, else native.

    A stored float32 or bfloat16 is kept where the recipe says auto: either is right, and what is built need not be
    built again because another machine looks at it.
    """
    return {name: _resolved(value, ("", name), native, (stored or {}).get(name)) for name, value in asked.items()}


def precision_of(settings: Mapping[str, JSON]) -> str | None:
    """The arithmetic that a plan or a manifest states: of its training, else of its encoder; None where it has none."""
    for section, field in _STORED:
        found = settings.get(section)
        if isinstance(found, Mapping) and isinstance(found.get(field), str):
            return str(found[field]).removesuffix(" (auto)")
    return None


def refuse_emulated_variant(
    project: Project, variant: Variant, asset: str, native: NativePrecision, *, device: str
) -> None:
    """Raises ValueError where building a variant's asset would emulate a bfloat16 that its recipe asks for by name."""
    recipe = variant.recipe
    asked = {}
    if isinstance(variant.encoder, EncoderSettings):
        asked["encoder.dtype"] = variant.encoder.dtype
    if asset == "mined_negatives" and recipe.mining and recipe.mining.scorer:
        scorer = recipe.mining.scorer.encoder
        asked["mining.scorer.encoder.dtype"] = scorer.dtype if isinstance(scorer, EncoderSettings) else ""
    if asset in _BUILT_IN and recipe.training_settings:
        asked["training.precision"] = recipe.training_settings.precision
    for field, value in asked.items():
        place = f"{project.data / 'recipes' / variant.name}.yaml, {field}"
        refuse_emulated(value, native, device=device, place=place)


def _resolved(value: JSON, path: tuple[str, str], native: Precision, stored: object) -> JSON:
    if isinstance(value, Mapping):
        kept = stored if isinstance(stored, Mapping) else {}
        return {name: _resolved(item, (path[1], name), native, kept.get(name)) for name, item in value.items()}
    written = _STORED.get(path)
    if written is None or value != AUTO:
        return value
    return stored if isinstance(stored, str) and stored in written.values() else written[native]
