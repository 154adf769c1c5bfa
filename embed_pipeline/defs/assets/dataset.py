"""Assets of the stage `dataset`: the raw files of either kind, and the clean data set made from them.

Does not belong here: what is checked of a clean data set (dataset_checks).
"""

from dataclasses import asdict
from functools import partial
from pathlib import Path

import dagster as dg

from embed_pipeline.artifacts import Manifest
from embed_pipeline.dataset.cleaning import CleanedData, clean_workbooks, write_cleaned
from embed_pipeline.dataset.facts import data_facts
from embed_pipeline.dataset.formats import CORPUS_FILE, read_dataset, read_passages
from embed_pipeline.dataset.ledger import LEDGER_FILE, read_ledger, summarise_ledger
from embed_pipeline.dataset.pairs import clean_pairs
from embed_pipeline.dataset.raw_files import copy_verified, temporary_files
from embed_pipeline.dataset.settings import DatasetSettings
from embed_pipeline.defs.assets import dataset_checks as checks
from embed_pipeline.defs.assets.publishing import Assets, asset_options, materialized, table
from embed_pipeline.defs.checks import describe_outcomes, outcomes_of, results
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.defs.resources import PipelineResource, Step
from embed_pipeline.graph.graph import FACTS
from embed_pipeline.graph.source_settings import planned_files
from embed_pipeline.paths import path_inside
from embed_pipeline.records import SPLITS
from embed_pipeline.synthesis.assembling import assemble_cleaned
from embed_pipeline.synthesis.questions import QUESTIONS_FILE, read_questions

SAMPLE_ROWS = 10
LEDGER_ROWS = 200
LOGGED_ROWS = 10_000


def define_assets(partitions: Partitions) -> Assets:
    """The assets `raw_xlsx`, `raw_pairs` and `cleaned_qa`."""
    options = partial(asset_options, partitions, group="dataset")

    @dg.asset(**options("raw_xlsx", kinds={"excel"}))
    def raw_xlsx(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """The workbooks and the label list of a data set, byte for byte as they lie in its folder.

        The data version is the digest of the bytes: what was measured stays traceable after the files have changed.
        """
        step = pipeline.step(context)
        manifest = step.build(lambda out: copy_raw_files(step, out))
        return raw_materialized(step, manifest)

    @dg.asset(**options("raw_pairs", kinds={"json"}))
    def raw_pairs(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """The files of question-passage pairs of a data set, byte for byte as they lie in its folder."""
        step = pipeline.step(context)
        manifest = step.build(lambda out: copy_raw_files(step, out))
        return raw_materialized(step, manifest)

    @dg.asset(**options("cleaned_qa", kinds={"python"}, specs=checks.SPECS))
    def cleaned_qa(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """One data set: a row per query with its split, a row per passage, a row per judgment, a ledger of rejects.

        A query is one distinct question with the labels of all its rows. Its split is a hash of its text, so appended
        rows move no old query.
        """
        step = pipeline.step(context)
        manifest = step.build(lambda out: _clean(step, out))
        folder = step.open(manifest)
        dataset = read_dataset(folder)
        texts, relevant = {p.id: p.text for p in dataset.passages}, dataset.relevant()
        samples = [
            {"query": q.text, "split": q.split, "relevant": ", ".join(texts[passage] for passage in relevant[q.id])}
            for q in dataset.queries[:SAMPLE_ROWS]
        ]
        entries = read_ledger(folder / LEDGER_FILE)
        reasons = [{"reason": reason, "entries": count} for reason, count in summarise_ledger(entries).items()]
        ledger = [asdict(entry) for entry in entries[:LEDGER_ROWS]]
        metadata = {"samples": table(samples), "rejected_by_reason": table(reasons), "ledger": table(ledger)}
        rows, checked = len(dataset.queries), results(outcomes_of(manifest), checks.SPECS)
        return materialized(manifest, rows=rows, folder=folder, metadata=metadata, checks=checked)

    return [raw_xlsx, raw_pairs, cleaned_qa]


def copy_raw_files(step: Step, out: Path) -> dict[str, object]:
    """Copy the raw files of the step's data set into `out`, under the paths that they have below its folder.

    Raises:
        ValueError: a file changed since its digest was planned; it is still being written.
    """
    folder, planned = step.project.folder(step.dataset), planned_files(step.plan)
    for name, digest in planned.items():
        copy_verified(folder / name, path_inside(out, name), digest)
    ignored = temporary_files(folder)
    for name in ignored:
        step.context.log.info(f"{name} is a lock file or a download under way: ignored")
    return {"files": ", ".join(planned), **({"ignored": ", ".join(ignored)} if ignored else {})}


def raw_materialized(step: Step, manifest: Manifest) -> dg.MaterializeResult:
    """The materialisation of copied files: one row per file."""
    folder = step.open(manifest)
    return materialized(manifest, rows=sum(path.is_file() for path in folder.rglob("*")), folder=folder)


def _clean(step: Step, out: Path) -> dict[str, object]:
    settings = step.project.datasets[step.dataset]
    cleaned = _clean_raw(step, settings)
    write_cleaned(cleaned, out)
    dataset = read_dataset(out)
    sizes = {f"{split}_queries": len(dataset.queries_of(split)) for split in SPLITS}
    outcomes = checks.check_cleaned(dataset, cleaned, settings, files=cleaned.files)
    counts = {"queries": len(dataset.queries), "passages": len(dataset.passages), "rejects": len(cleaned.ledger)}
    facts = {FACTS: data_facts(dataset).model_dump(mode="json")}
    return {**counts, **sizes, **facts, **describe_outcomes(outcomes)}


def _clean_raw(step: Step, settings: DatasetSettings) -> CleanedData:
    if settings.source == "workbooks":
        return clean_workbooks(step.folder("raw_xlsx"), settings, progress=step.log_tally("read", "rows", LOGGED_ROWS))
    if settings.source == "pairs":
        return clean_pairs(step.folder("raw_pairs"), settings)
    passages, questions = step.folder("passages"), step.folder("synthetic_qa")
    ledger = (*read_ledger(passages / LEDGER_FILE), *read_ledger(questions / LEDGER_FILE))
    return assemble_cleaned(
        tuple(read_passages(passages / CORPUS_FILE)), read_questions(questions / QUESTIONS_FILE), ledger
    )
