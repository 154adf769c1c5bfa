"""Assets and checks of the stage `mining`: what a trained variant learns from.

Checked: are the negatives negative, and are they hard?
"""

import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import dagster as dg

from embed_pipeline.cluster.searching import ClusterBlocks
from embed_pipeline.dataset.formats import CORPUS_FILE, RetrievalDataset, read_dataset, write_passage_line
from embed_pipeline.defs.assets.publishing import Assets, asset_options, detail_table, materialized, picture, table
from embed_pipeline.defs.checks import CheckOutcome, describe_outcomes, outcomes_of, results
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.defs.resources import PipelineResource, Step
from embed_pipeline.mining.candidates import MiningCorpus, encode_to_file
from embed_pipeline.mining.groups import Replay, TrainingGroup, draw_replay, positive_groups, read_groups, write_groups
from embed_pipeline.mining.negatives import mine
from embed_pipeline.mining.report import MiningReport, choose_examples, report_mined, report_unmined, score_gaps
from embed_pipeline.mining.settings import MiningSettings
from embed_pipeline.project.recipes import required
from embed_pipeline.records import Judgment
from embed_pipeline.reporting.plots import plot_score_gaps
from embed_pipeline.retrieval.lexical import LexicalSettings
from embed_pipeline.training.validation_task import VALIDATION_FILE, write_validation

GROUPS_FILE = "groups.jsonl"

HARDNESS_LIMIT = 0.1
FULL_GROUPS_LIMIT = 0.5

SPECS = [
    dg.AssetCheckSpec(
        "no_negative_is_a_positive",
        asset="mined_negatives",
        blocking=True,
        description="No passage judged relevant for a query is among its negatives.",
    ),
    dg.AssetCheckSpec(
        "negatives_are_harder_than_random",
        asset="mined_negatives",
        description=f"Negatives lie at least {HARDNESS_LIMIT:.0%} of the way from random passages to the positives.",
    ),
    dg.AssetCheckSpec(
        "most_groups_have_all_their_negatives",
        asset="mined_negatives",
        description=f"At least {FULL_GROUPS_LIMIT:.0%} of the groups hold as many negatives as asked for.",
    ),
]


