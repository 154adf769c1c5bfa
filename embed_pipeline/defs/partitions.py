"""Partition keys and how they map. A new folder in data/ or a new variant in its dataset.yaml is a new key."""

from dataclasses import dataclass

import dagster as dg

from embed_pipeline.defs.project import Project


@dataclass(frozen=True)
class Partitions:
    """The three partition sets and the mappings between them.

    datasets: `disease`. variants: `disease/minilm`. trained: the variants that are fine-tuned.
    """

    datasets: dg.StaticPartitionsDefinition
    variants: dg.StaticPartitionsDefinition
    trained: dg.StaticPartitionsDefinition
    dataset_to_variants: dg.StaticPartitionMapping
    dataset_to_trained: dg.StaticPartitionMapping
    trained_to_variants: dg.StaticPartitionMapping


def define_partitions(project: Project) -> Partitions:
    """The partitions of a project as its data folder stands now."""
    variants = tuple(project.variants.values())
    trained = [variant.key for variant in variants if variant.trains]
    return Partitions(
        datasets=dg.StaticPartitionsDefinition(list(project.datasets)),
        variants=dg.StaticPartitionsDefinition([variant.key for variant in variants]),
        trained=dg.StaticPartitionsDefinition(trained),
        dataset_to_variants=dg.StaticPartitionMapping(
            {name: {variant.key for variant in project.variants_of(name)} for name in project.datasets}
        ),
        dataset_to_trained=dg.StaticPartitionMapping(
            {name: {v.key for v in project.variants_of(name) if v.trains} for name in project.datasets}
        ),
        trained_to_variants=dg.StaticPartitionMapping({key: {key} for key in trained}),
    )
