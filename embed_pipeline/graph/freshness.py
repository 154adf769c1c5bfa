"""Why a partition is stale: what is fresh, stale, missing or interrupted, plans held against the store.

What changed is told difference by difference, and as a path from the change down to the artifact:
`data/small/first.xlsx changed → raw_xlsx 1f0c… → 8a2e… → cleaned_qa 77b1… → 03cd…`.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from embed_pipeline.artifacts import DamagedObjectError, Difference, Manifest, Plan, differences, is_digest
from embed_pipeline.graph.catalogue import FIGURES, PUBLISHED_ASSETS
from embed_pipeline.graph.graph import Graph, MissingInputError
from embed_pipeline.graph.node_settings import REPORTS_FOLDER
from embed_pipeline.graph.precision import precision_of
from embed_pipeline.graph.topology import Node
from embed_pipeline.paths import shorten
from embed_pipeline.project.automatic_training import AutomaticTraining
from embed_pipeline.training.finetune import PROGRESS_FOLDER, checkpoint_steps

FILES_SETTING = "files."
"""Prefix of the settings of raw_xlsx that are the digests of files."""
NEVER_BUILT = "never built"
WAITS = "waits for"

State = Literal["fresh", "stale", "missing", "waiting", "failed"]


@dataclass(frozen=True)
class Assessment:
    """The state of a node and the reasons for it, ready to print.

    waiting: an upstream node is not fresh, so its own inputs are not known yet. failed: its plan cannot be made.
    blocked: no run can make it fresh, because it, or something upstream of it, failed. `precision`: the arithmetic that
    it was built in where it is fresh, else would be; None where there is none or its plan cannot be made yet.
    """

    node: Node
    state: State
    reasons: tuple[str, ...]
    blocked: bool = False
    precision: str | None = None


def every(node: Node) -> bool:
    """The filter that lets every node through."""
    return True


def assess(
    graph: Graph, wanted: Callable[[Node], bool] = every, given_up: Collection[Node] = ()
) -> tuple[Assessment, ...]:
    """One assessment per node, upstream first. An artifact that a stale node would read is stale if it is damaged.

    Nothing waits for a node that is not wanted: the metrics table then stands on what has been measured. Nodes that
    were `given_up`, because their run failed, are blocked until they are fresh.
    """
    damage: dict[Node, str] = {}
    while True:
        found: dict[Node, Assessment] = {}
        for node in graph.nodes():
            assessed = _assess_node(graph, node, {n: a for n, a in found.items() if wanted(n)}, damage)
            is_blocked = assessed.blocked or (assessed.state != "fresh" and node in given_up)
            found[node] = replace(assessed, blocked=is_blocked)
        new = _find_damage(graph, found)
        if not new:
            return tuple(found.values())
        damage |= new


def _find_damage(graph: Graph, found: Mapping[Node, Assessment]) -> dict[Node, str]:
    # Opening reads every byte, once per process: only what is about to be read anyway is opened.
    begun = [node for node, assessment in found.items() if assessment.state in ("stale", "missing")]
    read = dict.fromkeys(upstream for node in begun for upstream in graph.upstream(node))
    damage = {}
    for node in read:
        current = graph.store.read(node.asset, node.partition)
        if found[node].state == "fresh" and current is not None:
            try:
                graph.store.open(current)
            except DamagedObjectError as error:
                damage[node] = str(error)
    return damage


def explain(graph: Graph, node: Node, assessments: Mapping[Node, Assessment] | None = None) -> Iterator[str]:
    """Why a node would be built again now, or was built the last time: changed inputs followed to their cause.

    `assessments`: those of the graph as it stands, where they are known.
    """
    return _explain(graph, node, assessments or {assessment.node: assessment for assessment in assess(graph)})


def _explain(graph: Graph, node: Node, assessments: Mapping[Node, Assessment]) -> Iterator[str]:
    assessment = assessments[node]
    chosen = chosen_training(graph, node)
    if assessment.state == "fresh":
        yield from _explain_last_build(graph, node)
        yield from (f"  {line}" for line in (chosen.lines if chosen else ()))
        return
    would_be = f", to be built in {assessment.precision}" if assessment.precision else ""
    yield f"{node} is {assessment.state}{would_be}"
    for reason in assessment.reasons:
        yield f"  {reason}"
    yield from (f"  {line}" for line in (chosen.lines if chosen else ()))
    for upstream in graph.upstream(node):
        named = any(str(upstream) in reason for reason in assessment.reasons)
        if named or assessments[upstream].state != "fresh":
            yield from (f"  {line}" for line in _explain(graph, upstream, assessments))


def _explain_last_build(graph: Graph, node: Node) -> Iterator[str]:
    history = list(graph.store.history(node.asset, node.partition))
    if not history:
        return
    newest = history[0]
    before = next((manifest for manifest in history[1:] if manifest.fingerprint != newest.fingerprint), None)
    precision = precision_of(newest.settings)
    built = f"built {newest.built_at} in {precision}" if precision else f"built {newest.built_at}"
    yield f"{node} is fresh: digest {newest.digest[:12]}, {built}"
    if before is None:
        yield "  it was built for the first time"
        return
    for difference in differences(before, newest):
        yield f"  built again because {format_difference(difference)}"
        upstream = next((n for n in graph.upstream(node) if str(n) == difference.name), None)
        if difference.kind == "input" and upstream is not None:
            yield from (f"    {line}" for line in _explain_last_build(graph, upstream))


def chosen_training(graph: Graph, node: Node) -> AutomaticTraining | None:
    """What `training: auto` comes to in a checkpoint; None elsewhere, and while it cannot be known."""
    if node.asset != "finetuned_checkpoint":
        return None
    try:
        return graph.automatic_training(graph.project.variants[node.partition])
    except (MissingInputError, ValueError, OSError):
        return None


def format_difference(difference: Difference) -> str:
    """A sentence part: what changed from what to what; digests are shortened."""
    nouns = {"setting": "setting", "input": "input", "code": "code version"}
    noun, name = nouns[difference.kind], difference.name
    if difference.kind == "setting" and name.startswith(FILES_SETTING):
        noun, name = "file", name.removeprefix(FILES_SETTING)
    return f"{noun} {name}: {_in_full(difference.before)} → {_in_full(difference.after)}"


def _assess_node(graph: Graph, node: Node, found: Mapping[Node, Assessment], damage: Mapping[Node, str]) -> Assessment:
    current = graph.store.read(node.asset, node.partition)
    unfinished = [u for u in graph.upstream(node) if u in found and found[u].state != "fresh"]
    measured = any(graph.store.read(u.asset, u.partition) for u in graph.upstream(node) if u.asset in FIGURES)
    if node.asset in PUBLISHED_ASSETS and measured:
        # A variant that cannot be measured has no row; the others are not held up by it.
        unfinished = [u for u in unfinished if not found[u].blocked]
    if unfinished:
        more = f" and {len(unfinished) - 1} more" if len(unfinished) > 1 else ""
        cause = f"{WAITS} {unfinished[0]}, which is {found[unfinished[0]].state}{more}"
        blocked = any(found[u].blocked for u in unfinished)
        return Assessment(node, "missing" if current is None else "waiting", (cause,), blocked)
    try:
        plan = graph.plan(node)
    except (MissingInputError, ValueError, OSError) as error:
        return Assessment(node, "failed", (str(error),), blocked=True)
    precision = precision_of(plan.settings)
    if current is None:
        reason = describe_unfinished(graph, plan) or NEVER_BUILT
        return Assessment(node, "missing", (reason,), precision=precision)
    if node in damage:
        return Assessment(node, "stale", (damage[node],), precision=precision)
    if current.fingerprint == plan.fingerprint:
        lost = _lost_page(graph, current) if node.asset == "report" else None
        return Assessment(node, "stale" if lost else "fresh", (lost,) if lost else (), precision=precision)
    changes = [format_difference(change) for change in plan.differences(current)]
    unfinished_build = describe_unfinished(graph, plan)
    reasons = [unfinished_build, *changes] if unfinished_build else changes
    return Assessment(node, "stale", tuple(reasons), precision=precision)


def _lost_page(graph: Graph, report: Manifest) -> str | None:
    """That a page is not where people look for it, or the report itself is damaged."""
    try:
        names = sorted(page.name for page in graph.store.open(report).glob("*.html"))
    except DamagedObjectError as error:
        return str(error)
    paths = [graph.project.home / REPORTS_FOLDER / name for name in names]
    return next((f"{path} is gone" for path in paths if not path.is_file()), None)


def _in_full(value: str | None) -> str:
    text = "none" if value is None else value.strip('"')
    return text[:12] if is_digest(text) else text


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
        elif left := _training_left(graph, plan):
            found.append(left)
    return found


def _training_left(graph: Graph, plan: Plan) -> str | None:
    """The step that a training of this plan would go on from; None where nothing is left of one."""
    steps = checkpoint_steps(graph.project.home / PROGRESS_FOLDER / plan.fingerprint)
    return f"the training's checkpoint of step {steps[-1]}" if steps else None


def describe_unfinished(graph: Graph, plan: Plan) -> str | None:
    """A sentence part: that a plan is being built now, or that its build was interrupted and what is left of it."""
    begun = graph.store.begun_at(plan.fingerprint)
    if begun is None:
        return None
    if graph.store.is_building(plan.fingerprint):
        return f"being built since {begun:%Y-%m-%d %H:%M} UTC"
    left = _training_left(graph, plan)
    more = f"goes on from {left}" if left else "begins it anew; vectors that were encoded are kept"
    return f"interrupted: begun {begun:%Y-%m-%d %H:%M} UTC and not ended; the next run {more}"


MAX_PATHS = 20
FIRST_TIME = "built for the first time"
FOUND = "found in the store"
_ARROW = " → "
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Causes:
    """The paths to a node, one for each thing that changed: the longest, which names every artifact on the way."""

    graph: Graph
    _known: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict, repr=False)
    _histories: dict[Node, tuple[Manifest, ...]] = field(default_factory=dict, repr=False)

    def of_build(self, manifest: Manifest, before: Manifest | None) -> tuple[str, ...]:
        """Why `manifest` came to be, `before` being what its partition stood at until then."""
        if before is None:
            return (FOUND if manifest.cached else FIRST_TIME,)
        if before.id == manifest.id:
            return (f"{FOUND}: nothing changed",)
        if before.fingerprint == manifest.fingerprint:
            return ("built again from the same inputs: its bytes were damaged or gone",)
        paths = _limit(self._between(before, manifest))
        return tuple(f"{FOUND}: {path}" for path in paths) if manifest.cached else paths

    def of_node(self, node: Node, assessments: Mapping[Node, Assessment]) -> tuple[str, ...]:
        """Why a node would be built now or, where it is fresh, was built the last time."""
        if assessments[node].state != "fresh":
            return _limit(self._pending(node, assessments))
        newest, *older = self._history(node)
        before = next((manifest for manifest in older if manifest.fingerprint != newest.fingerprint), None)
        return (FIRST_TIME,) if before is None else _limit(self._between(before, newest))

    def _pending(self, node: Node, assessments: Mapping[Node, Assessment]) -> dict[str, str]:
        assessment, current = assessments[node], self.graph.store.read(node.asset, node.partition)
        if assessment.state == "failed" or (current is None and not assessment.reasons[0].startswith(WAITS)):
            return {str(node): f"{node}: {'; '.join(assessment.reasons)}"}
        end = f"{node.asset} {_mark(current.digest)}{_ARROW}…" if current else node.asset
        found: dict[str, str] = {}
        for upstream in self.graph.upstream(node):
            if assessments[upstream].state != "fresh":
                _keep_longest(found, self._pending(upstream, assessments), end)
        for change in sorted(self._changes(node, current), key=_is_fingerprint) if current else ():
            _keep_longest(found, self._causes(node, change), end)
        return found or {str(node): f"{'; '.join(assessment.reasons)}{_ARROW}{end}"}

    def _changes(self, node: Node, current: Manifest) -> tuple[Difference, ...]:
        try:
            return self.graph.plan(node).differences(current)
        except (MissingInputError, ValueError, OSError):  # an input is not there yet; it has a path of its own
            return ()

    def _between(self, before: Manifest, after: Manifest) -> dict[str, str]:
        """The longest path by what changed. Every pair of versions is followed once, so the work stays bounded."""
        key = (before.id, after.id)
        if key not in self._known:
            end = _step(before, after)
            found: dict[str, str] = {}
            for change in sorted(differences(before, after), key=_is_fingerprint):
                _keep_longest(found, self._causes(Node(after.asset, after.partition), change), end)
            self._known[key] = found
        return self._known[key]

    def _causes(self, node: Node, change: Difference) -> dict[str, str]:
        """The paths that end in a changed setting, code version or input of a node."""
        if change.kind == "input":
            return self._causes_of_input(change)
        if change.kind == "code":
            text = f"code version of {node.asset} changed ({change.before}{_ARROW}{change.after})"
        elif change.name.startswith(FILES_SETTING):
            dataset = node.partition.partition("/")[0]
            file = f"{self.graph.project.data.name}/{dataset}/{change.name.removeprefix(FILES_SETTING)}"
            text = f"{file} {_verb(change)}"
        else:
            text = f"{change.name} of {node.partition} {_verb(change)} ({_show(change.before)}{_ARROW}"
            text += f"{_show(change.after)})"
        return {text: text}

    def _causes_of_input(self, change: Difference) -> dict[str, str]:
        versions = self._history(Node.parse(change.name))
        at = next((at for at, version in enumerate(versions) if version.digest == change.before), None)
        # The first version with the new bytes: a later one may have the same bytes for another reason.
        newer = versions[:at] if at is not None else ()
        after = next((version for version in reversed(newer) if version.digest == change.after), None)
        found = self._between(versions[at], after) if at is not None and after else {}
        text = f"{change.name} {_verb(change)}"
        return found or {text: text}

    def _history(self, node: Node) -> tuple[Manifest, ...]:
        if node not in self._histories:
            self._histories[node] = tuple(self._readable(node))
        return self._histories[node]

    def _readable(self, node: Node) -> Iterator[Manifest]:
        try:
            yield from self.graph.store.history(node.asset, node.partition)
        except DamagedObjectError:  # what lies before a damaged record is not known; the build goes on without it
            return


def _keep_longest(found: dict[str, str], paths: Mapping[str, str], end: str) -> None:
    for cause, path in paths.items():
        whole = f"{path}{_ARROW}{end}"
        if whole.count(_ARROW) > found.get(cause, "").count(_ARROW):
            found[cause] = whole


def _step(before: Manifest, after: Manifest) -> str:
    if before.digest == after.digest:
        return f"{after.asset} {_mark(after.digest)} again"
    return f"{after.asset} {_mark(before.digest)}{_ARROW}{_mark(after.digest)}"


def _limit(paths: Mapping[str, str]) -> tuple[str, ...]:
    shown = tuple(paths.values())[:MAX_PATHS]
    return shown if len(paths) <= MAX_PATHS else (*shown, f"and {len(paths) - MAX_PATHS} more")


def _verb(change: Difference) -> str:
    if change.before is None:
        return "added"
    return "removed" if change.after is None else "changed"


def _is_fingerprint(change: Difference) -> bool:
    """Whether only digests say what changed: it may follow from a setting, which is then told first."""
    shown = (change.after or change.before or "").strip('"')
    return change.kind == "setting" and not change.name.startswith(FILES_SETTING) and is_digest(shown)


def _mark(digest: str) -> str:
    return f"{digest[:8]}…"


def _show(value: str | None) -> str:
    text = "none" if value is None else value.strip('"')
    return _mark(text) if is_digest(text) else shorten(text, _SHOWN_CHARACTERS)
