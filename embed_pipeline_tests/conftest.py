"""What every test runs under: no telemetry, no hub, one thread, this checkout; and what several of them start from."""

import gc
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from filelock import FileLock
from hypothesis.internal.conjecture import providers

if TYPE_CHECKING:
    from embed_pipeline_tests.pipeline_project import PipelineProject

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a shell's background job. Dagster then ignores SIGTERM too, and what it starts would outlive the tests.
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[1]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
# One unpacked model for all tests and workers, where the demo of this checkout has it as well.
os.environ.setdefault("EMBED_PIPELINE_MODELS", str(Path(__file__).parents[1] / ".embed_pipeline" / "models"))

# The same examples in every run, however slow the machine: a red test is red for everyone. `fault_tests` tries others.
hypothesis.settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("repeatable")
# Else it tries constants of the modules that are loaded: of what this process of the suite happened to run before.
providers._get_local_constants = lambda: providers._local_constants


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files first, which run whole graphs or train: where processes share the files, the last end together."""
    here = Path(__file__).parent
    items.sort(key=lambda item: item.path.parent not in (here, here / "training"))


@pytest.fixture(scope="module", autouse=True)
def short_collections() -> None:
    """No collection walks over what was there before this file: torch and dagster alone take half a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without dropout, so that one process and two see the same network."""
    from embed_pipeline_tests.small_project import write_model  # only now: the variables above are set

    return write_model(tmp_path_factory.mktemp("small_model"), dropout=0.0)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project as a user wrote it, in which nothing has run; copy it before you change it."""
    from embed_pipeline_tests.small_project import write_project

    root = tmp_path_factory.mktemp("template")
    write_project(root)
    return root


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> "PipelineProject":
    """A project with every kind of variant in which everything has run once; copy it before you change it.

    Run by the first process of the suite that asks for it; each process has a copy, so that none opens another's files.
    """
    from embed_pipeline_tests.pipeline_project import PipelineProject
    from embed_pipeline_tests.small_project import write_full_project

    of_this_process = tmp_path_factory.getbasetemp()
    of_all = of_this_process.parent if "PYTEST_XDIST_WORKER" in os.environ else of_this_process
    root, sign = of_all / "finished", of_all / "finished.ran"
    with FileLock(of_all / "finished.lock"):
        if not sign.exists():
            shutil.rmtree(root, ignore_errors=True)
            (root / "dagster").mkdir(parents=True)
            write_full_project(root)
            PipelineProject(root).run()
            sign.touch()
    return PipelineProject(Path(shutil.copytree(root, of_this_process / "full")))
