"""Assets and checks of the stage `training`: the fine-tuned encoder, and the word vectors of the baseline from before.

Checked: did the weights learn anything?
"""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, variance

import dagster as dg

from embed_pipeline.cluster.training import train_on_cluster
from embed_pipeline.dataset.formats import read_dataset
from embed_pipeline.defs.assets.publishing import Assets, asset_options, materialized, picture, svg_picture, table
from embed_pipeline.defs.checks import CheckOutcome, describe_outcomes, outcomes_of, results
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.defs.resources import PipelineResource, Step
from embed_pipeline.encoding.local import LocalEncoder
from embed_pipeline.encoding.word_vectors import read_word_vectors, train_word_vectors, write_word_vectors
from embed_pipeline.graph.node_settings import word_vector_settings
from embed_pipeline.graph.precision import precision_of
from embed_pipeline.project.recipes import required
from embed_pipeline.reporting.plots import TrainingPoint, plot_training
from embed_pipeline.reporting.word_map import draw_word_map
from embed_pipeline.training.finetune import (
    LOG_FILE,
    PROGRESS_FOLDER,
    REASON_FILE,
    SPEED_FILE,
    SUMMARY_FILE,
    FinetuneJob,
    check_trainable,
    events_folder,
    run_process_group,
    torchrun_command,
    worker_environment,
)
from embed_pipeline.training.settings import TrainingSettings
from embed_pipeline.training.validation_task import VALIDATION_FILE

_JOB_FILE = "job.json"

SPECS = [
    dg.AssetCheckSpec(
        "loss_is_finite",
        asset="finetuned_checkpoint",
        blocking=True,
        description="Every logged loss is a number.",
    ),
    dg.AssetCheckSpec(
        "loss_fell",
        asset="finetuned_checkpoint",
        description="The last third of the losses is lower than the first by more than the batches differ by chance. "
        "Weights that were trained are measured all the same.",
    ),
    dg.AssetCheckSpec(
        "weights_changed",
        asset="finetuned_checkpoint",
        blocking=True,
        description="Training moved the weights away from the ones it started from.",
    ),
]

_ENOUGH_STEPS = 12
"""With fewer logged steps a third says too little of how much one batch differs from the next."""

_STANDARD_ERRORS = 2.0
"""A fall that is smaller than so many standard errors could be the luck of the batches."""


