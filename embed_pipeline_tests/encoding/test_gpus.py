"""A process for each GPU, tried with processes on the processor: the same bytes, in whichever order they come."""

import os
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.gpus import GpusEncoder, on_all_gpus, visible_gpus
from embed_pipeline.encoding.local import LocalEncoder, load_local_encoder
from embed_pipeline.encoding.vector_cache import CachedEncoder, VectorCache
from embed_pipeline_tests.small_project import encoder_settings, make_rows

TEXTS = [f"{row[0]} {number % 7 * '哮喘 '}{number}" for number, row in enumerate(make_rows() * 5)]
MORE = [f"{text} {more}" for more in range(6) for text in TEXTS]


def local_encoder(model: Path) -> LocalEncoder:
    return load_local_encoder(EncoderSettings.model_validate(encoder_settings(model)))


def two_processes(model: Path, *, portions_pay: int = 2) -> GpusEncoder:
    return GpusEncoder(local_encoder(model), ("0", "1"), device="cpu", portions_pay=portions_pay)


def started_by_this() -> list[psutil.Process]:
    return [one for one in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(one.cmdline())]


@pytest.mark.slow
def test_two_processes_give_the_bytes_of_one_and_end_with_the_encoder(small_model: Path, tmp_path: Path) -> None:
    here = CachedEncoder(local_encoder(small_model), VectorCache(tmp_path / "here"))
    spread = CachedEncoder(two_processes(small_model), VectorCache(tmp_path / "spread"))
    assert spread.fingerprint == here.fingerprint
    assert spread.encode_passages(TEXTS).tobytes() == here.encode_passages(TEXTS).tobytes()
    assert spread.encode_queries(TEXTS[:600]).tobytes() == here.encode_queries(TEXTS[:600]).tobytes()
    processes = started_by_this()
    assert len(processes) == 2
    del spread
    assert not psutil.wait_procs(processes, timeout=20)[1]


def test_few_portions_are_computed_here_without_a_process(small_model: Path) -> None:
    spread = two_processes(small_model, portions_pay=3)
    found = dict(spread.encode_portions("query", [TEXTS[:5], TEXTS[5:9]]))
    np.testing.assert_array_equal(found[1], local_encoder(small_model).encode_queries(TEXTS[5:9]))
    assert not started_by_this()


@pytest.mark.slow  # two processes that import torch; what a portion is has a test in ../cluster
def test_a_process_that_is_killed_is_told_of_and_what_came_back_is_not_encoded_again(
    small_model: Path, tmp_path: Path
) -> None:
    killed: list[psutil.Process] = []

    def kill_one(done: int, of: int) -> None:
        if not killed:
            killed.append(started_by_this()[0])
            killed[0].kill()

    broken = CachedEncoder(two_processes(small_model), VectorCache(tmp_path), progress=kill_one)
    with pytest.raises(RuntimeError, match=r"killed or ran out of memory.*CUDA_VISIBLE_DEVICES=0"):
        broken.encode_passages(MORE)
    later = CachedEncoder(local_encoder(small_model), VectorCache(tmp_path))
    later.encode_passages(MORE)
    assert later.served >= broken.encoded > 0


@pytest.mark.parametrize(
    ("named", "expected"), [("", ("0", "1")), ("3, 5", ("3", "5")), ("GPU-a,GPU-b,x", ("GPU-a", "GPU-b"))]
)
def test_gpus_are_named_as_the_environment_names_them(
    monkeypatch: pytest.MonkeyPatch, named: str, expected: tuple[str, ...]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setitem(os.environ, "CUDA_VISIBLE_DEVICES", named)
    assert visible_gpus() == expected


def test_an_encoder_is_spread_where_it_runs_on_several_gpus_alone(
    monkeypatch: pytest.MonkeyPatch, small_model: Path
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    on_processor = local_encoder(small_model)
    on_gpu = load_local_encoder(EncoderSettings.model_validate(encoder_settings(small_model)), device="cuda")
    for count, expected in ((2, GpusEncoder), (1, LocalEncoder)):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        assert isinstance(on_all_gpus(on_gpu), expected)
        assert on_all_gpus(on_processor) is on_processor
