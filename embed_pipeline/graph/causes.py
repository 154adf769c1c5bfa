"""Why an artifact was built, or would be: what changed, followed down to the artifact as a path.

`data/small/first.xlsx changed → raw_xlsx 1f0c… → 8a2e… → cleaned_qa 77b1… → 03cd…`. Belongs here: these paths. Does not
belong here: what is stale (freshness), the full account of every difference (freshness.explain).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from embed_pipeline.artifacts import DamagedObjectError, Difference, Manifest, differences
from embed_pipeline.graph.freshness import FILES_SETTING, WAITS, Assessment, is_digest
from embed_pipeline.graph.graph import Graph, MissingInputError
from embed_pipeline.graph.topology import Node

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
    if value is None:
        return "none"
    text = value.strip('"')
    if is_digest(text):
        return _mark(text)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
