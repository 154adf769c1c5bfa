"""What every test runs under: no telemetry, no hub, one thread; and the small model of several stages."""

import os
from pathlib import Path

import pytest

os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without dropout, so that one process and two see the same network."""
    from embed_pipeline_tests.small_project import write_model  # only now: the variables above are set

    return write_model(tmp_path_factory.mktemp("small_model"), dropout=0.0)
