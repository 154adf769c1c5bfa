"""Assets and checks of the stage `retrieval`: a variant's index, and what the scores of a hybrid one weigh.

Checked: does an index that is not exact find what an exact one finds?
"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

import dagster as dg

from embed_pipeline.dataset.formats import CORPUS_FILE, PassageFile, read_dataset
from embed_pipeline.defs.assets.publishing import Assets, asset_options, materialized, picture, table
from embed_pipeline.defs.checks import CheckOutcome, describe_outcomes, outcomes_of, results
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.defs.resources import PipelineResource, Step
from embed_pipeline.evaluation.weighing import weigh_scores
from embed_pipeline.reporting.plots import plot_weighing
from embed_pipeline.retrieval.faiss_index import RECALL_AT, IndexSettings
from embed_pipeline.retrieval.hybrid import read_weighing, write_weighing
from embed_pipeline.retrieval.searching import RECALL_DETAIL, encoding_counts, write_search_index

SAMPLE_ROWS = 10

SPECS = [
    dg.AssetCheckSpec(
        "finds_what_an_exact_search_finds",
        asset="faiss_index",
        description=f"The index finds at least index.recall_at_least of the {RECALL_AT} nearest passages of a sample.",
    )
]


def define_assets(partitions: Partitions) -> Assets:
    """The assets `faiss_index` and `hybrid_weights`."""
    options = partial(asset_options, partitions, group="retrieval")

    @dg.asset(**options("faiss_index", kinds={"faiss"}, cost="may_be_paid", specs=SPECS))
    def faiss_index(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """One index per variant: every passage of the corpus with its row id, under that variant's encoder.

        Variants with vectors hold a Faiss inner-product index, BM25 and TF-IDF their scores, fused and hybrid both.
        """
        step = pipeline.step(context)
        manifest = step.build(lambda out: _build_index(step, out))
        passages = PassageFile(step.folder("cleaned_qa") / CORPUS_FILE)
        metadata = {"samples": table([{"row": row, "passage": p.text} for row, p in enumerate(passages[:SAMPLE_ROWS])])}
        checked = results(outcomes_of(manifest), SPECS)
        return materialized(manifest, rows=len(passages), folder=step.open(manifest), metadata=metadata, checks=checked)

    @dg.asset(**options("hybrid_weights", kinds={"numpy"}, cost="may_be_paid"))
    def hybrid_weights(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """What the best clause's, the lexical, the classifier's score and hubness weigh beside the whole question's.

        All weights of the recipe are measured on the validation queries; test queries never count. Rows: weights.
        """
        step = pipeline.step(context)
        manifest = step.build(lambda out: _weigh(step, out))
        folder = step.open(manifest)
        weighing = read_weighing(folder)
        metadata = {
            "sweep": picture(plot_weighing(weighing), f"{weighing.measure} on validation by weights"),
            "pairs": table([asdict(point) for point in weighing.points]),
        }
        return materialized(manifest, rows=len(weighing.points), folder=folder, metadata=metadata)

    return [faiss_index, hybrid_weights]


def _weigh(step: Step, out: Path) -> dict[str, object]:
    search, dataset = step.search(), read_dataset(step.folder("cleaned_qa"))
    weighing = weigh_scores(search, dataset, step.project.headline(step.dataset))
    write_weighing(weighing, out)
    chosen = weighing.chosen
    step.context.log.info(
        f"{weighing.measure} on validation: {100 * weighing.points[0].value:.1f} % with the smallest weights, "
        f"{100 * chosen.value:.1f} % with parts {chosen.parts:g}, lexical {chosen.lexical:g}, classifier "
        f"{chosen.classifier:g}, hubness {chosen.hubness:g}"
    )
    return {**asdict(chosen), "measure": weighing.measure, **encoding_counts(search.encoder)}


def _build_index(step: Step, out: Path) -> dict[str, object]:
    search = step.search()
    folder = step.folder("cleaned_qa")
    questions = read_dataset(folder) if search.learns_from_questions else None
    found = write_search_index(search, PassageFile(folder / CORPUS_FILE), out, questions=questions)
    return {**found, **describe_outcomes(check_index(found, search.index))}


def check_index(found: Mapping[str, object], settings: IndexSettings) -> list[CheckOutcome]:
    """The recall that was measured while the index was built; an exact index passes and says so."""
    recall = found.get(RECALL_DETAIL)
    figures: dict[str, float | int | str] = {"kind": str(found["kind"])}
    if isinstance(recall, float):
        figures |= {"recall": recall, "limit": settings.recall_at_least}
    return [
        CheckOutcome(
            name="finds_what_an_exact_search_finds",
            passed=not isinstance(recall, float) or recall >= settings.recall_at_least,
            figures=figures,
            remedy="Raise index.ivf_probes or index.hnsw_ef_search, keep more bytes a passage, or search exactly.",
        )
    ]