def define_assets(partitions: Partitions) -> Assets:
    """The assets `finetuned_checkpoint` and `word_vectors`."""
    options = partial(asset_options, partitions, group="training")

    @dg.asset(**options("finetuned_checkpoint", kinds={"pytorch", "huggingface"}, cost="gpu", specs=SPECS))
    def finetuned_checkpoint(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """One model directory per trained variant; FlagEmbedding, sentence-transformers and transformers load it alike.

        Weights are safetensors; training_log.jsonl beside them holds loss and learning rate per logged step.
        """
        step = pipeline.step(context)
        manifest = step.build(lambda out: _finetune(step, out))
        # Only now: a run that was killed while it published goes on from the last of them.
        shutil.rmtree(_progress_folder(step), ignore_errors=True)
        folder = step.open(manifest)
        log = read_training_log(folder / LOG_FILE)
        curves = plot_training(_training_points(log, manifest.details.get("queries_per_second")))
        metadata = {"curves": picture(curves, "the course of the training"), "last_steps": table(log[-5:])}
        return materialized(manifest, folder=folder, metadata=metadata, checks=results(outcomes_of(manifest), SPECS))

    @dg.asset(**options("word_vectors", kinds={"gensim"}))
    def word_vectors(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """One vector per word of the corpus and the train queries of a word2vec variant, by skip-gram."""
        step = pipeline.step(context)
        manifest = step.build(lambda out: _train_words(step, out))
        folder = step.open(manifest)
        vectors = read_word_vectors(folder)
        drawing = draw_word_map(vectors)
        metadata = {"word_map": svg_picture(drawing, "the most frequent words")} if drawing else {}
        return materialized(manifest, rows=len(vectors.words), folder=folder, metadata=metadata)

    return [finetuned_checkpoint, word_vectors]


def read_training_log(path: Path) -> list[dict[str, float]]:
    """The logged steps of a checkpoint: step, epoch, loss, learning_rate, gradient_norm, validation if measured."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _train_words(step: Step, out: Path) -> dict[str, object]:
    dataset, language = read_dataset(step.folder("cleaned_qa")), step.project.datasets[step.dataset].language
    texts = [*(p.text for p in dataset.passages), *(query.text for query in dataset.queries_of("train"))]
    trained = train_word_vectors(texts, word_vector_settings(step.variant.recipe), language)
    write_word_vectors(trained, out)
    return {"texts": len(texts), "words": len(trained.words)}


def _finetune(step: Step, out: Path) -> dict[str, object]:
    base = step.graph.local_encoder(step.variant.local_encoder)
    check_trainable(base.directory, base.settings)
    native = step.graph.native_precision
    asked = required(step.variant.recipe.training_settings, "training").precision
    step.context.log.info(f"precision: {precision_of(step.plan.settings)} (recipe: {asked}; {native.reason})")
    chosen = step.graph.automatic_training(step.project.variants[step.node.partition])
    for line in chosen.lines if chosen else ():
        step.context.log.info(line)
    cluster = step.pipeline.cluster()
    with step.work_folder(cluster.storage if cluster else None) as work:
        job = _write_job(step, base, work, out)
        _run(step, work / _JOB_FILE, work / REASON_FILE)
        if job.output != out:
            shutil.copytree(job.output, out, dirs_exist_ok=True)
        # A run that went on from the checkpoint of the last step has nothing to log any more.
        speeds = read_training_log(work / SPEED_FILE) if (work / SPEED_FILE).is_file() else []
    log, summary = read_training_log(out / LOG_FILE), json.loads((out / SUMMARY_FILE).read_text(encoding="utf-8"))
    outcomes = check_training(log, summary["weight_change"])
    found = {"steps": int(log[-1]["step"]), "final_loss": round(log[-1]["loss"], 4), **describe_outcomes(outcomes)}
    found |= {name: summary[name] for name in ("validation_base", "best_step") if name in summary}
    return {**found, "queries_per_second": {str(int(at["step"])): at["queries_per_second"] for at in speeds}}


def _progress_folder(step: Step) -> Path:
    """Where the checkpoints of this training lie that a killed run goes on from."""
    return _training_home(step) / PROGRESS_FOLDER / step.plan.fingerprint


def _training_home(step: Step) -> Path:
    cluster = step.pipeline.cluster()
    return cluster.storage if cluster else step.project.home  # the nodes of a cluster see its storage alone


def _write_job(step: Step, base: LocalEncoder, work: Path, out: Path) -> FinetuneJob:
    mined, directory, pipeline = step.folder("mined_negatives"), base.directory, step.pipeline
    cluster, home, output = pipeline.cluster(), _training_home(step), out
    if cluster:
        mined, directory, output = cluster.ship(mined), cluster.ship(directory), work / "output"
    training = TrainingSettings.model_validate(step.plan.settings["training"])
    progress = _progress_folder(step)
    progress.mkdir(parents=True, exist_ok=True)
    job = FinetuneJob(
        groups=mined / "groups.jsonl",
        corpus=mined / "corpus.jsonl",
        base=directory,
        work=work,
        output=output,
        encoder=base.settings,
        validation=mined / VALIDATION_FILE if training.validation else None,
        progress=progress,
        save_steps=pipeline.save_steps,
        tensorboard=events_folder(home, step.variant.key, step.plan.fingerprint) if pipeline.tensorboard else None,
        training=training,
        device=pipeline.runtime().device,
    )
    (work / _JOB_FILE).write_text(job.model_dump_json(indent=2), encoding="utf-8")
    return job


def _run(step: Step, job: Path, reason: Path) -> None:
    runtime, cluster = step.pipeline.runtime(), step.pipeline.cluster()
    with dg.open_pipes_session(
        context=step.context,
        context_injector=dg.PipesFileContextInjector(str(job.parent / "pipes_context")),
        message_reader=dg.PipesFileMessageReader(str(job.parent / "pipes_messages")),
    ) as session:
        told = session.get_bootstrap_env_vars()
        try:
            if cluster:
                train_on_cluster(cluster, job, processes=runtime.processes, environment=told)
            else:
                environment = {**worker_environment(threads=runtime.threads), **told}
                command = torchrun_command(job, processes=runtime.processes)
                run_process_group(command, environment=environment, reason=reason)
        except RuntimeError:
            if reason.is_file():
                shutil.rmtree(_progress_folder(step))  # going on would end the same way
            raise


def _training_points(log: list[dict[str, float]], speeds: object) -> list[TrainingPoint]:
    by_step = speeds if isinstance(speeds, dict) else {}
    return [
        TrainingPoint(
            step=int(entry["step"]),
            loss=entry["loss"],
            validation=entry.get("validation"),
            learning_rate=entry.get("learning_rate"),
            gradient_norm=entry.get("gradient_norm"),
            queries_per_second=by_step.get(str(int(entry["step"]))),
        )
        for entry in log
    ]


def check_training(log: Sequence[Mapping[str, float]], weight_change: float) -> list[CheckOutcome]:
    """Loss finite and falling; weights moved (`weight_change` is relative to their length)."""
    losses = [entry["loss"] for entry in log]
    odd = [entry for entry, loss in zip(log, losses, strict=True) if not math.isfinite(loss)]
    return [
        CheckOutcome(
            name="loss_is_finite",
            passed=not odd,
            blocking=True,
            figures={"logged_steps": len(losses), "not_a_number": len(odd)}
            | ({"first_at_step": int(odd[0].get("step", 0))} if odd else {}),
            remedy="Lower learning_rate, or set precision: float32; read the loss curve in the metadata.",
        ),
        _fall([loss for loss in losses if math.isfinite(loss)]),
        CheckOutcome(
            name="weights_changed",
            passed=weight_change > 0,
            blocking=True,
            figures={"relative_weight_change": weight_change},
            remedy="Raise learning_rate or epochs; with float16 look for overflow in the log.",
        ),
    ]


def _fall(losses: Sequence[float]) -> CheckOutcome:
    """Whether the mean loss fell by more than its noise: Welch's standard error of the first and the last third."""
    if len(losses) < _ENOUGH_STEPS:
        figures: dict[str, float | int | str] = {"logged_steps": len(losses), "judged_from": _ENOUGH_STEPS}
        return CheckOutcome(name="loss_fell", passed=True, figures=figures, remedy="")
    third = len(losses) // 3
    first, last = losses[:third], losses[-third:]
    early, late = fmean(first), fmean(last)
    noise = _STANDARD_ERRORS * math.sqrt((variance(first) + variance(last)) / third)
    if early == late == 0.0:
        remedy = (
            "Every loss is 0: the encoder tells these positives from all candidates already. Use harder candidates."
        )
    elif late > early + noise:
        remedy = "It rose: lower learning_rate, or raise warmup_share; read the loss curve in the metadata."
    else:
        remedy = "The table says whether it helped. If not: raise learning_rate or epochs, or use harder candidates."
    return CheckOutcome(
        name="loss_fell",
        passed=early - late > noise,
        figures={
            "mean_of_first_third": f"{early:.4g}",
            "mean_of_last_third": f"{late:.4g}",
            "noise": f"{noise:.2g}",
            "logged_steps": len(losses),
        },
        remedy=remedy,
    )
