"""Partition keys and how they map. A new folder in data/ or a new variant in its dataset.yaml is a new key."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import dagster as dg

from embed_pipeline.defs.project import Project, Variant


@dataclass(frozen=True)
class Partitions:
    """The partition sets and the mappings between them.

    datasets: `disease`; workbooks, pairs and documents: those of them with such raw files. variants: `disease/minilm`;
    trained: the fine-tuned ones; words: those with word vectors of their own; general: those of data sets with a
    general suite.
    """

    datasets: dg.StaticPartitionsDefinition
    workbooks: dg.StaticPartitionsDefinition
    pairs: dg.StaticPartitionsDefinition
    documents: dg.StaticPartitionsDefinition
    variants: dg.StaticPartitionsDefinition
    trained: dg.StaticPartitionsDefinition
    words: dg.StaticPartitionsDefinition
    general: dg.StaticPartitionsDefinition
    workbooks_to_datasets: dg.StaticPartitionMapping
    pairs_to_datasets: dg.StaticPartitionMapping
    documents_to_datasets: dg.StaticPartitionMapping
    dataset_to_variants: dg.StaticPartitionMapping
    dataset_to_trained: dg.StaticPartitionMapping
    dataset_to_words: dg.StaticPartitionMapping
    trained_to_variants: dg.StaticPartitionMapping
    words_to_variants: dg.StaticPartitionMapping
    suite_to_general: dg.StaticPartitionMapping
    trained_to_general: dg.StaticPartitionMapping
    words_to_general: dg.StaticPartitionMapping


def define_partitions(project: Project) -> Partitions:
    """The partitions of a project as its data folder stands now."""
    datasets, variants = list(project.datasets), tuple(project.variants.values())
    workbooks, pairs, documents = (
        [name for name in datasets if project.datasets[name].source == source]
        for source in ("workbooks", "pairs", "documents")
    )
    trained = [variant for variant in variants if variant.trains]
    words = [variant for variant in variants if variant.recipe.retriever == "word2vec"]
    general = [variant for variant in variants if project.datasets[variant.dataset].general_suite]

    def is_own(dataset: str, variant: Variant) -> bool:
        return variant.dataset == dataset

    def is_suite(dataset: str, variant: Variant) -> bool:
        return dataset in project.datasets[variant.dataset].general_suite

    def made_for(maker: str, variant: Variant) -> bool:
        return variant.encoding_variant.key == maker

    return Partitions(
        datasets=dg.StaticPartitionsDefinition(datasets),
        workbooks=dg.StaticPartitionsDefinition(workbooks),
        pairs=dg.StaticPartitionsDefinition(pairs),
        documents=dg.StaticPartitionsDefinition(documents),
        variants=dg.StaticPartitionsDefinition(_keys(variants)),
        trained=dg.StaticPartitionsDefinition(_keys(trained)),
        words=dg.StaticPartitionsDefinition(_keys(words)),
        general=dg.StaticPartitionsDefinition(_keys(general)),
        workbooks_to_datasets=dg.StaticPartitionMapping({name: {name} for name in workbooks}),
        pairs_to_datasets=dg.StaticPartitionMapping({name: {name} for name in pairs}),
        documents_to_datasets=dg.StaticPartitionMapping({name: {name} for name in documents}),
        dataset_to_variants=_map(datasets, variants, is_own),
        dataset_to_trained=_map(datasets, trained, is_own),
        dataset_to_words=_map(datasets, words, is_own),
        trained_to_variants=_map(_keys(trained), variants, made_for),
        words_to_variants=_map(_keys(words), variants, made_for),
        suite_to_general=_map(datasets, general, is_suite),
        trained_to_general=_map(_keys(trained), general, made_for),
        words_to_general=_map(_keys(words), general, made_for),
    )


def _keys(variants: Sequence[Variant]) -> list[str]:
    return [variant.key for variant in variants]


def _map(
    upstream: Sequence[str], downstream: Sequence[Variant], relation: Callable[[str, Variant], bool]
) -> dg.StaticPartitionMapping:
    return dg.StaticPartitionMapping(
        {key: {variant.key for variant in downstream if relation(key, variant)} for key in upstream}
    )
