"""Which arithmetic a processor has: bfloat16 where it computes it natively, else float32.

Belongs here: reading a processor's flags, what `auto` comes to, refusing what would be emulated. Does not belong here:
which settings say `auto` (encoder.py, training/settings.py), what a stored artifact was built with
(graph/precision.py). The flags decide, never a library's willingness: libraries emulate what a processor lacks, on one
core.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

AUTO = "auto"
Precision = Literal["float32", "bfloat16"]
AUTO_PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
"""What `auto` may come to."""

FLAGS = ("avx512_bf16", "amx_bf16")
"""Either of them in /proc/cpuinfo says that a processor multiplies bfloat16 itself."""

CPU_INFO = Path("/proc/cpuinfo")
_ONEDNN_BELOW = frozenset({"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"})
_MASKS: Mapping[str, frozenset[str]] = {
    "ONEDNN_MAX_CPU_ISA": _ONEDNN_BELOW,
    "DNNL_MAX_CPU_ISA": _ONEDNN_BELOW,
    "ATEN_CPU_CAPABILITY": frozenset({"DEFAULT", "AVX2"}),
}
"""Environment variables that hide a processor's abilities from oneDNN and torch, and their values below bfloat16."""


@dataclass(frozen=True)
class NativePrecision:
    """What a device computes natively, and how that is known."""

    name: Precision
    reason: str


def native_precision(device: Literal["cpu", "cuda"]) -> NativePrecision:
    """What `auto` comes to on this machine, in this process's environment."""
    return _gpu_precision() if device == "cuda" else cpu_precision(_read_cpu_info(), os.environ)


def cpu_precision(cpu_info: str | None, environment: Mapping[str, str]) -> NativePrecision:
    """What a processor computes natively; `cpu_info` is the text of /proc/cpuinfo, None where there is no such file."""
    if cpu_info is None:
        return NativePrecision("float32", f"{CPU_INFO} is not there to tell what the processor has")
    flags = next((line.partition(":")[2].split() for line in cpu_info.splitlines() if line.startswith("flags")), [])
    found = [flag for flag in FLAGS if flag in flags]
    if not found:
        return NativePrecision("float32", f"the processor has neither {' nor '.join(FLAGS)}")
    for variable, values in _MASKS.items():
        value = environment.get(variable, "")
        if value.upper() in values:
            return NativePrecision("float32", f"the processor has {found[0]}, masked by {variable}={value}")
    return NativePrecision("bfloat16", f"the processor has {' and '.join(found)}")


def resolve_precision(asked: str, device: Literal["cpu", "cuda"]) -> str:
    """The arithmetic that a setting asks for: `auto` becomes what this machine has, all else stays."""
    return native_precision(device).name if asked == AUTO else asked


def refuse_emulated(asked: str, native: NativePrecision, *, device: str, place: str) -> None:
    """Raises ValueError where bfloat16 is asked for by name and a processor without it would emulate it.

    `place` names file and field.
    """
    if asked == "bfloat16" and device == "cpu" and native.name != "bfloat16":
        field = place.rpartition(".")[2].rpartition(" ")[2]
        raise ValueError(
            f"{place}: expected arithmetic that the processor has, found bfloat16, which would be emulated on one core "
            f"({native.reason}). Set {field}: auto or float32."
        )


def refuse_missing_gpu(device: str) -> None:
    """Raises ValueError where a GPU is asked for and torch finds none."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "EMBED_PIPELINE_DEVICE: expected a GPU that torch can use, found none, or a torch that was built without "
            "CUDA. Set EMBED_PIPELINE_DEVICE=cpu; `embed-pipeline doctor` says what this machine has."
        )


@cache
def _read_cpu_info() -> str | None:
    return CPU_INFO.read_text(encoding="utf-8", errors="replace") if CPU_INFO.is_file() else None


@cache
def _gpu_precision() -> NativePrecision:
    import torch

    if not torch.cuda.is_available():
        return NativePrecision("float32", "there is no GPU")
    name = torch.cuda.get_device_name()
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return NativePrecision("bfloat16", f"the GPU {name} has it")
    return NativePrecision("float32", f"the GPU {name} has no bfloat16")
