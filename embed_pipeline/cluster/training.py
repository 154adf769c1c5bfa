"""Training on a cluster: the processes that torchrun starts on one machine, started by Ray Train on the nodes.

Belongs here: starting them, and starting them again where a node is lost. Does not belong here: what each of them does
(training/worker.py), and going on from the last checkpoint (training/resume.py).
"""

import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from embed_pipeline.cluster.cluster import Cluster, check_seen, worker_variables
from embed_pipeline.training.finetune import REASON_FILE, FinetuneJob

NODES_LOST = 10
"""So often a training is begun again. Its batches need as many processes as before, so it waits for that many."""
_RAY_FOLDER = "ray_train"


def train_on_cluster(cluster: Cluster, job_file: Path, *, processes: int, environment: Mapping[str, str]) -> None:
    """Train a job whose folders all lie in the cluster's storage; returns when `job.output` is written.

    `environment` is given to the processes beside what a training always has.

    Raises:
        RuntimeError: the training ended with an error; if it could not succeed, with the words in its REASON_FILE.
        ValueError: the cluster cannot be joined.
    """
    cluster.join()
    import ray.train  # pyright: ignore[reportMissingImports]
    import ray.train.torch  # pyright: ignore[reportMissingImports]

    job, one = _read(job_file), cluster.worker(processes)
    variables = {**worker_variables(cluster.threads or int(one["CPU"])), **environment}
    trainer = ray.train.torch.TorchTrainer(
        train_here,
        train_loop_config={"job": str(job_file)},
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if cluster.device == "cuda" else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=processes, use_gpu=cluster.device == "cuda", resources_per_worker=dict(one)
        ),
        run_config=ray.train.RunConfig(
            storage_path=str(job.work / _RAY_FOLDER),
            failure_config=ray.train.FailureConfig(max_failures=NODES_LOST),
            worker_runtime_env={"env_vars": variables},
        ),
    )
    waiting = ThreadPoolExecutor(1)  # in the main thread it would put itself in the place of who handles SIGINT
    try:
        waiting.submit(trainer.fit).result()
    except ray.train.TrainingFailedError as error:
        raise RuntimeError(f"the training on {cluster.address} ended with an error, expected none. {error}") from error
    except BaseException:
        ray.shutdown()  # whatever interrupts the wait, no process of it survives
        raise
    finally:
        waiting.shutdown(wait=False)
    if (job.work / REASON_FILE).is_file():
        raise RuntimeError((job.work / REASON_FILE).read_text(encoding="utf-8"))


def train_here(config: Mapping[str, str]) -> None:
    """What each process does on its node. One that cannot succeed is not tried again on another node."""
    job_file = Path(config["job"])
    check_seen(job_file.parent)
    job = _read(job_file)
    reason = job.work / REASON_FILE
    if reason.is_file():
        return
    begin_again(job)
    from embed_pipeline.training.worker import train_job

    try:
        train_job(job_file)
    except ValueError as error:
        reason.write_text(str(error), encoding="utf-8")
        raise


def begin_again(job: FinetuneJob) -> None:
    """Take away what processes that were lost had half written; the checkpoints in `job.progress` stay."""
    import torch

    if os.environ.get("RANK", "0") == "0":
        for folder in (job.work / "base", job.work / "trained", job.output):
            shutil.rmtree(folder, ignore_errors=True)
        job.output.mkdir()
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def _read(job_file: Path) -> FinetuneJob:
    return FinetuneJob.model_validate_json(job_file.read_text(encoding="utf-8"))
