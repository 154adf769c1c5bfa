"""What this machine has: processor, memory, disk, GPU, allocator, packages, the port of the user interface.

Belongs here: what a finding is; reading the machine, and judging what was read. Does not belong here: what a project
needs (needs.py), printing.
"""

import os
import platform
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from embed_pipeline.encoding.precision import NativePrecision, native_precision
from embed_pipeline.training.finetune import ALLOCATOR_ENVIRONMENT

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """What was found about a subject. A problem: something that the project's variants need is missing."""

    subject: str
    state: State
    found: str
    remedy: str = ""


PACKAGE = "embed-pipeline"
PORT = 3000
_GIB = 2**30
_LITTLE_MEMORY, _LITTLE_DISK = 4 * _GIB, 5 * _GIB
_NO_LIMIT = 2**60


@dataclass(frozen=True)
class Machine:
    """What was read: processors (`usable`: those this process may use), bytes, the names of GPUs."""

    processors: int
    usable: float
    memory: int
    memory_limit: int | None
    free_disk: int
    home: Path
    gpus: tuple[str, ...]
    precision: NativePrecision
    libc: str
    allocator_set: bool


def read_machine(home: Path, cgroup: Path = Path("/sys/fs/cgroup"), devices: Path = Path("/dev")) -> Machine:
    """This machine as it is now; `home` is where artifacts are to lie, itself or the first folder above that exists."""
    import psutil

    there = next(folder for folder in (home, *home.absolute().parents) if folder.is_dir())
    processors = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else processors
    return Machine(
        processors=processors,
        usable=min(allowed, parse_cpu_limit(_read(cgroup / "cpu.max")) or allowed),
        memory=psutil.virtual_memory().total,
        memory_limit=parse_memory_limit(
            _read(cgroup / "memory.max") or _read(cgroup / "memory" / "memory.limit_in_bytes")
        ),
        free_disk=shutil.disk_usage(there).free,
        home=home,
        gpus=_gpu_names() if any(devices.glob("nvidia[0-9]*")) else (),
        precision=native_precision("cpu"),
        libc=platform.libc_ver()[0],
        allocator_set=all(os.environ.get(name) for name in ALLOCATOR_ENVIRONMENT),
    )


def judge_machine(machine: Machine, device: str) -> Iterator[Finding]:
    """What the readings mean; `device` is where the project runs its models."""
    limited = "" if machine.usable >= machine.processors else f" of {machine.processors} (limited)"
    yield Finding("cores", "ok", f"{machine.usable:g}{limited}")
    yield _judge_memory(machine)
    few = machine.free_disk < _LITTLE_DISK
    remedy = "Free some, run embed-pipeline gc, or set EMBED_PIPELINE_HOME to another disk." if few else ""
    found = f"{machine.free_disk / _GIB:.1f} GiB free at {machine.home}"
    yield Finding("disk", "warning" if few else "ok", found, remedy)
    yield _judge_gpu(machine, device)
    has = machine.precision.name == "bfloat16"
    yield Finding("bfloat16", "ok", f"{'yes' if has else 'no, auto takes float32'}: {machine.precision.reason}")
    yield _judge_allocator(machine)


def judge_packages(versions: Mapping[str, str | None], required: Mapping[str, str | None]) -> Iterator[Finding]:
    """Installed versions (None: not installed) against the required ones, exact where a version is given."""
    missing = sorted(name for name in required if versions.get(name) is None)
    other = [
        f"{name} {versions[name]} instead of {version}"
        for name, version in sorted(required.items())
        if version and versions.get(name) not in (None, version)
    ]
    if missing:
        yield Finding("packages", "problem", f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    if other:
        shown = f"{'; '.join(other[:3])}{f' and {len(other) - 3} more' if len(other) > 3 else ''}"
        yield Finding("packages", "warning", f"other versions than tested: {shown}", "pip install -c constraints.txt …")
    if not missing and not other:
        yield Finding("packages", "ok", f"{len(required)} installed as required")


def read_requirements(project: Path | None) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """Installed versions and required ones: those that the package names, exact where the project pins them."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    required: dict[str, str | None] = {}
    for line in metadata.requires(PACKAGE) or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            required[canonicalize_name(requirement.name)] = None
    for line in _read(project / "constraints.txt").splitlines() if project else ():
        name, _, version = line.partition("==")
        if version and canonicalize_name(name.strip()) in required:
            required[canonicalize_name(name.strip())] = version.split(";")[0].strip()
    return {name: _installed(name) for name in required}, required


def judge_port(port: int = PORT) -> Finding:
    """Whether `embed-pipeline dev` can listen."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", port))
        except OSError as error:
            remedy = f"Stop what listens there, or: embed-pipeline dev --port {port + 1}"
            return Finding(f"port {port}", "warning", f"taken: {error.strerror}", remedy)
    return Finding(f"port {port}", "ok", "free")


def parse_memory_limit(text: str) -> int | None:
    """Bytes that a control group allows, from `memory.max` or `memory.limit_in_bytes`; None: no limit."""
    limit = int(text) if text.strip().isdigit() else _NO_LIMIT
    return limit if limit < _NO_LIMIT else None


def parse_cpu_limit(text: str) -> float | None:
    """Processors that a control group allows, from `cpu.max` ("200000 100000" is two); None: no limit."""
    quota, _, period = text.strip().partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _judge_memory(machine: Machine) -> Finding:
    memory = min(machine.memory, machine.memory_limit or machine.memory)
    found = f"{memory / _GIB:.1f} GiB"
    if memory < machine.memory:
        found += f" (limited; the machine has {machine.memory / _GIB:.1f})"
    if memory >= _LITTLE_MEMORY:
        return Finding("memory", "ok", found)
    return Finding("memory", "warning", found, "Set sub_batch_size and gradient_cache: true, or a smaller batch_size.")


def _judge_gpu(machine: Machine, device: str) -> Finding:
    if device == "cuda" and not machine.gpus:
        return Finding("GPU", "problem", "none, and EMBED_PIPELINE_DEVICE is cuda", "Set EMBED_PIPELINE_DEVICE=cpu.")
    if machine.gpus and device == "cpu":
        found = f"{', '.join(machine.gpus)}, not in use"
        return Finding("GPU", "warning", found, "Set EMBED_PIPELINE_DEVICE=cuda.")
    return Finding("GPU", "ok", ", ".join(machine.gpus) or "none; models run on the processor")


def _judge_allocator(machine: Machine) -> Finding:
    if machine.libc != "glibc":
        return Finding("allocator", "ok", "not glibc: its settings have no effect here")
    settings = " ".join(f"{name}={value}" for name, value in ALLOCATOR_ENVIRONMENT.items())
    if machine.allocator_set:
        return Finding("allocator", "ok", "set for every process")
    found = "set for training processes, not for encoding in other ones"
    return Finding("allocator", "ok", found, f"To encode faster outside of runs: export {settings}")


def _gpu_names() -> tuple[str, ...]:
    import torch

    return tuple(torch.cuda.get_device_name(at) for at in range(torch.cuda.device_count()))


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name).partition("+")[0]  # torch 2.13.0+cpu is a build of 2.13.0
    except metadata.PackageNotFoundError:
        return None


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
