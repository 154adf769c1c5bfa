"""A Ray cluster: how it is joined, what its nodes offer, and the folder that all of them see.

Belongs here: what encoding, searching and training on it share. Does not belong here: what they compute.
"""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from embed_pipeline.encoding.file_record import make_once, recorded_sha256
from embed_pipeline.paths import digest_of
from embed_pipeline.training.finetune import STARTER_VARIABLE, worker_environment

SHIPPED_FOLDER = "shipped"
_VARIABLE, _STORAGE_VARIABLE = "EMBED_PIPELINE_RAY_ADDRESS", "EMBED_PIPELINE_RAY_STORAGE"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where it is, what every node of it mounts at the same place, and what one worker takes.

    `threads`: processor cores of a worker; left out, all of the node that has the fewest. On `cuda` it takes a GPU too.
    """

    address: str
    storage: Path
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.address.startswith("ray://"):
            raise ValueError(
                f"{_VARIABLE}: expected host:port of the cluster's head, or auto, found {self.address!r}, the address "
                "of Ray's client, which neither streams results nor trains. Let this machine join the cluster "
                "(ray start --address=HEAD:6379 --num-cpus=0) and write HEAD:6379."
            )

    def join(self) -> None:
        """Connect this process, once: until it ends, its workers on the nodes run this very code.

        Raises:
            ValueError: ray is not installed, or nothing answers at the address.
        """
        if find_spec("ray") is None:
            raise ValueError(
                f"{_VARIABLE}={self.address}: expected the package ray, found none. Install it: pip install "
                "'embed-pipeline[ray]'; or unset the variable."
            )
        import ray  # pyright: ignore[reportMissingImports]

        if ray.is_initialized():
            return
        package = str(Path(__file__).parents[1])
        environment = {"py_modules": [package], "env_vars": dict(worker_variables(self.threads))}
        try:
            ray.init(address=self.address, runtime_env=environment, logging_level="WARNING")
        except (ConnectionError, RuntimeError) as error:
            raise ValueError(
                f"{_VARIABLE}: expected a Ray cluster at {self.address}, found none: {error} Start it, or unset the "
                "variable."
            ) from error

    def worker(self, workers: int = 1) -> Mapping[str, float]:
        """What one of so many workers takes of a node, in Ray's words. Call `join` before."""
        if self.device == "cuda":
            return {"CPU": self.threads or 1, "GPU": 1}
        return {"CPU": self.threads or fewest_cores(_nodes(), workers)}

    def workers(self, one: Mapping[str, float]) -> int:
        """How many such workers the nodes hold now."""
        return sum(int(min(node.get(kind, 0) // amount for kind, amount in one.items())) for node in _nodes())

    def ship(self, folder: Path) -> Path:
        """The folder where every node sees it: itself inside the storage, else a copy there, made once per content."""
        if folder.resolve().is_relative_to(self.storage.resolve()):
            return folder

        def copy(out: Path) -> None:
            shutil.copytree(folder, out, dirs_exist_ok=True)

        return make_once(self.storage / SHIPPED_FOLDER / _content_name(folder), copy)


def worker_variables(threads: int | None) -> Mapping[str, str]:
    """The environment of what runs on a node; without `threads` Ray counts them by the cores that a worker takes."""
    variables = dict(worker_environment(threads=threads or 1))
    del variables[STARTER_VARIABLE]  # a process of this machine
    if threads is None:
        del variables["OMP_NUM_THREADS"]
    return variables


def fewest_cores(nodes: Sequence[Mapping[str, float]], workers: int) -> int:
    """The cores of a worker where so many are spread evenly over the nodes that have any, at least 1."""
    cores = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
    return max(1, min(cores) // -(-workers // len(cores))) if cores else 1


def check_seen(folder: Path) -> None:
    """Guarantees, on a node, that it sees a folder of the storage; raises ValueError otherwise."""
    if not folder.is_dir():
        import platform

        raise ValueError(
            f"node {platform.node()}: expected the folder {folder}, found none. {_STORAGE_VARIABLE} must name a folder "
            "that every node of the cluster mounts at the same place."
        )


def _nodes() -> list[Mapping[str, float]]:
    import ray  # pyright: ignore[reportMissingImports]

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _content_name(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        total.update(f"{name} {recorded_sha256(folder, name) or digest_of(path)}\n".encode())
    return total.hexdigest()[:40]
