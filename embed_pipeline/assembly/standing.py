"""Which figures stand today, and what the store still knows of earlier evaluations.

Belongs here: following a variant's figures to the data and settings that they were made with, rows out of older
versions of the table. Does not belong here: where rows are kept (reporting.database).
"""

from collections.abc import Iterator
from datetime import datetime

from embed_pipeline.artifacts import DamagedObjectError, Manifest
from embed_pipeline.evaluation.latency import Profile
from embed_pipeline.graph.catalogue import DATASET_ASSETS
from embed_pipeline.graph.graph import Graph, MissingInputError
from embed_pipeline.graph.lineage import trace
from embed_pipeline.graph.topology import Node
from embed_pipeline.project.variants import Variant
from embed_pipeline.reporting.database import Batch, Standing
from embed_pipeline.reporting.metrics_table import read_rows, stamp_rows

ROWS_FILE = "rows.jsonl"
"""In the artifact of metrics_table."""
OTHER_DATA, OTHER_RECIPE = "other data", "another recipe"


def standing_variants(graph: Graph) -> tuple[Standing, ...]:
    """Every variant that is declared and measured, with what its figures are of where that is not today's."""
    found = []
    for variant in graph.project.variants.values():
        measured = graph.stored(Node("query_metrics", variant.key))
        if measured is not None:
            found.append(
                Standing(
                    dataset=variant.dataset,
                    variant=variant.name,
                    query_metrics_digest=measured.digest,
                    outdated=_outdated(graph, variant, measured),
                )
            )
    return tuple(found)


def earlier_batches(graph: Graph, newest: Manifest) -> tuple[Batch, ...]:
    """The evaluations before `newest` whose rows the store still has, oldest first; what `gc` removed is lost."""
    found = []
    for version in graph.store.history(newest.asset, newest.partition):
        if version.fingerprint == newest.fingerprint:
            continue
        try:
            rows = read_rows(graph.store.open(version) / ROWS_FILE)
        except (DamagedObjectError, OSError, TypeError):  # TypeError: of a version of embed-pipeline with other columns
            continue
        stamped = stamp_rows(
            rows,
            run_id=version.run_id,
            git_commit=version.git_commit,
            evaluated_at=datetime.fromisoformat(version.built_at),
            profiles=dict(_profiles(graph, version)),
        )
        found.append(Batch(rows=stamped, fingerprint=version.fingerprint))
    return tuple(reversed(found))


def _outdated(graph: Graph, variant: Variant, measured: Manifest) -> str | None:
    cleaned = graph.stored(Node("cleaned_qa", variant.dataset))
    if cleaned is not None and measured.inputs.get(f"cleaned_qa[{variant.dataset}]") != cleaned.digest:
        return OTHER_DATA
    known = set(graph.nodes())
    for link in trace(graph, Node(measured.asset, measured.partition), measured.digest):
        if link.version is None or link.node not in known or link.node.asset in DATASET_ASSETS:
            continue
        try:
            changes = graph.plan(link.node).differences(link.version)
        except (MissingInputError, ValueError, OSError):  # it cannot be made today; that it was is all that is known
            continue
        if any(change.kind == "setting" for change in changes):
            return OTHER_RECIPE
    return None


def _profiles(graph: Graph, table: Manifest) -> Iterator[tuple[tuple[str, str], Profile]]:
    """What using each variant took, as the version of its figures that the table was made from says."""
    for name, digest in table.inputs.items():
        node = Node.parse(name)
        if node.asset != "query_metrics":
            continue
        versions = graph.store.history(node.asset, node.partition)
        details = next((version.details for version in versions if version.digest == digest), {})
        profile, (dataset, _, variant) = details.get("profile"), node.partition.partition("/")
        if isinstance(profile, dict):
            yield (dataset, variant), Profile(**profile)  # pyright: ignore[reportArgumentType]
