"""What `auto` comes to, by the flags of processors that were seen and by what hides them."""

import pytest

from embed_pipeline.encoding.precision import (
    NativePrecision,
    cpu_precision,
    refuse_emulated,
    refuse_missing_gpu,
    resolve_precision,
)

LAPTOP = "processor\t: 0\nmodel name\t: a laptop\nflags\t\t: fpu sse4_2 avx avx2 avx_vnni fma\n"
SERVER = "processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_vnni avx512_bf16\nprocessor\t: 1\nflags\t\t: fpu\n"
AMX = "flags\t\t: fpu avx2 avx512f amx_bf16 amx_tile amx_int8\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd bf16\n"


@pytest.mark.parametrize(
    ("cpu_info", "environment", "name", "reason"),
    [
        (LAPTOP, {}, "float32", "the processor has neither avx512_bf16 nor amx_bf16"),
        (SERVER, {}, "bfloat16", "the processor has avx512_bf16"),
        (AMX, {}, "bfloat16", "the processor has amx_bf16"),
        (ARM, {}, "float32", "the processor has neither avx512_bf16 nor amx_bf16"),
        ("", {}, "float32", "the processor has neither avx512_bf16 nor amx_bf16"),
        (None, {}, "float32", "/proc/cpuinfo is not there to tell what the processor has"),
        (SERVER, {"ONEDNN_MAX_CPU_ISA": "AVX2"}, "float32", "has avx512_bf16, masked by ONEDNN_MAX_CPU_ISA=AVX2"),
        (SERVER, {"ONEDNN_MAX_CPU_ISA": "avx512_core_vnni"}, "float32", "masked by ONEDNN_MAX_CPU_ISA"),
        (SERVER, {"DNNL_MAX_CPU_ISA": "AVX512_CORE"}, "float32", "masked by DNNL_MAX_CPU_ISA"),
        (AMX, {"ATEN_CPU_CAPABILITY": "avx2"}, "float32", "has amx_bf16, masked by ATEN_CPU_CAPABILITY=avx2"),
        (
            SERVER,
            {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16", "ATEN_CPU_CAPABILITY": "avx512"},
            "bfloat16",
            "avx512_bf16",
        ),
        (SERVER, {"ONEDNN_MAX_CPU_ISA": "ALL"}, "bfloat16", "avx512_bf16"),
        (LAPTOP, {"ONEDNN_MAX_CPU_ISA": "ALL"}, "float32", "neither"),
    ],
)
def test_the_flags_decide_and_a_mask_hides_them(
    cpu_info: str | None, environment: dict[str, str], name: str, reason: str
) -> None:
    found = cpu_precision(cpu_info, environment)
    assert found.name == name
    assert reason in found.reason


def test_only_auto_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    asked = ("auto", "float32", "bfloat16", "float16")
    assert [resolve_precision(name, "cpu") for name in asked] == ["float32", "float32", "bfloat16", "float16"]


def test_emulation_is_refused_with_its_place_and_the_remedy() -> None:
    weak, strong = NativePrecision("float32", "no flag"), NativePrecision("bfloat16", "a flag")
    with pytest.raises(
        ValueError, match=r"^a\.yaml, training\.precision: .* \(no flag\)\. Set precision: auto or float32"
    ):
        refuse_emulated("bfloat16", weak, device="cpu", place="a.yaml, training.precision")
    for asked, native, device in (("auto", weak, "cpu"), ("bfloat16", strong, "cpu"), ("bfloat16", weak, "cuda")):
        refuse_emulated(asked, native, device=device, place="a.yaml, training.precision")


def test_a_gpu_that_is_missing_is_named_by_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="EMBED_PIPELINE_DEVICE: expected a GPU that torch can use, found none"):
        refuse_missing_gpu("cuda")
    refuse_missing_gpu("cpu")
