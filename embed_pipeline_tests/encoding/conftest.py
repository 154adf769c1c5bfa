"""The bundled encoder, loaded once for the whole folder."""

import shutil
from pathlib import Path

import pytest

from embed_pipeline.encoding.bundled import bundled_directory, bundled_english_directory, models_folder
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.local import LocalEncoder, load_local_encoder


@pytest.fixture(scope="session")
def settings() -> EncoderSettings:
    lengths = {"query_max_length": 64, "passage_max_length": 64}
    return EncoderSettings(model="bundled-english", pooling="mean", dtype="float32", **lengths)


@pytest.fixture(scope="session")
def bundled_encoder(settings: EncoderSettings) -> LocalEncoder:
    return load_local_encoder(settings)


@pytest.fixture
def model_copy(tmp_path: Path) -> Path:
    """A copy of the bundled model that a test may damage."""
    return Path(shutil.copytree(bundled_english_directory(), tmp_path / "model"))


@pytest.fixture(scope="session")
def e5_directory() -> Path:
    """The unpacked multilingual model, made by the first test of the checkout that asks; read only."""
    return bundled_directory(models_folder())
