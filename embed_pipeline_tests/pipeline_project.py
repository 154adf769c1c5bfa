"""A project folder with its own Dagster instance, for tests that run the real graph."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from embed_pipeline.artifacts import Manifest
from embed_pipeline.dataset.formats import read_dataset
from embed_pipeline.definitions import build_definitions
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline.defs.running import execute
from embed_pipeline.graph.graph import Graph
from embed_pipeline.graph.work import ready_work
from embed_pipeline.records import Query


@dataclass
class PipelineProject:
    """A project folder and its own Dagster instance."""

    root: Path

    @property
    def pipeline(self) -> PipelineResource:
        return PipelineResource(data=str(self.root / "data"), home=str(self.root / "home"), training_threads=1)

    @property
    def graph(self) -> Graph:
        return self.pipeline.graph()

    @property
    def dataset(self) -> Path:
        return self.root / "data" / "small"

    def manifest(self, asset: str, partition: str) -> Manifest:
        found = self.graph.store.read(asset, partition)
        assert found is not None, f"{asset}[{partition}] was not built"
        return found

    def run(self) -> list[str]:
        """Run what is stale until all is fresh; returns the jobs with their partitions."""
        done = []
        with dg.DagsterInstance.local_temp(str(self.root / "dagster")) as instance:
            while work := ready_work(self.graph):
                assert len(done) < 100, done
                errors = execute(build_definitions(self.pipeline), work[0], instance)
                assert not errors, errors
                done.append(f"{work[0].job.name} {work[0].partition}")
        return done

    def vectors(self) -> dict[str, int]:
        """Stored vectors per encoder."""
        counts = {}
        for path in sorted((self.root / "home" / "vectors").glob("*.sqlite")):
            with sqlite3.connect(path) as connection:
                (table,) = connection.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchone()
                counts[path.name] = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return counts

    def object(self, digest: str) -> Path:
        """Where an artifact lies."""
        return self.root / "home" / "artifacts" / "objects" / digest[:2] / digest[2:]

    def execute(self, job: str, partition: str | None) -> list[str]:
        """Materialise one partition of a job, whether stale or not; returns how each asset came about, in order."""
        with dg.DagsterInstance.local_temp(str(self.root / "dagster")) as instance:
            result = (
                build_definitions(self.pipeline)
                .resolve_job_def(job)
                .execute_in_process(instance=instance, partition_key=partition)
            )
        found = [event.materialization for event in result.all_events if event.is_step_materialization]
        return [
            f"{made.asset_key.to_user_string()} {'found' if made.metadata['cached'].value else 'built'}"
            for made in found
        ]

    def encoded(self, asset: str, partition: str) -> int:
        """How many texts the build of an artifact had to encode."""
        count = self.manifest(asset, partition).details["texts_encoded"]
        assert isinstance(count, int)
        return count

    def queries(self) -> tuple[Query, ...]:
        return read_dataset(self.graph.store.open(self.manifest("cleaned_qa", "small"))).queries

    def splits(self) -> dict[str, str]:
        return {query.id: query.split for query in self.queries()}
