"""Small pieces of work for the tests of the artifact store."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embed_pipeline.artifacts import JSON, ArtifactStore, Manifest, Plan


def plan_of(
    rate: JSON = 0.1, *, asset: str = "mined_negatives", partition: str = "disease/bm25", inputs: Mapping[str, str] = {}
) -> Plan:
    return Plan(asset=asset, partition=partition, code_version="1", settings={"rate": rate}, inputs=inputs)


@dataclass
class Writer:
    """A `make` that writes a text into two files and counts how often it had to."""

    text: str
    calls: int = 0

    def __call__(self, directory: Path) -> dict[str, JSON]:
        self.calls += 1
        (directory / "rows.txt").write_text(self.text, encoding="utf-8")
        (directory / "deep" / "er").mkdir(parents=True)
        (directory / "deep" / "er" / "copy.txt").write_text(self.text, encoding="utf-8")
        return {"rows": len(self.text)}


def text_of(store: ArtifactStore, version: Manifest) -> str:
    """What a Writer wrote, read back by way of the store."""
    directory = store.open(version)
    text = (directory / "rows.txt").read_text(encoding="utf-8")
    assert (directory / "deep" / "er" / "copy.txt").read_text(encoding="utf-8") == text
    return text


def overwrite(path: Path, text: str) -> None:
    """Damage a file of an object in spite of its protection."""
    path.chmod(0o644)
    path.write_text(text, encoding="utf-8")
