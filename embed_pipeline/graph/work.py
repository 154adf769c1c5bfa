"""What there is to do: the runs that make everything fresh; the command line and the sensor ask the same here."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass

from embed_pipeline.graph.catalogue import ASSETS, JOBS, POOLED_JOBS, PUBLISHED_ASSETS, Job
from embed_pipeline.graph.freshness import Assessment, assess, every
from embed_pipeline.graph.graph import Graph
from embed_pipeline.graph.topology import Node

EQUAL_ATTEMPTS = 3
"""More runs of one job for one partition and the same reasons are a loop; files may change once or twice meanwhile."""


@dataclass(frozen=True)
class Work:
    """One run: a job for one partition, and why. `key` is the same as long as inputs and outputs stay the same."""

    job: Job
    partition: str
    reasons: tuple[str, ...]
    key: str

    @contextmanager
    def turn(self, graph: Graph, say: Callable[[str], object] | None = None) -> Iterator[bool]:
        """Held while the piece is run: of several runs of a project one does it. Gives whether it is still due."""
        with graph.store.turn(f"{self.job.name} {self.partition.replace('/', ' ')}", say) as waited:
            nodes = [Node(asset, self.partition) for asset in self.job.assets]
            yield not waited and self.key in ("", _key(graph, self.job, nodes))


@dataclass(frozen=True)
class Attempt:
    """A piece of work that was run, and why it failed; no errors where it did not."""

    work: Work
    errors: tuple[str, ...]


Run = Callable[[Work], tuple[str, ...] | None]
"""Runs a piece of work and returns its errors; None where another run did it, so that it is looked for anew."""


def work_off(
    find: Callable[[Collection[Node]], Sequence[Work]],
    run: Run,
    *,
    threads: Executor | None = None,
    jobs: int = 1,
) -> tuple[Attempt, ...]:
    """Runs what `find` gives until all it gives has been tried; see Run and `in_turn`.

    One piece at a time, or up to `jobs` of them in `threads`. `find` is asked anew after each piece, with the nodes
    that were given up because their run failed. A piece that is due again for the same reasons after EQUAL_ATTEMPTS
    runs fails. The attempts are in the order in which they ended.
    """
    attempts: list[Attempt] = []
    tried: set[tuple[str, str, str]] = set()
    given_up: set[Node] = set()
    under_way: dict[Future[tuple[str, ...] | None], Work] = {}
    while True:
        found = find(given_up)
        while len(under_way) < jobs and (due := _due(found, tried, under_way.values())):
            work = due[0]
            tried.add((work.job.name, work.partition, work.key))
            error = endless(work, [attempt.work for attempt in attempts])
            under_way[_ended((error,)) if error else _begin(threads, run, work)] = work
        if not under_way:
            return tuple(attempts)
        for ended in wait(under_way, return_when=FIRST_COMPLETED).done:
            work, errors = under_way.pop(ended), ended.result()
            if errors is None:
                tried.discard((work.job.name, work.partition, work.key))
                continue
            attempts.append(Attempt(work, errors))
            if errors:
                given_up |= {Node(asset, work.partition) for asset in work.job.assets}


def in_turn(run: Run, read_graph: Callable[[], Graph], say: Callable[[str], object] | None = None) -> Run:
    """`run` beside other runs of the project, in whichever processes: each piece is run by one of them."""

    def run_in_turn(work: Work) -> tuple[str, ...] | None:
        with work.turn(read_graph(), say) as is_due:
            return run(work) if is_due else None

    return run_in_turn


def _due(found: Iterable[Work], tried: Collection[tuple[str, str, str]], under_way: Iterable[Work]) -> list[Work]:
    """What was neither tried nor is under way; behind a training another one comes last, as it waits for the pool."""
    begun = {(work.job.name, work.partition) for work in under_way}
    due = [
        work
        for work in found
        if (work.job.name, work.partition, work.key) not in tried and (work.job.name, work.partition) not in begun
    ]
    trains = any(name in POOLED_JOBS for name, _ in begun)
    return sorted(due, key=lambda work: trains and work.job.name in POOLED_JOBS)


def _begin(threads: Executor | None, run: Run, work: Work) -> "Future[tuple[str, ...] | None]":
    return threads.submit(run, work) if threads else _ended(run(work))


def _ended(errors: tuple[str, ...] | None) -> "Future[tuple[str, ...] | None]":
    ended: Future[tuple[str, ...] | None] = Future()
    ended.set_result(errors)
    return ended


def endless(work: Work, done: Sequence[Work]) -> str | None:
    """Why a piece is not to be run once more: it was run as often as is reasonable, and changes nothing."""
    equal = [one for one in done if (one.job, one.partition, one.reasons) == (work.job, work.partition, work.reasons)]
    if len(equal) < EQUAL_ATTEMPTS:
        return None
    return (
        f"{work.job.name} {work.partition}: run {len(equal)} times and still due: {'; '.join(work.reasons)}. What it "
        "makes does not stay, or another program changes its inputs. `embed-pipeline why` says what it stands on."
    )


def ready_work(
    graph: Graph,
    wanted: Callable[[Node], bool] = every,
    given_up: Collection[Node] = (),
    assessments: Mapping[Node, Assessment] | None = None,
) -> tuple[Work, ...]:
    """The runs whose inputs from other jobs are all fresh and that hold a stale or missing node, in pipeline order.

    Publishing does not wait for what failed, or was `given_up` because its run did: the table then lacks its row.
    `assessments`: those of the graph as it stands, where they are known.
    """
    known = assessments or {assessment.node: assessment for assessment in assess(graph, wanted, given_up)}
    return tuple(
        _work(graph, job, partition, [known[node] for node in nodes if known[node].state != "fresh"])
        for job, partition, nodes in find_startable(graph, known, wanted)
        if not any(known[node].blocked for node in nodes)
    )


def find_startable(
    graph: Graph, assessments: Mapping[Node, Assessment], wanted: Callable[[Node], bool] = every
) -> Iterator[tuple[Job, str, list[Node]]]:
    """Job, partition and nodes of the runs for which nothing outside is awaited, blocked or not, in pipeline order."""
    for job in JOBS:
        for partition in dict.fromkeys(node.partition for node in assessments if node.asset in job.assets):
            nodes = [Node(asset, partition) for asset in job.assets]
            outside = [n for node in nodes for n in graph.upstream(node) if n not in nodes and wanted(n)]
            if job.assets == PUBLISHED_ASSETS:
                outside = [node for node in outside if not assessments[node].blocked]
            if not all(map(wanted, nodes)) or any(assessments[n].state != "fresh" for n in outside):
                continue
            if any(assessments[node].state != "fresh" for node in nodes):
                yield job, partition, nodes


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
    # The batch is what publishing itself appends before its end.
    outside = [n for node in nodes for n in graph.upstream(node) if n not in nodes]
    inputs = {str(node): graph.store.read(node.asset, node.partition) for node in outside}
    last = graph.store.read(nodes[-1].asset, nodes[-1].partition)
    state = {
        "nodes": [[str(node), ASSETS[node.asset].version, graph.settings(node) | {"batch": None}] for node in nodes],
        "inputs": {name: manifest.digest if manifest else None for name, manifest in inputs.items()},
        "version": last.id if last else None,
    }
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
