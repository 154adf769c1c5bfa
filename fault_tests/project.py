"""The project that is killed and run again, and what must be equal in two projects that were run to their end.

Belongs here: its files, its digests, rows and leftovers. Does not belong here: what is done to it (the tests).
"""

import dataclasses
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from browser_tests.project import write_browser_project
from embed_pipeline.artifacts import ArtifactStore
from embed_pipeline.reporting.database import read_history, read_newest
from embed_pipeline_tests.small_project import (
    edit_dataset,
    edit_yaml,
    mark_project,
    settle,
    write_project,
    write_yaml,
)

TIMED = ("report", "query_metrics", "metrics_table")
"""Assets whose object or manifest holds how long something took."""
STORE = {"EMBED_PIPELINE_LANCEDB_URL": "lancedb"}
"""Where the vector store of the whole project is, for its commands."""
OF_THE_RUN = {"run_id", "git_commit", "evaluated_at", "latency_p50_ms", "latency_p95_ms", "passages_per_second"}


def write_whole_project(root: Path) -> Path:
    """Every kind of asset: workbooks, pairs, documents with written questions, seven variants, an export, a promotion.

    One variant's vectors go to a vector store in the project's folder (STORE).
    A full run takes about a minute on one weak core.
    """
    write_browser_project(root)
    # Documents of a data set without a local encoder are measured with the bundled model, which takes seconds to load.
    write_yaml(
        root / "data" / "recipes" / "plain.yaml",
        {"description": "as it is", "encoder": _encoder(root / "data" / "recipes" / "tuned.yaml")},
    )
    edit_dataset(root / "data" / "help", variants=["bm25", "plain"], variants_on_request=[])
    edit_yaml(root / "data" / "recipes" / "tuned.yaml", "index", store="lancedb")  # STORE
    settle(root / "data")
    return root


def write_short_project(root: Path, *variants: str) -> Path:
    """The tests' small project of some of its variants (bm25, base, tuned): runs in seconds."""
    write_project(root)
    edit_dataset(root / "data" / "small", variants=list(variants))
    mark_project(root)
    return root


@dataclass(frozen=True)
class State:
    """What stands in a project after a run: equal after every history that leads there."""

    objects: Mapping[str, str]
    """The digest of every partition."""
    rows: tuple[tuple[object, ...], ...]
    """Every row of history, without what says when, where and how fast."""
    newest: int
    """Rows of metrics_newest."""


def state_of(root: Path) -> State:
    """What stands there; every object is read and has the digest that its name says."""
    home = root / ".embed_pipeline"
    store = ArtifactStore(home / "artifacts")
    objects = {}
    for manifest in store.refs():
        store.open(manifest)
        if manifest.asset != "report":
            objects[f"{manifest.asset}[{manifest.partition}]"] = manifest.digest
    names = [field.name for field in dataclasses.fields(read_history(home / "metrics.duckdb")[0])]
    kept = [name for name in names if name not in OF_THE_RUN]
    rows = tuple(tuple(getattr(row, name) for name in kept) for row in read_history(home / "metrics.duckdb"))
    return State(objects, rows, len(read_newest(home / "metrics.duckdb")))


def sound_store(root: Path) -> int:
    """How many partitions stand there at this moment; raises where one leads to nothing or to something damaged."""
    store = ArtifactStore(root / ".embed_pipeline" / "artifacts")
    return sum(bool(store.open(manifest)) for manifest in store.refs())


def files_of(root: Path) -> Counter[str]:
    """What lies in the folder of state, by kind, and in the vector store, whose names end with a digest of the content.

    Records of Dagster, event files and locks, which grow with every run, are left out.
    """
    home, found = root / ".embed_pipeline", Counter()
    for path in home.rglob("*"):
        parts = path.relative_to(home).parts
        if (
            path.is_dir()
            or parts[0] in ("dagster", "usage", "chat", "tensorboard")
            or path.suffix in (".lock", ".batch")
        ):
            continue
        kind = "/".join(parts[:2]) if parts[0] == "artifacts" else parts[0]
        found[f"{kind}/{'/'.join(parts[2:3])}" if kind.endswith(("refs", "staging")) else kind] += 1
    found.update(f"store/{path.name}" for path in (root / STORE["EMBED_PIPELINE_LANCEDB_URL"]).iterdir())
    return found


def copy_of(project: Path, root: Path) -> Path:
    """A copy in place of whatever lies there; the same place each time, so that nothing differs by its path."""
    shutil.rmtree(root, ignore_errors=True)
    return Path(shutil.copytree(project, root, symlinks=True))


def _encoder(recipe: Path) -> object:
    import yaml

    return yaml.safe_load(recipe.read_text(encoding="utf-8"))["encoder"]
