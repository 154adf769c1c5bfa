"""What has been measured so far, gathered from the store: rows for the table, records for reports, what stands today.

Belongs here: reading artifacts, following figures to the data and settings that they were made with. Does not belong
here: computing figures (reporting.metrics_table), drawing them (reporting.page), where rows are kept
(reporting.database).
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path

from embed_pipeline.artifacts import DamagedObjectError, Manifest
from embed_pipeline.assembly.ladder import training_seconds
from embed_pipeline.dataset.formats import RetrievalDataset, read_dataset
from embed_pipeline.encoding.word_vectors import read_word_vectors
from embed_pipeline.evaluation.comparison import Evaluated
from embed_pipeline.evaluation.latency import Profile
from embed_pipeline.evaluation.measures import Measure, QueryMeasure, canonical_passages, measure_ideal
from embed_pipeline.evaluation.measuring import (
    BASE_METRICS_FILE,
    HITS_FILE,
    METRICS_FILE,
    PAIR_MEASURE,
    read_calibration,
    read_language_pairs,
    read_returned,
    read_scores,
)
from embed_pipeline.evaluation.query_metrics import read_hits, read_query_metrics
from embed_pipeline.evaluation.slices import slice_queries
from embed_pipeline.graph.catalogue import ALL, DATASET_ASSETS
from embed_pipeline.graph.graph import Graph, MissingInputError
from embed_pipeline.graph.lineage import find_version, measured_lineage, trace, version_of
from embed_pipeline.graph.topology import Node
from embed_pipeline.project.variants import Variant
from embed_pipeline.records import EVALUATED_SPLIT
from embed_pipeline.reporting.database import Batch, Standing
from embed_pipeline.reporting.metrics_table import (
    ALL_QUERIES,
    PART_MEASURES,
    MeasuredPart,
    MeasuredVariant,
    MetricRow,
    read_rows,
    stamp_rows,
)
from embed_pipeline.reporting.outcomes import Outcomes, VariantResult, collect_outcomes
from embed_pipeline.reporting.report_data import DatasetReport, HistoryPoint, VariantScores
from embed_pipeline.reporting.word_map import draw_word_map
from embed_pipeline.synthesis.assembling import describe_generators

ROWS_FILE = "rows.jsonl"
"""In the artifact of metrics_table."""
OTHER_DATA, OTHER_RECIPE = "other data", "another recipe"


def measured_variants(graph: Graph, inputs: Mapping[str, str]) -> Iterator[MeasuredVariant]:
    """Every variant whose figures are among the inputs of a plan, as they are there, with its parts, in the project's
    order."""
    known: dict[str, _TestSet] = {}
    for variant in graph.project.variants.values():
        measured = _planned(graph, _metrics_node(variant), inputs)
        if measured is None:
            continue
        lineage = measured_lineage(graph, variant, measured)
        test_set = known.setdefault(lineage.cleaned_digest, _TestSet(graph.store.open(lineage.cleaned_digest)))
        dataset, ideal = test_set.dataset, test_set.ideal
        folder = graph.store.open(measured)
        measures = read_query_metrics(folder / METRICS_FILE)
        headline = graph.project.headline(variant.dataset)
        parts = [
            *_slices(variant.dataset, dataset, measures, ideal, headline),
            *_language_pairs(variant.dataset, folder),
            *_general_suite(graph, variant, inputs, known),
        ]
        yield MeasuredVariant(
            dataset=variant.dataset,
            variant=variant.name,
            split=EVALUATED_SPLIT,
            query_measures=measures,
            ideal=ideal,
            lineage=lineage,
            synthetic=describe_generators(dataset.queries_of(EVALUATED_SPLIT)),
            parts=parts,
        )


def measured_again(graph: Graph) -> tuple[Evaluated, ...]:
    """The variants whose figures changed since the metrics table that stands now, with both evaluations."""
    table, found = graph.store.read("metrics_table", ALL), []
    if table is None:
        return ()
    for variant in _measured(graph):
        before, after = table.inputs.get(f"query_metrics[{variant.key}]"), graph.input(_metrics_node(variant)).digest
        if before not in (None, after):
            sides = [read_query_metrics(graph.store.open(digest) / METRICS_FILE) for digest in (before, after)]
            found.append(Evaluated(variant.key, graph.project.headline(variant.dataset), sides[0], sides[1]))
    return tuple(found)


def profiles(graph: Graph) -> dict[tuple[str, str], Profile]:
    """What using each measured variant takes, by data set and variant."""
    found = {}
    for variant in _measured(graph):
        profile = graph.input(_metrics_node(variant)).details.get("profile")
        if isinstance(profile, dict):
            found[variant.dataset, variant.name] = Profile(**profile)  # pyright: ignore[reportArgumentType]
    return found


def collect_report(
    graph: Graph, name: str, rows: tuple[MetricRow, ...], history: tuple[MetricRow, ...]
) -> DatasetReport:
    """Everything that the report of one data set shows; `rows` and `history` may hold other data sets too."""
    settings, headline = graph.project.datasets[name], graph.project.headline(name)
    own = [variant for variant in _measured(graph) if variant.dataset == name]
    folders = {variant.name: graph.store.open(graph.input(_metrics_node(variant))) for variant in own}
    points = [row for row in history if row.dataset == name and row.covers_own_queries and row.at == headline]
    return DatasetReport(
        dataset=name,
        description=settings.description,
        rows=tuple(row for row in rows if row.dataset == name),
        history=tuple(HistoryPoint(r.variant, r.evaluated_at, r.value, r.low, r.high) for r in points),
        scores=tuple(_scores(key, at) for key, at in folders.items()),
        outcomes=tuple(_outcomes(graph, name, own, folders, headline)),
        word_map=_word_map(graph, own),
        training_seconds={v.name: seconds for v in own if (seconds := training_seconds(graph, v)) is not None},
    )


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
                    outdated=outdated_because(graph, variant, measured),
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


def _metrics_node(variant: Variant) -> Node:
    return Node("query_metrics", variant.key)


def _planned(graph: Graph, node: Node, inputs: Mapping[str, str]) -> Manifest | None:
    """The version of a node that a plan names, whatever stands now; None where it names none."""
    digest = inputs.get(str(node))
    return version_of(graph, node, digest) if digest else None


def _measured(graph: Graph) -> list[Variant]:
    return [v for v in graph.project.variants.values() if graph.store.read("query_metrics", v.key) is not None]


class _TestSet:
    """A cleaned data set and what the best ranking scores on it, each read or computed once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def dataset(self) -> RetrievalDataset:
        return read_dataset(self._folder)

    @cached_property
    def ideal(self) -> tuple[QueryMeasure, ...]:
        query_ids = [query.id for query in self.dataset.queries_of(EVALUATED_SPLIT)]
        return measure_ideal(self.dataset.judgments, query_ids, canonical=canonical_passages(self.dataset.passages))


