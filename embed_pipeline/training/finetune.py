"""Starting a fine-tuning run: the job file, the torchrun command, the process group that dies whole.

Belongs here: what the parent process does, what a base must be like to be trained; it never imports torch. The child is
`worker`.
"""

import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Literal

from pydantic import BaseModel, ConfigDict, Field

from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.layout import read_layout
from embed_pipeline.interruption import end_process_tree, end_with_parent
from embed_pipeline.training.settings import TrainingSettings

LOG_FILE = "training_log.jsonl"
SPEED_FILE = "speed.jsonl"
REASON_FILE = "reason.txt"
_LINES_KEPT, _LINES_SHOWN = 200, 3
_LISTEN_SECONDS = 5.0
_ERROR = re.compile(r"(?:\[rank\d+\]:\s*)?((?:\w+\.)*\w*(?:Error|Exception)\b.*)")
PROGRESS_FOLDER = "training"
EVENTS_FOLDER = "tensorboard"
SUMMARY_FILE = "training_summary.json"
STARTER_VARIABLE = "EMBED_PIPELINE_STARTER"
_WORK_NAME = re.compile(r"training-([0-9a-f]{64})-[a-z0-9_]+")

# glibc hands big buffers back to the system after every step and page faults are dear on virtual machines; keeping them
# makes a training step on CPU 2-5 times faster (docs/adr/0005-allocator.md).
ALLOCATOR_ENVIRONMENT: Mapping[str, str] = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
}


class FinetuneJob(BaseModel):
    """All that the worker needs to know; travels as a JSON file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    groups: Path = Field(description="groups.jsonl of mined_negatives.")
    corpus: Path = Field(description="corpus.jsonl of the data set.")
    base: Path = Field(description="Model directory the training starts from.")
    work: Path = Field(description="Empty directory for intermediate files, thrown away afterwards.")
    output: Path = Field(description="Empty directory that becomes the checkpoint.")
    encoder: EncoderSettings
    validation: Path | None = Field(None, description="validation.jsonl, where the recipe asks for validation.")
    progress: Path | None = Field(None, description="Folder of the training's checkpoints; left out: none are saved.")
    save_steps: int = Field(ge=1, description="Steps between two of them.")
    tensorboard: Path | None = Field(None, description="Folder of event files; left out: none are written.")
    training: TrainingSettings
    device: Literal["cpu", "cuda"]


def work_prefix(fingerprint: str) -> str:
    """The beginning of the name of a folder for intermediate files: it says what is being built in it."""
    return f"training-{fingerprint}-"


def abandoned_work(home: Path, is_building: Callable[[str], bool]) -> tuple[Path, ...]:
    """Such folders of what nobody is building (ArtifactStore.is_building): what a killed run left behind.

    A folder whose name only begins like that is somebody else's.
    """
    found = ((path, _WORK_NAME.fullmatch(path.name)) for path in sorted(home.glob("training-*-*")))
    return tuple(path for path, name in found if name and path.is_dir() and not is_building(name[1]))


def events_folder(home: Path, variant: str, fingerprint: str) -> Path:
    """Where the event files of one training lie, those of its interrupted runs beside each other."""
    return home / EVENTS_FOLDER / variant / fingerprint


def checkpoint_steps(progress: Path) -> tuple[int, ...]:
    """The steps at which an unfinished training can be taken up again, in order; none without the folder."""
    numbers = (path.name.partition("-")[2] for path in progress.glob("checkpoint-*"))
    return tuple(sorted(int(number) for number in numbers if number.isdecimal()))


def torchrun_command(job: Path, *, processes: int) -> tuple[str, ...]:
    """The command that trains `job` in `processes` worker processes on this machine, meeting on 127.0.0.1."""
    return (
        sys.executable,
        *("-m", "torch.distributed.run"),
        *("--nnodes", "1", "--nproc-per-node", str(processes)),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"),
        *("-m", "embed_pipeline.training.worker", str(job)),
    )


def worker_environment(*, threads: int) -> dict[str, str]:
    """Environment variables for the worker: allocator, threads per process, no network, no tokenizer threads."""
    return {
        **ALLOCATOR_ENVIRONMENT,
        STARTER_VARIABLE: str(os.getpid()),
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "PYTHONUNBUFFERED": "1",
    }


def run_process_group(
    command: Sequence[str], *, environment: Mapping[str, str], grace_seconds: float = 0.0, reason: Path | None = None
) -> None:
    """Run a command in its own session and wait for it; whatever interrupts the wait, no process of it survives.

    Descendants that left the session (torchrun starts each worker in a session of its own) are ended too, by default at
    once: a training keeps its checkpoints whole whenever it ends, and torchrun prints a page when it is asked to.

    Raises:
        RuntimeError: the command ended with another status than 0; what it wrote into `reason`, if anything, is the
            message.
    """
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        start_new_session=True,
        # Where this process is killed, torchrun ends with all it started; SIGINT may be blocked here (defs.running).
        preexec_fn=partial(end_with_parent, signal.SIGTERM),
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    said: deque[str] = deque(maxlen=_LINES_KEPT)
    listener = threading.Thread(target=_pass_on, args=(process.stderr, said), daemon=True)
    listener.start()
    try:
        status = process.wait()
    except BaseException:
        end_process_tree(process.pid, grace_seconds=grace_seconds)
        process.wait()
        raise
    listener.join(_LISTEN_SECONDS)
    if status != 0 and reason and reason.is_file():
        raise RuntimeError(reason.read_text(encoding="utf-8"))
    if status != 0:
        name = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        raise RuntimeError(
            f"the training process ended with {name}, expected 0. {_what_it_said(said)}Command: {' '.join(command)}"
        )


def _pass_on(stream: IO[str], said: "deque[str]") -> None:
    """What a child writes to standard error goes on to ours, where Dagster keeps it, and its last lines into `said`."""
    for line in stream:
        sys.stderr.write(line)
        said.append(line.rstrip())


def _what_it_said(lines: Iterable[str]) -> str:
    """The error that a child ended with, by its own words; else its last lines, empty where it said nothing."""
    told = [line for line in lines if line.strip()]
    # torchrun adds a page of its own behind the error of a worker.
    errors = [found[1] for line in told if (found := _ERROR.match(line)) and "ChildFailedError" not in line]
    shown = errors[-1:] or told[-_LINES_SHOWN:]
    return f"It said: {' | '.join(shown)}. " if shown else ""


TRAINABLE_POOLINGS = ("cls", "mean", "last_token")


def check_trainable(directory: Path, settings: EncoderSettings) -> None:
    """Guarantees that the trainer computes the vectors that evaluation will compute; raises ValueError otherwise."""
    heads = [head.directory.name for head in read_layout(directory).heads]
    if heads:
        raise ValueError(
            f"{directory}: the model ends in {', '.join(heads)}, and the trainer would train it without. Train another "
            "base, or use the model zero-shot."
        )
    if settings.pooling not in TRAINABLE_POOLINGS:
        raise ValueError(
            f"{directory}: expected pooling of {', '.join(TRAINABLE_POOLINGS)} for training, found {settings.pooling}. "
            "Train another base, or use the model zero-shot."
        )
