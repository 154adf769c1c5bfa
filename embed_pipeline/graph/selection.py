"""Which partitions somebody means who names a data set or a variant: these, and what they stand on."""

from collections.abc import Callable

from embed_pipeline.graph.catalogue import ALL
from embed_pipeline.graph.topology import Node
from embed_pipeline.project.naming import check_known
from embed_pipeline.project.project import Project


def select_nodes(project: Project, dataset: str | None, variant: str | None = None) -> Callable[[Node], bool]:
    """The filter that lets the partitions of a data set, or of a variant by key or name, through; None means any.

    Raises:
        UnknownNameError: there is no such data set or variant.
        ValueError: the data set, or one of its recipes, cannot be read.
    """
    if dataset is not None:
        project.check_dataset(dataset)
    variants = project.variants.values()
    chosen = [v for v in variants if dataset in (None, v.dataset) and variant in (None, v.key, v.name)]
    if not chosen and variant is not None and variant.partition("/")[0] in project.broken:
        raise ValueError(project.broken[variant.partition("/")[0]])
    if not chosen and variant is not None:
        asked = [f"{name}/{one}" for name, settings in project.datasets.items() for one in settings.variants_on_request]
        if any(variant in (key, key.partition("/")[2]) for key in asked):
            raise ValueError(f"variant {variant!r} takes part on request only. Say --on-request with it.")
        known = [v.key for v in variants if dataset in (None, v.dataset)]
        check_known(variant, known, what="variant", plural="Variants")
    datasets = {v.dataset for v in chosen} | ({dataset} if dataset else set())
    # What they stand on: the general suite is a data set of its own, and a fused variant uses another one's weights.
    suites = {suite for name in datasets for suite in project.datasets[name].general_suite}
    partitions = {ALL, *datasets, *suites, *(key for v in chosen for key in project.stands_on(v))}
    # The choice among all variants of a data set is not asked for with one of them.
    left_out = "promoted_checkpoint" if variant is not None else None
    return lambda node: node.partition in partitions and node.asset != left_out
