"""Commands as real processes that begin in a twentieth of a second: forked from one that has imported what they need.

Each is the leader of a session of its own, as a command typed in a terminal is the leader of a process group: it can be
killed with all it started. Belongs here: starting, ending and hearing commands. Does not belong here: any project.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp

import psutil

ROOT = Path(__file__).parents[1]
IMPORTED = (
    *("dagster", "duckdb", "faiss", "openpyxl", "rich", "scipy.stats", "torch", "transformers", "peft", "uvicorn"),
    *("embed_pipeline.cli", "embed_pipeline.defs.resources", "embed_pipeline.defs.checks", "openai", "gensim.models"),
    *("embed_pipeline.encoding.local", "embed_pipeline.assembly.variant_encoder", "matplotlib.pyplot", "sklearn"),
)
"""Not embed_pipeline.definitions: what it finds when it is imported is the project of the current folder."""
ENVIRONMENT = {
    "EMBED_PIPELINE_MODELS": os.environ.get("EMBED_PIPELINE_MODELS") or str(ROOT / ".embed_pipeline" / "models"),
    "EMBED_PIPELINE_THREADS": "1",  # other numbers of threads add up in another order
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
}
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(list(IMPORTED))


class Command:
    """An `embed-pipeline` command under way."""

    def __init__(self, folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        """`environment`: variables beside those that this process has, without what is of embed-pipeline."""
        number, name = mkstemp(prefix="said-", suffix=".txt")
        os.close(number)
        self.arguments, self.output, self.started = arguments, Path(name), time.monotonic()
        own = {k: v for k, v in os.environ.items() if not k.startswith(("EMBED_PIPELINE_", "DAGSTER_HOME"))}
        given = {**own, **ENVIRONMENT, **(environment or {})}
        self.process = _CONTEXT.Process(target=_be_command, args=(str(folder), arguments, name, given))
        self.process.start()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def said(self) -> str:
        """Everything on standard output and standard error so far."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    def is_running(self) -> bool:
        return self.process.is_alive()

    def wait(self, seconds: float = 300.0) -> int:
        """The exit code; a command that takes longer is killed and fails the test."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.kill()
            raise AssertionError(f"{' '.join(self.arguments)} took more than {seconds:g} s:\n{self.said()}")
        assert self.process.exitcode is not None
        return self.process.exitcode

    def wait_until_said(self, words: str, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while words not in self.said():
            assert self.is_running() and time.monotonic() < deadline, self.said()
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL to the whole process group; what left it must end by itself, in seconds."""
        tree = psutil.Process(self.pid).children(recursive=True) if self.is_running() else []
        # Before the child has made its own group there is only the child.
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            self.process.kill()
        self.process.join(10)
        _, alive = psutil.wait_procs(tree, timeout=15)
        assert not alive, f"outlived the group: {[process.cmdline() for process in alive]}"


def call(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None, seconds: float = 300.0):
    """Exit code and output of a command that ends by itself."""
    command = Command(folder, *arguments, environment=environment)
    code = command.wait(seconds)
    said = command.said()
    command.output.unlink()
    return code, said


@contextmanager
def group_of(commands: list[Command]) -> Iterator[list[Command]]:
    """On leaving, none of the commands is running."""
    try:
        yield commands
    finally:
        for command in commands:
            if command.is_running():
                command.kill()


def _be_command(folder: str, arguments: tuple[str, ...], output: str, environment: dict[str, str]) -> None:
    os.setsid()
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(written, 1)
    os.dup2(written, 2)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["embed-pipeline", *arguments]
    from embed_pipeline.cli import main
    from embed_pipeline.commands.terminal import WIDTH_WITHOUT_TERMINAL, console

    console.width = WIDTH_WITHOUT_TERMINAL  # it was made for the streams of the process that imported it

    try:
        main(list(arguments), prog_name="embed-pipeline")
    except SystemExit as ended:
        code = ended.code
    else:
        code = 0
    sys.stdout.flush()
    sys.stderr.flush()
    # As a command ends: what multiprocessing does at an end is none of it.
    os._exit(code if isinstance(code, int) else 1 if code else 0)
