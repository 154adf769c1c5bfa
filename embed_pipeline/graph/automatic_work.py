"""What automation may run by itself: what there is to do, held against each data set's setting `automation`.

Belongs here: which stage costs money or a training, what waits for a person or for a file that is still written. Does
not belong here: what is stale (freshness), who asks (automation).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from embed_pipeline.dataset.raw_files import SETTLE_SECONDS, still_written
from embed_pipeline.encoding.hosted_settings import HostedEncoderSettings
from embed_pipeline.graph.catalogue import ALL, CHEAP_ASSETS, PUBLISHED_ASSETS, RAW_ASSETS
from embed_pipeline.graph.freshness import Assessment, assess
from embed_pipeline.graph.graph import Graph
from embed_pipeline.graph.source_settings import round_trip_recipe, source_files
from embed_pipeline.graph.topology import Node
from embed_pipeline.graph.work import Work, find_startable, ready_work
from embed_pipeline.project.project import Project
from embed_pipeline.synthesis.templates import grades_answers


@dataclass(frozen=True)
class AutomaticWork:
    """The runs that automation starts now, and a line for each thing that waits, with what it waits for."""

    runs: tuple[Work, ...]
    waiting: tuple[str, ...]


def automatic_work(graph: Graph, now: float) -> AutomaticWork:
    """What automation does at `now` (seconds since 1970). Publishing does not wait for what a setting leaves out."""
    withheld = {node: reason for node in graph.nodes() if (reason := withheld_because(graph.project, node))}
    assessments = {assessment.node: assessment for assessment in assess(graph, given_up=withheld)}
    runs, waiting = [], _describe_withheld(graph, assessments, withheld)
    for work in ready_work(graph, assessments=assessments):
        awaited = _still_written(graph.project, work, now) or _unmeasured_recipes(graph, work, assessments, withheld)
        if awaited:
            waiting.append(f"{work.job.name} {work.partition} waits for {awaited}")
        else:
            runs.append(work)
    return AutomaticWork(tuple(runs), tuple(waiting))


def withheld_because(project: Project, node: Node) -> str | None:
    """The setting that keeps automation from a node, and why; None where it runs the node."""
    if node.asset in PUBLISHED_ASSETS:
        silent = all(settings.automation == "off" for settings in project.datasets.values())
        return "automation: off in every dataset.yaml" if silent else None
    dataset = node.partition.partition("/")[0]
    setting = project.datasets[dataset].automation
    named = f"automation: {setting} in {project.data.name}/{dataset}/dataset.yaml"
    if setting == "off":
        return named
    cost = _cost(project, node) if setting == "cheap" else None
    return f"{named} leaves out what {cost}" if cost else None


def _cost(project: Project, node: Node) -> str | None:
    """Why a node is not cheap. What nobody declared cheap is not."""
    if node.asset not in CHEAP_ASSETS:
        return "trains"
    if node.asset == "synthetic_qa":
        return cost_of_questions(project, node.partition)
    variant = project.variants.get(node.partition)
    hosted = variant is not None and isinstance(variant.encoder, HostedEncoderSettings)
    return "asks a hosted encoder" if hosted else None


def cost_of_questions(project: Project, dataset: str) -> str | None:
    """Why writing a data set's questions costs money, if it does and they can be written."""
    settings = project.synthesis[dataset]
    if settings.generator == "chat" or grades_answers(settings):
        return "asks a hosted chat model"
    try:
        recipe = round_trip_recipe(project, dataset)
    except ValueError:  # the plan of the questions says what is wrong
        return None
    return "asks a hosted encoder" if recipe and isinstance(recipe.encoder, HostedEncoderSettings) else None


def _describe_withheld(graph: Graph, assessments: Mapping[Node, Assessment], withheld: Mapping[Node, str]) -> list[str]:
    found = []
    for job, partition, nodes in find_startable(graph, assessments):
        reasons = [withheld[n] for n in nodes if n in withheld and assessments[n].state in ("stale", "missing")]
        if reasons:
            found.append(f"{job.name} {partition} waits for you: {reasons[0]}")
    below = [a for node, a in assessments.items() if a.blocked and node not in withheld and a.state != "failed"]
    return found + [f"{a.node} {'; '.join(a.reasons)}" for a in below]


def _still_written(project: Project, work: Work, now: float) -> str | None:
    if work.job.assets[0] not in RAW_ASSETS:
        return None
    paths = still_written(source_files(project, work.partition).values(), now)
    names = ", ".join(path.name for path in paths)
    return f"{names}: written to within the last {SETTLE_SECONDS:g} s" if paths else None


def _unmeasured_recipes(
    graph: Graph, work: Work, assessments: Mapping[Node, Assessment], withheld: Mapping[Node, str]
) -> str | None:
    """The variants of whose figures publishing would only say that a newer recipe gave them, which it did not."""
    if work.job.assets != PUBLISHED_ASSETS:
        return None
    table = Node(PUBLISHED_ASSETS[0], ALL)
    current = graph.store.read(table.asset, table.partition)
    pending = sorted({node.partition for node in withheld if assessments[node].state != "fresh"})
    prefixes = tuple(f"recipes.{key}." for key in pending)
    changes = graph.plan(table).differences(current) if current else ()
    only = changes and all(change.kind == "setting" and change.name.startswith(prefixes) for change in changes)
    return f"the figures of what waits ({', '.join(pending)}): nothing but recipes changed" if only else None
