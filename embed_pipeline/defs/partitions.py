"""Partition keys and how they map, both from the graph's topology.

A new folder in data/ or a new variant in its dataset.yaml is a new key.
"""

from collections import defaultdict
from dataclasses import dataclass

import dagster as dg

from embed_pipeline.graph.catalogue import ASSETS, PUBLISHED_ASSETS
from embed_pipeline.graph.topology import Topology
from embed_pipeline.project.project import Project


@dataclass(frozen=True)
class Partitions:
    """The partition keys of each asset, and between any two the mapping that the topology's edges make."""

    keys: dict[str, tuple[str, ...]]
    edges: dict[tuple[str, str], dict[str, set[str]]]

    @property
    def datasets(self) -> dg.StaticPartitionsDefinition:
        """`disease`"""
        return self.of("cleaned_qa")

    @property
    def variants(self) -> dg.StaticPartitionsDefinition:
        """`disease/minilm`"""
        return self.of("query_metrics")

    def of(self, asset: str) -> dg.StaticPartitionsDefinition:
        """The partitions of an asset; none where the project has nothing for it."""
        return dg.StaticPartitionsDefinition(list(self.keys.get(asset, ())))

    def mapping(self, upstream: str, downstream: str) -> dg.StaticPartitionMapping:
        """Which partitions of the one asset each partition of the other stands on."""
        found = self.edges.get((upstream, downstream), {})
        return dg.StaticPartitionMapping({key: found.get(key, set()) for key in self.keys.get(upstream, ())})

    def deps(self, asset: str) -> list[dg.AssetDep]:
        """All that an asset may stand on; one that has no partitions reads every partition."""
        if asset in PUBLISHED_ASSETS:
            return [dg.AssetDep(upstream) for upstream in ASSETS[asset].upstream]
        return [
            dg.AssetDep(upstream, partition_mapping=self.mapping(upstream, asset))
            for upstream in ASSETS[asset].upstream
        ]


def define_partitions(project: Project) -> Partitions:
    """The partitions of a project as its data folder stands now."""
    topology = Topology(project)
    keys: defaultdict[str, list[str]] = defaultdict(list)
    edges: defaultdict[tuple[str, str], defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for node in topology.nodes():
        keys[node.asset].append(node.partition)
        for upstream in topology.upstream(node):
            edges[upstream.asset, node.asset][upstream.partition].add(node.partition)
    # Variants stand here in the project's order, which is the order of the table.
    order = {key: place for place, key in enumerate([*project.datasets, *project.variants])}
    return Partitions(
        keys={asset: tuple(sorted(found, key=lambda key: order.get(key, 0))) for asset, found in keys.items()},
        edges={edge: dict(found) for edge, found in edges.items()},
    )
