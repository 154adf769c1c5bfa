"""Assets of the stage `training`: the fine-tuned encoder, and the word vectors of the baseline from before."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import dagster as dg

from embed_pipeline.dataset.formats import read_dataset
from embed_pipeline.defs.assets.publishing import ASSET_OPTIONS, Assets, materialized, picture, svg_picture, table
from embed_pipeline.defs.catalogue import CODE_VERSIONS
from embed_pipeline.defs.checks import training as checks
from embed_pipeline.defs.checks.outcome import describe_outcomes, outcomes_of, results
from embed_pipeline.defs.node_settings import word_vector_settings
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.defs.resources import PipelineResource, Step
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.encoding.word_vectors import read_word_vectors, train_word_vectors, write_word_vectors
from embed_pipeline.recipes import required
from embed_pipeline.reporting.training_plots import TrainingPoint, plot_training
from embed_pipeline.reporting.word_map import draw_word_map
from embed_pipeline.training.checkpoint import check_trainable
from embed_pipeline.training.finetune import (
    EVENTS_FOLDER,
    LOG_FILE,
    OWNER_FILE,
    PROGRESS_FOLDER,
    REASON_FILE,
    SAVE_STEPS,
    SPEED_FILE,
    SUMMARY_FILE,
    FinetuneJob,
    run_process_group,
    torchrun_command,
    work_prefix,
    worker_environment,
)
from embed_pipeline.training.validation_task import VALIDATION_FILE

GPU_POOL = "gpu"


def define_assets(partitions: Partitions) -> Assets:
    """The assets `finetuned_checkpoint` and `word_vectors`."""

    @dg.asset(
        partitions_def=partitions.of("finetuned_checkpoint"),
        deps=partitions.deps("finetuned_checkpoint"),
        check_specs=checks.SPECS,
        pool=GPU_POOL,
        group_name="training",
        kinds={"pytorch", "huggingface"},
        code_version=CODE_VERSIONS["finetuned_checkpoint"],
        **ASSET_OPTIONS,
    )
    def finetuned_checkpoint(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """One model directory per trained variant; FlagEmbedding, sentence-transformers and transformers load it alike.

        Weights are safetensors; training_log.jsonl beside them holds loss and learning rate per logged step.
        """
        step = pipeline.step(context)
        manifest = step.build(lambda out: _finetune(step, out))
        log = read_training_log(step.open(manifest) / LOG_FILE)
        curves = plot_training(_training_points(log, manifest.details.get("queries_per_second")))
        metadata = {"curves": picture(curves, "the course of the training"), "last_steps": table(log[-5:])}
        return materialized(manifest, metadata=metadata, checks=results(outcomes_of(manifest)))

    @dg.asset(
        partitions_def=partitions.of("word_vectors"),
        deps=partitions.deps("word_vectors"),
        group_name="training",
        kinds={"gensim"},
        code_version=CODE_VERSIONS["word_vectors"],
        **ASSET_OPTIONS,
    )
    def word_vectors(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """One vector per word of the corpus and the train queries of a word2vec variant, by skip-gram."""
        step = pipeline.step(context)
        manifest = step.build(lambda out: _train_words(step, out))
        drawing = draw_word_map(read_word_vectors(step.open(manifest)))
        metadata = {"word_map": svg_picture(drawing, "the most frequent words")} if drawing else {}
        return materialized(manifest, metadata=metadata)

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
    mined, recipe, runtime = step.folder("mined_negatives"), step.variant.recipe, step.pipeline.runtime()
    training = required(recipe.training, "training")
    base = load_local_encoder(step.variant.local_encoder, device=runtime.device)
    check_trainable(base.directory, base.settings)
    with tempfile.TemporaryDirectory(dir=step.project.home, prefix=work_prefix(os.getpid())) as work:
        progress = step.project.home / PROGRESS_FOLDER / step.graph.plan(step.node).fingerprint
        progress.mkdir(parents=True, exist_ok=True)
        (progress / OWNER_FILE).write_text(str(os.getpid()), encoding="utf-8")
        job = FinetuneJob(
            groups=mined / "groups.jsonl",
            corpus=mined / "corpus.jsonl",
            base=base.directory,
            work=Path(work),
            output=out,
            encoder=base.settings,
            validation=mined / VALIDATION_FILE if training.validation else None,
            progress=progress,
            save_steps=SAVE_STEPS,
            tensorboard=step.project.home / EVENTS_FOLDER / step.variant.key / step.context.run_id,
            training=training,
            device=runtime.device,
        )
        job_file = Path(work) / "job.json"
        job_file.write_text(job.model_dump_json(indent=2), encoding="utf-8")
        with dg.open_pipes_session(
            context=step.context,
            context_injector=dg.PipesTempFileContextInjector(),
            message_reader=dg.PipesTempFileMessageReader(),
        ) as session:
            environment = {**worker_environment(threads=runtime.threads), **session.get_bootstrap_env_vars()}
            try:
                run_process_group(torchrun_command(job_file, processes=runtime.processes), environment=environment)
            except RuntimeError as error:
                reason = Path(work) / REASON_FILE
                if reason.is_file():
                    shutil.rmtree(progress)  # going on would end the same way
                    raise RuntimeError(reason.read_text(encoding="utf-8")) from error
                raise
        speed_file = Path(work) / SPEED_FILE
        # A run that went on from the checkpoint of the last step has nothing to log any more.
        speeds = read_training_log(speed_file) if speed_file.is_file() else []
    shutil.rmtree(progress)
    log, summary = read_training_log(out / LOG_FILE), json.loads((out / SUMMARY_FILE).read_text(encoding="utf-8"))
    outcomes = checks.check_training(log, summary["weight_change"])
    found = {"steps": int(log[-1]["step"]), "final_loss": round(log[-1]["loss"], 4), **describe_outcomes(outcomes)}
    found |= {name: summary[name] for name in ("validation_base", "best_step") if name in summary}
    return {**found, "queries_per_second": {str(int(at["step"])): at["queries_per_second"] for at in speeds}}


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
