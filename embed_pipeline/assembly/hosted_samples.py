"""Hosted models that change behind an unchanged name: what each night's sample of them found.

Belongs here: which models and texts are asked, the file of what was found, which variants it concerns. Does not belong
here: the comparison (encoding.hosted_sample), telling people (alerts, checks).
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from embed_pipeline.dataset.formats import read_dataset
from embed_pipeline.encoding.hosted import HostedEncoder
from embed_pipeline.encoding.hosted_sample import compare_sample
from embed_pipeline.encoding.vector_cache import VectorCache
from embed_pipeline.graph.graph import VECTORS_FOLDER, Graph
from embed_pipeline.graph.topology import Node
from embed_pipeline.project.variants import Variant

SAMPLES_FILE = "hosted_samples.jsonl"


class Sample(BaseModel):
    """What asking one hosted model again has shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: datetime = Field(description="When it was asked.")
    model: str = Field(description="The model's name at the service, and the service's address.")
    fingerprint: str = Field(description="Of its passage vectors, as in the vector cache.")
    state: Literal["unchanged", "changed", "not asked"] = Field(description="not asked: nothing is known; see reason.")
    texts: int = Field(default=0, description="Texts sent again.")
    lowest: float | None = Field(default=None, description="The lowest cosine of a kept vector and tonight's.")
    mean: float | None = Field(default=None, description="The mean cosine.")
    threshold: float = Field(description="Below this the model is another one.")
    cost_usd: float = Field(default=0.0, description="What asking cost.")
    reason: str = Field(default="", description="Why it could not be asked.")

    def __str__(self) -> str:
        if self.lowest is None or self.mean is None:
            return f"{self.model}: not asked: {self.reason}"
        return (
            f"{self.model}: lowest cosine {self.lowest:.6f}, mean {self.mean:.6f} over {self.texts} texts "
            f"(limit {self.threshold:g}), {self.at:%Y-%m-%d %H:%M} UTC"
        )


def sample_hosted_models(graph: Graph) -> tuple[Sample, ...]:
    """One sample per hosted model of the project of which vectors are kept; nothing is written down yet."""
    return tuple(_sample_models(graph))


def record_samples(home: Path, samples: tuple[Sample, ...]) -> None:
    """Append the samples to the file."""
    with (home / SAMPLES_FILE).open("a", encoding="utf-8") as file:
        file.writelines(sample.model_dump_json() + "\n" for sample in samples)


def newest_samples(graph: Graph) -> tuple[Sample, ...]:
    """What is known of each hosted model of the project, by its newest sample that was answered, else its newest."""
    path, found = graph.project.home / SAMPLES_FILE, {}
    if not path.is_file():
        return ()
    for line in path.read_text(encoding="utf-8").splitlines():
        sample = Sample.model_validate_json(line)
        if sample.state != "not asked" or sample.fingerprint not in found:
            found[sample.fingerprint] = sample
    present = {encoder.passage_fingerprint for encoder, _ in _hosted(graph)}
    return tuple(sample for fingerprint, sample in found.items() if fingerprint in present)


def newly_changed(graph: Graph, samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
    """Those of tonight's samples that show a change which no recorded sample has shown before."""
    known = {sample.fingerprint for sample in newest_samples(graph) if sample.state == "changed"}
    return tuple(sample for sample in samples if sample.state == "changed" and sample.fingerprint not in known)


def nodes_of_changed_models(graph: Graph) -> frozenset[Node]:
    """What must not be built: vectors of the model as it is now would stand beside vectors of what it was."""
    changed = {sample.fingerprint for sample in newest_samples(graph) if sample.state == "changed"}
    keys = {
        variant.key
        for encoder, variants in _hosted(graph)
        for variant in variants
        if encoder.passage_fingerprint in changed
    }
    return frozenset(node for node in graph.nodes() if node.partition in keys)


def _hosted(graph: Graph) -> Iterator[tuple[HostedEncoder, list[Variant]]]:
    """Each hosted encoder that variants search with, and those variants."""
    found: dict[str, tuple[HostedEncoder, list[Variant]]] = {}
    for variant in graph.project.variants.values():
        settings = variant.encoder
        encoder = graph.base_encoder(settings) if settings else None
        if isinstance(encoder, HostedEncoder):
            found.setdefault(encoder.passage_fingerprint, (encoder, []))[1].append(variant)
    yield from found.values()


def _sample_models(graph: Graph) -> Iterator[Sample]:
    cache = VectorCache(graph.project.home / VECTORS_FOLDER)
    for encoder, variants in _hosted(graph):
        settings = encoder.settings
        sample = Sample(
            at=datetime.now(UTC),
            model=f"{settings.model} at {settings.url}",
            fingerprint=encoder.passage_fingerprint,
            state="not asked",
            threshold=settings.sample_cosine,
        )
        try:
            found = compare_sample(encoder, cache, _passages(graph, variants))
        except ValueError as error:  # no key, no answer, no money left: a night goes on without it
            yield sample.model_copy(update={"reason": str(error)})
            continue
        if found is None:
            continue
        yield sample.model_copy(
            update={
                "state": "unchanged" if found.lowest >= settings.sample_cosine else "changed",
                "texts": found.texts,
                "lowest": found.lowest,
                "mean": found.mean,
                "cost_usd": found.cost_usd,
            }
        )


def _passages(graph: Graph, variants: list[Variant]) -> list[str]:
    cleaned = [graph.store.read("cleaned_qa", name) for name in dict.fromkeys(variant.dataset for variant in variants)]
    return [p.text for manifest in cleaned if manifest for p in read_dataset(graph.store.open(manifest)).passages]