def _slices(
    name: str,
    dataset: RetrievalDataset,
    measures: tuple[QueryMeasure, ...],
    ideal: tuple[QueryMeasure, ...],
    headline: Measure,
) -> Iterator[MeasuredPart]:
    wanted = {headline, *PART_MEASURES}
    for found in slice_queries(dataset, EVALUATED_SPLIT):
        ids = set(found.query_ids)
        of_slice, best = (
            [result for result in results if result.measure in wanted and result.query_id in ids]
            for results in (measures, ideal)
        )
        yield MeasuredPart(name, str(found), of_slice, best)


def _language_pairs(name: str, folder: Path) -> Iterator[MeasuredPart]:
    for pair in read_language_pairs(folder):
        # Every query of a pair has a relevant passage there, so the best ranking has it first.
        best = [QueryMeasure(result.query_id, PAIR_MEASURE, 1.0) for result in pair.query_measures]
        yield MeasuredPart(name, str(pair), pair.query_measures, best)


def _general_suite(
    graph: Graph, variant: Variant, inputs: Mapping[str, str], known: dict[str, _TestSet]
) -> Iterator[MeasuredPart]:
    manifest = _planned(graph, Node("general_metrics", variant.key), inputs)
    if manifest is None:
        return
    folder = graph.store.open(manifest)
    for suite in graph.project.datasets[variant.dataset].general_suite:
        cleaned = manifest.inputs.get(f"cleaned_qa[{suite}]")
        if cleaned is None or not (folder / suite).is_dir():
            continue
        base = folder / suite / BASE_METRICS_FILE
        test_set = known.setdefault(cleaned, _TestSet(graph.store.open(cleaned)))
        yield MeasuredPart(
            measured_on=suite,
            slice=ALL_QUERIES,
            query_measures=_only(PART_MEASURES, read_query_metrics(folder / suite / METRICS_FILE)),
            ideal=_only(PART_MEASURES, test_set.ideal),
            base=_only(PART_MEASURES, read_query_metrics(base)) if base.is_file() else None,
        )