def define_assets(partitions: Partitions) -> Assets:
    """The asset `mined_negatives`."""
    options = partial(asset_options, partitions, group="mining")

    # The weights of an earlier round (mining.weights) are an input of the plan and no dependency here: Dagster refuses
    # two assets that lead to each other, even where their partitions do not.
    @dg.asset(**options("mined_negatives", kinds={"faiss"}, cost="may_be_paid", specs=SPECS))
    def mined_negatives(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """One training group per train query: its positives and hard negatives with the scores they were judged by.

        The corpus lies beside the groups, so that training reads this artifact and nothing else. A second round
        (mining.weights) also stands on another variant's checkpoint, see `inputs`.
        """
        step = pipeline.step(context)
        manifest = step.build(lambda out: _mine(step, out))
        folder = step.open(manifest)
        groups = read_groups(folder / GROUPS_FILE)
        metadata = {
            "examples": table(_examples(groups)),
            "report": detail_table(manifest, "report"),
            "score_gaps": picture(plot_score_gaps(score_gaps(groups)), "score gaps of the negatives"),
        }
        rows, checked = len(groups), results(outcomes_of(manifest), SPECS)
        return materialized(manifest, rows=rows, folder=folder, metadata=metadata, checks=checked)

    return [mined_negatives]


def _mine(step: Step, out: Path) -> dict[str, object]:
    cleaned, settings = step.folder("cleaned_qa"), required(step.variant.recipe.mining, "mining")
    dataset = read_dataset(cleaned)
    groups, report, counts = _mined(step, dataset, settings) if settings.number else _unmined(dataset)
    replay = _replay(step, dataset, settings)
    write_groups((*groups, *replay.groups), out / GROUPS_FILE)
    shutil.copyfile(cleaned / CORPUS_FILE, out / CORPUS_FILE)
    with (out / CORPUS_FILE).open("a", encoding="utf-8") as file:
        for passage in replay.passages:
            write_passage_line(passage, file)
    training = step.variant.recipe.training_settings
    if training and training.validation:
        write_validation(dataset.queries_of("validation"), dataset.judgments, out / VALIDATION_FILE)
    outcomes = check_negatives(groups, dataset.judgments, report, asked=settings.number)
    counts = {"groups": len(groups), "replayed_groups": len(replay.groups), **counts}
    return {**counts, "report": report.to_json(), **describe_outcomes(outcomes)}


Mined = tuple[tuple[TrainingGroup, ...], MiningReport, dict[str, int]]
"""Groups, what is reported on them, and what it cost."""


def _unmined(dataset: RetrievalDataset) -> Mined:
    queries = dataset.queries_of("train")
    groups = positive_groups(queries, dataset.passages, dataset.judgments)
    return groups, report_unmined(groups, queries), {"texts_encoded": 0, "texts_from_cache": 0}


def _mined(step: Step, dataset: RetrievalDataset, settings: MiningSettings) -> Mined:
    encoder, reranker, queries = step.mining_encoder(), step.reranker(), dataset.queries_of("train")
    lexical = LexicalSettings(language=step.project.datasets[step.dataset].language)
    cluster = step.pipeline.cluster()
    with step.work_folder() as work:
        query_vectors = encoder.encode_queries([query.text for query in queries])
        texts = [passage.text for passage in dataset.passages]
        vectors = encode_to_file(encoder.encode_passages, texts, encoder.dimension, work / "passages.npy")
        corpus, device = MiningCorpus.of(dataset.passages, vectors), step.pipeline.runtime().device
        mined = mine(
            corpus,
            queries,
            query_vectors,
            dataset.judgments,
            settings,
            reranker=reranker,
            lexical=lexical,
            device=device,
            elsewhere=ClusterBlocks(cluster) if cluster else None,
        )
        report = report_mined(mined, corpus, queries, query_vectors, settings, reranker=reranker)
    counts = {"texts_encoded": encoder.encoded, "texts_from_cache": encoder.served}
    if reranker:
        counts |= {"pairs_scored": reranker.scored, "pairs_from_cache": reranker.served}
    return mined.groups, report, counts


def _replay(step: Step, dataset: RetrievalDataset, settings: MiningSettings) -> Replay:
    if settings.replay is None:
        return Replay((), ())
    return draw_replay(
        read_dataset(step.folder("cleaned_qa", settings.replay.dataset)),
        settings.replay,
        own_queries=len(dataset.queries_of("train")),
        own_passages=dataset.passages,
        seed=settings.seed,
    )


def _examples(groups: Sequence[TrainingGroup]) -> list[dict[str, str]]:
    """Ten groups to read, smallest gap first: passages with their scores, negatives with their miners."""
    return [
        {
            "query": group.query,
            "positives": _scored(group.positives, group.positive_scores),
            "hard negatives": _scored(group.negatives, group.negative_scores, group.negative_sources),
        }
        for group in choose_examples(groups)
    ]


def _scored(texts: Sequence[str], scores: Sequence[float], sources: Sequence[str] = ()) -> str:
    places = [f", {source}" for source in sources] or [""] * len(texts)
    return " · ".join(f"{text} ({score:g}{place})" for text, score, place in zip(texts, scores, places, strict=True))


def check_negatives(
    groups: Sequence[TrainingGroup], judgments: Iterable[Judgment], report: MiningReport, *, asked: int
) -> list[CheckOutcome]:
    """Positives among the negatives, counted from the judgments; hardness and full groups from the report.

    `asked` is how many negatives a query was to get; where it is 0, their hardness is no question.
    """
    relevant: defaultdict[str, set[str]] = defaultdict(set)
    for judgment in judgments:
        if judgment.grade > 0:
            relevant[judgment.query_id].add(judgment.passage_id)
    wrong = sum(len(relevant[group.query_id] & set(group.negative_ids)) for group in groups)
    hardness = report.hardness_against_random
    full = (report.groups - report.short_groups) / report.groups if report.groups else 0.0
    return [
        CheckOutcome(
            name="no_negative_is_a_positive",
            passed=wrong == 0,
            blocking=True,
            figures={"positives_among_negatives": wrong, "groups": len(groups)},
            remedy="Report this as a defect of the miner; train with another range until it is mended.",
        ),
        CheckOutcome(
            name="negatives_are_harder_than_random",
            passed=asked == 0 or (hardness is not None and hardness >= HARDNESS_LIMIT),
            figures={
                "hardness_against_random": _hardness(hardness, asked),
                "limit": HARDNESS_LIMIT,
            },
            remedy="Narrow the mining range (range_end), or use a stronger base encoder.",
        ),
        CheckOutcome(
            name="most_groups_have_all_their_negatives",
            passed=full >= FULL_GROUPS_LIMIT,
            figures={
                "share_of_full_groups": round(full, 4),
                "short_groups": report.short_groups,
                "groups": report.groups,
                "limit": FULL_GROUPS_LIMIT,
            },
            remedy="With candidates: corpus negatives are not needed. Otherwise the base scores positives too low: "
            "use a stronger base encoder, or loosen margin_relative.",
        ),
    ]


def _hardness(found: float | None, asked: int) -> float | str:
    if asked == 0:
        return "no negatives asked for"
    return "unknown" if found is None else found
