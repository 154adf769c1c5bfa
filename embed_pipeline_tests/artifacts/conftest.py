"""A store on this machine and one elsewhere: the promises hold for both."""

from pathlib import Path
from uuid import uuid4

import pytest

from embed_pipeline.artifacts import ArtifactStore


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    if request.param == "local":
        return ArtifactStore(tmp_path / "root")
    return ArtifactStore(f"memory://{uuid4().hex}/root", tmp_path / "local")