def _only(wanted: tuple[Measure, ...], results: tuple[QueryMeasure, ...]) -> list[QueryMeasure]:
    return [result for result in results if result.measure in wanted]


def _scores(variant: str, folder: Path) -> VariantScores:
    return VariantScores(variant, read_scores(folder), read_calibration(folder), read_returned(folder))


def _outcomes(
    graph: Graph, name: str, variants: list[Variant], folders: Mapping[str, Path], headline: Measure
) -> Iterator[Outcomes]:
    cleaned = {variant.name: _cleaned(graph, variant) for variant in variants}
    baseline = graph.project.datasets[name].baseline_variant
    if baseline is None or baseline not in folders:
        return
    dataset = read_dataset(graph.store.open(cleaned[baseline]))
    parts = {"queries": dataset.queries, "passages": dataset.passages, "judgments": dataset.judgments}
    base = _result(baseline, folders[baseline])
    for variant in variants:
        # Two test sets cannot be compared query by query.
        if variant.name != baseline and cleaned[variant.name] == cleaned[baseline]:
            result = _result(variant.name, folders[variant.name])
            yield collect_outcomes(base, result, dataset=name, split=EVALUATED_SPLIT, measure=headline, **parts)


def _result(name: str, folder: Path) -> VariantResult:
    return VariantResult(name, read_query_metrics(folder / METRICS_FILE), read_hits(folder / HITS_FILE))


def _cleaned(graph: Graph, variant: Variant) -> str:
    measured: Manifest = graph.input(_metrics_node(variant))
    return measured.inputs[f"cleaned_qa[{variant.dataset}]"]


def _word_map(graph: Graph, variants: list[Variant]) -> str | None:
    for variant in variants:
        manifest = graph.store.read("word_vectors", variant.key)
        if manifest is not None:
            return draw_word_map(read_word_vectors(graph.store.open(manifest)))
    return None


def outdated_because(graph: Graph, variant: Variant, measured: Manifest) -> str | None:
    """Of what else than today's the figures of a variant are: OTHER_DATA or OTHER_RECIPE; None where they are not."""
    cleaned = graph.stored(Node("cleaned_qa", variant.dataset))
    if cleaned is not None and measured.inputs.get(f"cleaned_qa[{variant.dataset}]") != cleaned.digest:
        return OTHER_DATA
    return OTHER_RECIPE if is_of_another_recipe(graph, measured) else None


def is_of_another_recipe(graph: Graph, measured: Manifest) -> bool:
    """Whether figures, or what they stand on above the data, were made with other settings than those of today."""
    known = set(graph.nodes())
    links = trace(graph, Node(measured.asset, measured.partition), measured.digest)
    return any(
        is_of_other_settings(graph, link.node, link.version)
        for link in links
        if link.version is not None and link.node in known and link.node.asset not in DATASET_ASSETS
    )


def is_of_other_settings(graph: Graph, node: Node, version: Manifest) -> bool:
    """Whether a version was made with other settings than those of today."""
    try:
        changes = graph.plan(node).differences(version)
    except (MissingInputError, ValueError, OSError):  # it cannot be made today; that it was is all that is known
        return False
    return any(change.kind == "setting" for change in changes)


def _profiles(graph: Graph, table: Manifest) -> Iterator[tuple[tuple[str, str], Profile]]:
    """What using each variant took, as the version of its figures that the table was made from says."""
    for name, digest in table.inputs.items():
        node = Node.parse(name)
        if node.asset != "query_metrics":
            continue
        version, (dataset, _, variant) = find_version(graph, node, digest), node.partition.partition("/")
        profile = version.details.get("profile") if version else None
        if isinstance(profile, dict):
            yield (dataset, variant), Profile(**profile)  # pyright: ignore[reportArgumentType]
