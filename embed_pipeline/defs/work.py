"""What there is to do: the runs that make everything fresh. The command line and the sensor ask the same question here.

No dagster here.
"""

import hashlib
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass

from embed_pipeline.defs.catalogue import CODE_VERSIONS, JOBS, PUBLISHED_ASSETS, Job
from embed_pipeline.defs.freshness import Assessment, assess, every
from embed_pipeline.defs.graph import Graph
from embed_pipeline.defs.topology import Node


@dataclass(frozen=True)
class Work:
    """One run: a job for one partition, and why. `key` is the same as long as inputs and outputs stay the same."""

    job: Job
    partition: str
    reasons: tuple[str, ...]
    key: str


def ready_work(
    graph: Graph, wanted: Callable[[Node], bool] = every, given_up: Collection[Node] = ()
) -> tuple[Work, ...]:
    """The runs whose inputs from other jobs are all fresh and that hold a stale or missing node, in pipeline order.

    Publishing does not wait for what failed, or was `given_up` because its run did: the table then lacks its row.
    """
    assessments = {assessment.node: assessment for assessment in assess(graph, wanted, given_up)}
    found = []
    for job in JOBS:
        for partition in dict.fromkeys(node.partition for node in assessments if node.asset in job.assets):
            nodes = [Node(asset, partition) for asset in job.assets]
            outside = [n for node in nodes for n in graph.upstream(node) if n not in nodes and wanted(n)]
            if job.assets == PUBLISHED_ASSETS:
                outside = [node for node in outside if not assessments[node].blocked]
            if not all(map(wanted, nodes)) or any(assessments[node].blocked for node in nodes):
                continue
            if any(assessments[n].state != "fresh" for n in outside):
                continue
            unfinished = [assessments[node] for node in nodes if assessments[node].state != "fresh"]
            if unfinished:
                found.append(_work(graph, job, partition, unfinished))
    return tuple(found)


def all_work(graph: Graph, wanted: Callable[[Node], bool] = every) -> tuple[Work, ...]:
    """Every run there is, in pipeline order, whether fresh or not."""
    nodes = [node for node in graph.nodes() if wanted(node)]
    return tuple(
        Work(job, partition, ("asked for",), key="")
        for job in JOBS
        for partition in dict.fromkeys(node.partition for node in nodes if node.asset in job.assets)
    )


def _work(graph: Graph, job: Job, partition: str, unfinished: list[Assessment]) -> Work:
    reasons = tuple(f"{a.node.asset}: {reason}" for a in unfinished if a.state != "waiting" for reason in a.reasons)
    return Work(job, partition, reasons, _key(graph, job, [Node(asset, partition) for asset in job.assets]))


def _key(graph: Graph, job: Job, nodes: list[Node]) -> str:
    # What a run changes before its end is left out: one that failed half-way is not asked for again. The present
    # version of the last asset is in: a file changed, changed back and changed again asks for a run each time.
    outside = [n for node in nodes for n in graph.upstream(node) if n not in nodes]
    inputs = {str(node): graph.store.read(node.asset, node.partition) for node in outside}
    last = graph.store.read(nodes[-1].asset, nodes[-1].partition)
    state = {
        "nodes": [[str(node), CODE_VERSIONS[node.asset], graph.settings(node)] for node in nodes],
        "inputs": {name: manifest.digest if manifest else None for name, manifest in inputs.items()},
        "version": last.id if last else None,
    }
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
