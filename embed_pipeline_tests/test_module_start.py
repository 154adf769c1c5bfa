"""Both ways to start the command line without its script."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["embed_pipeline", "embed_pipeline.cli"])
def test_the_module_is_the_command(module: str) -> None:
    found = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True)
    assert found.stdout.startswith("Usage: embed-pipeline") and "reproduce" in found.stdout
