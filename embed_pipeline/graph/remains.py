"""What a build that did not end left for the next one.

Does not belong here: using it (training.resume, encoding.vector_cache), removing it (cleanup).
"""

from collections.abc import Iterable

from embed_pipeline.artifacts import Plan
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


def describe_unfinished(graph: Graph, plan: Plan) -> str | None:
    """A sentence part: that a plan is being built now, or that its build was interrupted and what is left of it."""
    begun = graph.store.begun_at(plan.fingerprint)
    if begun is None:
        return None
    if graph.store.is_building(plan.fingerprint):
        return f"being built since {begun:%Y-%m-%d %H:%M} UTC"
    left = describe_remains(graph, [plan.asset], plan.partition)
    more = f"goes on from {left[0]}" if left else "begins it anew; vectors that were encoded are kept"
    return f"interrupted: begun {begun:%Y-%m-%d %H:%M} UTC and not ended; the next run {more}"
