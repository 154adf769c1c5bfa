"""What there is to do: the runs that make everything fresh. The command line and the sensor ask the same question here.

No dagster here.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from embed_pipeline.defs.freshness import Assessment, assess
from embed_pipeline.defs.graph import JOBS, Graph, Job, Node


@dataclass(frozen=True)
class Work:
    """One run: a job for one partition, and why. `key` is the same as long as inputs and outputs stay the same."""

    job: Job
    partition: str
    reasons: tuple[str, ...]
    key: str


def every(node: Node) -> bool:
    """The filter that lets every node through."""
    return True


def ready_work(graph: Graph, wanted: Callable[[Node], bool] = every) -> tuple[Work, ...]:
    """The runs whose inputs from other jobs are all fresh and that hold a stale or missing node, in pipeline order."""
    assessments = {assessment.node: assessment for assessment in assess(graph)}
    found = []
    for job in JOBS:
        for partition in dict.fromkeys(node.partition for node in assessments if node.asset in job.assets):
            nodes = [Node(asset, partition) for asset in job.assets]
            outside = [n for node in nodes for n in graph.upstream(node) if n.asset not in job.assets and wanted(n)]
            if not all(map(wanted, nodes)) or any(assessments[n].state != "fresh" for n in outside):
                continue
            unfinished = [assessments[node] for node in nodes if assessments[node].state != "fresh"]
            if unfinished and unfinished[0].state != "failed":
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
    first = unfinished[0].node
    current = graph.store.read(first.asset, first.partition)
    # The present state is part of the key: a file changed and changed back asks for a run each time.
    state = [job.name, partition, graph.plan(first).fingerprint, current.fingerprint if current else "none"]
    key = hashlib.sha256("\n".join(state).encode()).hexdigest()
    reasons = tuple(f"{a.node.asset}: {reason}" for a in unfinished if a.state != "waiting" for reason in a.reasons)
    return Work(job, partition, reasons, key)
