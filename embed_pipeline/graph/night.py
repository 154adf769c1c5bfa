"""What a night does: the newest files through every variant, with the weights that stand, then one more evaluation.

Belongs here: which work is a night's, in which order, and what it leaves for the day. Does not belong here: when a
night begins (automation), running it (defs.jobs).
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from embed_pipeline.artifacts import DamagedObjectError
from embed_pipeline.dataset.audit import find_leaks
from embed_pipeline.dataset.formats import RetrievalDataset, read_dataset
from embed_pipeline.graph.automatic_work import cost_of_questions
from embed_pipeline.graph.catalogue import ALL, JOBS, PUBLISHED_ASSETS, WEIGHTS_ASSETS
from embed_pipeline.graph.freshness import assess, format_difference
from embed_pipeline.graph.graph import Graph, MissingInputError
from embed_pipeline.graph.lineage import Link, trace
from embed_pipeline.graph.topology import Node
from embed_pipeline.graph.work import Work, endless, ready_work
from embed_pipeline.records import EVALUATED_SPLIT

NIGHTLY_JOBS = (
    "read_workbooks",
    "read_pairs",
    "read_documents",
    "synthesise_questions",
    "prepare_dataset",
    "evaluate_variant",
    "measure_general_suite",
    "publish_metrics",
)
"""The others train or choose weights: they change what is evaluated, may cost hours, and are a person's decision."""
_EVALUATIONS = ("evaluate_variant", "measure_general_suite")
_PUBLICATION = next(job for job in JOBS if job.assets == PUBLISHED_ASSETS)
_ASSETS = frozenset(asset for job in JOBS if job.name in NIGHTLY_JOBS for asset in job.assets)


def is_nightly(node: Node) -> bool:
    """Whether a night may build the node; what it may not build is used as it stands."""
    return node.asset in _ASSETS


def reevaluate(
    read_graph: Callable[[], Graph],
    run: Callable[[Work], tuple[str, ...]],
    say: Callable[[str], None],
    postponed: Collection[Node] = (),
) -> tuple[str, ...]:
    """Runs what is stale, upstream first, without training; then publishes. Returns what failed, run by run.

    `read_graph` gives the project and the store as they stand now. `postponed` nodes, and what stands on them, stay as
    they are, and so do questions that a chat model would be paid for. What else is not done is said.
    """
    errors: list[str] = []
    done: set[tuple[str, str, str]] = set()
    ran: list[Work] = []
    left = {*postponed, *_paid_questions(read_graph())}
    while (work := _next_work(graph := read_graph(), done, left)) is not None:
        with work.turn(graph, say) as is_due:
            if not is_due:
                continue
            done.add((work.job.name, work.partition, work.key))
            obstacle = _obstacle(graph, work) or endless(work, ran)
            ran.append(work)
            if obstacle:
                say(f"{work.job.name} {work.partition} is left for the day: {obstacle}")
            found = () if obstacle else run(work)
        errors += [f"{work.job.name} {work.partition}: {error}" for error in found]
        if found or obstacle:
            left |= {Node(asset, work.partition) for asset in work.job.assets}
    for line in _left_over(read_graph(), left):
        say(line)
    return tuple(errors)


def _paid_questions(graph: Graph) -> set[Node]:
    project = graph.project
    return {Node("synthetic_qa", name) for name in project.synthesis if cost_of_questions(project, name)}


def _next_work(graph: Graph, done: Collection[tuple[str, str, str]], left: Collection[Node]) -> Work | None:
    ready = ready_work(graph, is_nightly, left)
    found = next((work for work in ready if (work.job.name, work.partition, work.key) not in done), None)
    if found is None and graph.project.variants and not any(name == _PUBLICATION.name for name, _, _ in done):
        # Also where nothing changed: every night is a point of the history.
        return Work(_PUBLICATION, ALL, ("the night's evaluation",), key="")
    return found


def _obstacle(graph: Graph, work: Work) -> str | None:
    """Why the weights that stand must not be measured as the variant's figures of today, if they must not."""
    if work.job.name not in _EVALUATIONS:
        return None
    variant, known = graph.project.variants[work.partition], set(graph.nodes())
    try:
        links = tuple(_standing(graph, Node(work.job.assets[-1], variant.key)))
    except MissingInputError as error:
        return str(error)
    for link in links:
        if link.version is not None and link.node in known and not is_nightly(link.node):
            changed = graph.plan(link.node).differences(link.version)
            other = next((difference for difference in changed if difference.kind == "setting"), None)
            if other:
                return f"{link.node} is of another recipe ({format_difference(other)}). Train it again."
            if link.node.asset == "adapter" and any(Node.parse(d.name).asset in WEIGHTS_ASSETS for d in changed):
                return f"{link.node} was made for other weights than those that it stands behind now. Adapt it again."
    trained_on = {link.digest for link in links if link.node == Node("cleaned_qa", variant.dataset)}
    return _find_seen(graph, variant.dataset, trained_on)


def _standing(graph: Graph, node: Node) -> Iterator[Link]:
    """The weights that a node would be measured with and what they were made from."""
    for weights in graph.upstream(node):
        if not is_nightly(weights):
            yield from trace(graph, weights, graph.input(weights).digest)


def _find_seen(graph: Graph, dataset: str, trained_on: Collection[str]) -> str | None:
    """That test questions of today were trained on, where data of other digests were trained on and some were."""
    today = graph.input(Node("cleaned_qa", dataset))
    for digest in sorted(set(trained_on) - {today.digest}):
        try:
            earlier = read_dataset(graph.store.open(digest)).queries
        except DamagedObjectError as error:
            return f"what its weights were trained on cannot be read: {error}"
        test = read_dataset(graph.store.open(today)).queries_of(EVALUATED_SPLIT)
        seen = [replace(q, id=f"seen {q.id}", split="train") for q in earlier if q.split != EVALUATED_SPLIT]
        threshold = graph.project.datasets[dataset].near_duplicate_threshold
        leaks = find_leaks(RetrievalDataset((*seen, *test), (), ()), threshold)
        if leaks:
            return f"its weights were trained on {len(leaks)} of today's test questions. Train it again."
    return None


def _left_over(graph: Graph, left: Collection[Node]) -> Iterator[str]:
    """What is not fresh at the end of a night, and why."""
    for assessed in assess(graph):
        if assessed.state != "fresh" and not is_nightly(assessed.node):
            yield f"a night trains nothing: {assessed.node} is {assessed.state}: {'; '.join(assessed.reasons)}"
    for assessed in assess(graph, is_nightly, left):
        if assessed.state != "fresh" and is_nightly(assessed.node):
            yield f"{assessed.node} is {assessed.state}: {'; '.join(assessed.reasons)}"
