"""The asset as Dagster runs it: why it failed, where it goes on, what is left when it is killed or cancelled."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster_graphql import DagsterGraphQLClient

from embed_pipeline.assembly.cleanup import remove_unused
from embed_pipeline.definitions import build_definitions
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline.defs.running import execute
from embed_pipeline.graph.catalogue import JOBS
from embed_pipeline.graph.graph import Node
from embed_pipeline.graph.work import Work
from embed_pipeline.project.project import ENVIRONMENT
from embed_pipeline.training.finetune import LOG_FILE, PROGRESS_FOLDER
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.small_project import edit_yaml, is_training, write_project

TUNED = "small/tuned"
LONG = 2000  # epochs: far more steps than a test waits for
VALIDATION = {"every": "1 epochs", "measure": "ndcg@3", "stop_below_base": None}
NO_DAEMON = "run_coordinator: {module: dagster._core.run_coordinator, class: DefaultRunCoordinator}\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> PipelineProject:
    """A project whose fine-tuned variant was trained once."""
    project = PipelineProject(tmp_path_factory.mktemp("trained"))
    (project.root / "dagster").mkdir()
    write_project(project.root)
    _edit(project, epochs=1, validation=VALIDATION)
    for job, partition in (("read_workbooks", "small"), ("prepare_dataset", "small"), ("finetune_variant", TUNED)):
        assert not _run(project, job, partition)
    return project


@pytest.fixture
def project(trained: PipelineProject, tmp_path: Path) -> PipelineProject:
    """A copy of it that a test may change."""
    shutil.copytree(trained.root, tmp_path / "project")
    return PipelineProject(tmp_path / "project")


@pytest.mark.slow
def test_a_killed_run_goes_on_under_its_own_recipe_alone_and_a_hopeless_one_says_why_and_never_goes_on(
    project: PipelineProject, capfd: pytest.CaptureFixture[str]
) -> None:
    _edit(project, epochs=LONG)
    progress = project.root / "home" / "training" / _fingerprint(project)
    process = _start(project)
    _wait_until(lambda: bool(list(progress.glob("checkpoint-*"))), "a checkpoint")
    _remove_unused(project)
    assert list((project.root / "home").glob("training-*")), "the folder of a living run"
    _kill(process, project)
    _remove_unused(project)
    assert not list((project.root / "home").glob("training-*")) and progress.is_dir()
    capfd.readouterr()
    again = _start(project)
    _wait_until(lambda: "going on from step " in capfd.readouterr().err, "the run to go on")
    _kill(again, project)
    _edit(project, learning_rate=1e-60, vocabulary_extension=None)
    (error,) = _run(project, "finetune_variant", TUNED)
    assert "no weight has changed since the start. Raise learning_rate" in error
    assert "going on" not in capfd.readouterr().err
    assert list((project.root / "home" / "training").iterdir()) == [progress], "nothing to go on from is left of it"
    _remove_unused(project)
    assert not progress.exists()


def test_checkpoints_to_go_on_from_stay_until_the_trained_weights_are_published(template: Path, tmp_path: Path) -> None:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    (tmp_path / "dagster").mkdir()
    project = PipelineProject(tmp_path)
    for asset, partition in (("raw_xlsx", "small"), ("cleaned_qa", "small"), ("mined_negatives", TUNED)):
        _stand_in(project, Node(asset, partition), tmp_path / "data")
    logged = {"step": 1, "epoch": 1.0, "loss": 0.5, "learning_rate": 1e-3, "gradient_norm": 1.0}
    (tmp_path / "model" / LOG_FILE).write_text(json.dumps(logged))
    _stand_in(project, Node("finetuned_checkpoint", TUNED), tmp_path / "model")
    progress = project.root / "home" / PROGRESS_FOLDER / _fingerprint(project)
    (progress / "checkpoint-1").mkdir(parents=True)
    refs = project.root / "home" / "artifacts" / "refs" / "finetuned_checkpoint"
    shutil.rmtree(refs)
    refs.symlink_to(tmp_path / "not mounted")
    assert _run_checkpoint_alone(project) is False and (progress / "checkpoint-1").is_dir()
    refs.unlink()
    assert _run_checkpoint_alone(project) is True and not progress.exists()
    progress.mkdir()  # as if the run had been killed between the two
    _remove_unused(project)
    assert not progress.exists()


def _stand_in(project: PipelineProject, node: Node, content: Path) -> None:
    """An artifact of the node with the files of a folder, which no check found fault with."""
    plan = project.graph.plan(node)
    project.graph.store.build(plan, lambda out: shutil.copytree(content, out, dirs_exist_ok=True) and {"checks": []})


def _run_checkpoint_alone(project: PipelineProject) -> bool:
    """Whether the asset was materialised."""
    job = build_definitions(project.pipeline).resolve_job_def("finetune_variant")
    with dg.DagsterInstance.local_temp(str(project.root / "dagster")) as instance:
        key = dg.AssetKey("finetuned_checkpoint")
        return job.execute_in_process(
            instance=instance, partition_key=TUNED, asset_selection=[key], raise_on_error=False
        ).success


@pytest.fixture
def evaluated(finished: PipelineProject, tmp_path: Path) -> PipelineProject:
    """A copy of the project in which everything has run."""
    return PipelineProject(Path(shutil.copytree(finished.root, tmp_path / "evaluated")))


def test_event_files_of_weights_that_no_variant_uses_are_removed(evaluated: PipelineProject) -> None:
    events = evaluated.root / "home" / "tensorboard" / TUNED
    made = _fingerprint(evaluated)
    assert list((events / made).glob("events.out.tfevents.*"))
    _edit(evaluated, epochs=0.5)
    for name in (_fingerprint(evaluated), "0" * 64):
        (events / name).mkdir()
    would, did = (list(remove_unused(evaluated.graph, dry_run=dry)) for dry in (True, False))
    assert "TensorBoard: would remove 1 folders of trainings whose weights no variant uses" in would
    assert "TensorBoard: removed 1 folders of trainings whose weights no variant uses" in did
    assert {path.name for path in events.iterdir()} == {made, _fingerprint(evaluated)}


def test_how_often_is_saved_and_what_is_drawn_on_the_way_are_of_the_place(evaluated: PipelineProject) -> None:
    places = {"data": str(evaluated.root / "data"), "home": str(evaluated.root / "home")}
    pipeline = PipelineResource.model_validate({**places, "save_steps": "7", "tensorboard": "0"})
    assert (pipeline.save_steps, pipeline.tensorboard) == (7, False)
    assert pipeline.graph().plan(Node("finetuned_checkpoint", TUNED)).fingerprint == _fingerprint(evaluated)


@pytest.mark.slow
def test_a_run_cancelled_in_the_ui_leaves_no_process(project: PipelineProject) -> None:
    _edit(project, epochs=LONG)
    with _webserver(project) as (server, client):
        run = client.submit_job_execution("finetune_variant", tags={"dagster/partition": TUNED})
        _wait_until(lambda: is_training(project.root / "home"), "the first steps", alive=server)
        workers = _workers(project)
        assert workers
        client.terminate_run(run)
        _wait_until(lambda: client.get_run_status(run) == dg.DagsterRunStatus.CANCELED, "the run to be cancelled")
        _wait_until(lambda: not _workers(project), "the workers to end")
        assert not list((project.root / "home").glob("training-*")), "the folder for intermediate files"
        assert list((project.root / "home" / "training").glob("*/")), "what a new run may go on from"


def _edit(project: PipelineProject, **changes: object) -> None:
    edit_yaml(project.root / "data" / "recipes" / "tuned.yaml", "training", **changes)


def _fingerprint(project: PipelineProject) -> str:
    return project.graph.plan(Node("finetuned_checkpoint", TUNED)).fingerprint


def _run(project: PipelineProject, job: str, partition: str) -> tuple[str, ...]:
    (found,) = (one for one in JOBS if one.name == job)
    with dg.DagsterInstance.local_temp(str(project.root / "dagster")) as instance:
        return execute(build_definitions(project.pipeline), Work(found, partition, (), ""), instance)


def _remove_unused(project: PipelineProject) -> None:
    list(remove_unused(project.graph, dry_run=False))


def _environment(project: PipelineProject) -> dict[str, str]:
    places = {"data": str(project.root / "data"), "home": str(project.root / "home"), "training_threads": "1"}
    places |= {"save_steps": "2", "tensorboard": "false"}
    return {**os.environ, **{ENVIRONMENT[name]: value for name, value in places.items()}}


def _start(project: PipelineProject) -> subprocess.Popen:
    code = (
        "from embed_pipeline.definitions import defs; import sys\n"
        "defs.resolve_job_def('finetune_variant').execute_in_process(\n"
        "    partition_key=sys.argv[1], run_config={'loggers': {'console': {}}})\n"
    )
    return subprocess.Popen([sys.executable, "-c", code, TUNED], env=_environment(project))


def _kill(process: subprocess.Popen, project: PipelineProject) -> None:
    process.kill()
    process.wait()
    _wait_until(lambda: not _workers(project), "the workers to end after their starter was killed")


@contextmanager
def _webserver(project: PipelineProject) -> Iterator[tuple[subprocess.Popen, DagsterGraphQLClient]]:
    """The UI's server over the project, and what its buttons call."""
    home = project.root / "ui"
    home.mkdir()
    (home / "dagster.yaml").write_text(NO_DAEMON + "telemetry: {enabled: false}\n", encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "dagster_webserver", "-m", "embed_pipeline.definitions"]
    environment = {**_environment(project), "DAGSTER_HOME": str(home)}
    server = subprocess.Popen([*command, "-h", "127.0.0.1", "-p", str(port)], env=environment)
    try:
        _wait_until(lambda: _listens(port), "the server", alive=server)
        yield server, DagsterGraphQLClient("127.0.0.1", port_number=port)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=60)


def _listens(port: int) -> bool:
    with socket.socket() as found:
        return found.connect_ex(("127.0.0.1", port)) == 0


def _workers(project: PipelineProject) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            command = " ".join(process.cmdline())
            if "embed_pipeline.training.worker" in command and str(project.root) in command:
                found.append(process)
    return found


def _wait_until(
    condition: Callable[[], bool], what: str, *, alive: subprocess.Popen | None = None, seconds: float = 240.0
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        assert alive is None or alive.poll() is None, f"the server ended while {what} was waited for"
        time.sleep(0.1)
