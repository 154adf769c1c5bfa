"""What a build that did not end left for the next one.

Does not belong here: using it (training.resume, encoding.vector_cache), removing it (cleanup).
"""

from collections.abc import Iterable

from embed_pipeline.graph.graph import Graph, MissingInputError
from embed_pipeline.graph.topology import Node
from embed_pipeline.training.finetune import PROGRESS_FOLDER, checkpoint_steps


def describe_remains(graph: Graph, assets: Iterable[str], partition: str) -> list[str]:
    """Sentence parts: artifacts of the partition that are finished, the step its training goes on from."""
    found = []
    for node in (Node(asset, partition) for asset in assets):
        try:
            plan, current = graph.plan(node), graph.store.read(node.asset, node.partition)
        except (MissingInputError, ValueError, OSError):
            continue
        if current is not None and current.fingerprint == plan.fingerprint:
            found.append(str(node))
        elif steps := checkpoint_steps(graph.project.home / PROGRESS_FOLDER / plan.fingerprint):
            found.append(f"the training's checkpoint of step {steps[-1]}")
    return found
