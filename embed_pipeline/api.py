"""A project from Python, as in a notebook: run it, read its tables, encode and search with its variants.

`embed_pipeline.open_project("my_project")` gives an OpenProject. It does what the command line does, on the same state:
what was run here is fresh there. While a method runs, the process is in the project's folder; so use one thread.

Belongs here: what a user calls, and tables as pandas DataFrames. Does not belong here: the work (defs).
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import asdict, dataclass, fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from embed_pipeline.assembly.variant_encoder import Found, Searcher, load_search, load_searcher, load_variant_encoder
from embed_pipeline.encoding.encoder import Encoder
from embed_pipeline.encoding.pair_scores import CachedPairScorer
from embed_pipeline.encoding.vector_cache import CachedEncoder, VectorCache
from embed_pipeline.graph.freshness import assess
from embed_pipeline.graph.graph import PAIR_SCORES_FOLDER, VECTORS_FOLDER, Graph
from embed_pipeline.graph.node_settings import METRICS_FILE
from embed_pipeline.project.finding import find_project
from embed_pipeline.project.variants import Variant
from embed_pipeline.reporting.metrics_table import MetricRow
from embed_pipeline.retrieval.searching import Search

if TYPE_CHECKING:
    import pandas as pd

    from embed_pipeline.defs.resources import PipelineResource

__all__ = ("Found", "OpenProject", "RunFailedError", "Searcher")

_PLACES = ("DAGSTER_HOME", "EMBED_PIPELINE_DAGSTER_STORAGE")
_NOT_SHOWN = ("measure", "cutoff", "recipe")


class RunFailedError(RuntimeError):
    """Runs failed; the message has what each of them said."""


@dataclass(frozen=True)
class OpenProject:
    """A project's folder, to be worked with; nothing of it is held in memory."""

    folder: Path

    @classmethod
    def find(cls, folder: "str | PathLike[str]") -> "OpenProject":
        """The project in the folder, or the one that the folder lies in.

        Raises:
            NoProjectError: there is none, or its folder of data sets is missing.
        """
        project = cls(find_project(Path(folder).expanduser()))
        with project._entered() as pipeline:
            pipeline.project().check_data_folder()
        return project

    def run(self, *, dataset: str | None = None, variant: str | None = None) -> tuple[str, ...]:
        """Runs what is stale or missing, upstream first; of one data set or variant with what it stands on.

        Returns what was run, as `evaluate_variant disease/minilm`; nothing where all is fresh.

        Raises:
            UnknownNameError: there is no such data set or variant.
            RunFailedError: something failed, or a data set cannot be read; what does not stand on it was run all the
                same.
        """
        with self._entered() as pipeline:
            from embed_pipeline.definitions import build_definitions
            from embed_pipeline.defs.running import execute, open_instance
            from embed_pipeline.graph.topology import select_nodes
            from embed_pipeline.graph.work import in_turn, ready_work, work_off

            wanted, definitions = select_nodes(pipeline.project(), dataset, variant), build_definitions(pipeline)
            broken = tuple(pipeline.project().broken.values())
            pipeline.graph().store.forget_damaged()
            with open_instance() as instance:
                attempts = work_off(
                    lambda given_up: ready_work(pipeline.graph(), wanted, given_up),
                    in_turn(lambda work: execute(definitions, work, instance), pipeline.graph),
                )
        done = tuple(f"{attempt.work.job.name} {attempt.work.partition}" for attempt in attempts)
        failures = [
            f"{name}: {error}" for name, attempt in zip(done, attempts, strict=True) for error in attempt.errors
        ]
        if failures:
            raise RunFailedError(f"{self.folder}: {len(failures)} runs failed.\n" + "\n".join(failures))
        if broken and dataset is None and variant is None:
            raise RunFailedError(f"{self.folder}: {len(broken)} data sets cannot be read.\n" + "\n".join(broken))
        return done

    def status(self) -> "pd.DataFrame":
        """One row per asset and partition, upstream first: `asset`, `partition`, `state`, `because`.

        A data set that cannot be read has one row, without an asset, that says why.
        """
        import pandas as pd

        with self._entered() as pipeline:
            graph = pipeline.graph()
            found = assess(graph)
        rows = [(item.node.asset, item.node.partition, item.state, "; ".join(item.reasons)) for item in found]
        rows += [("", name, "failed", why) for name, why in graph.project.broken.items()]
        return pd.DataFrame(rows, columns=["asset", "partition", "state", "because"])

    def metrics(
        self, *, dataset: str | None = None, variant: str | None = None, everything: bool = False
    ) -> "pd.DataFrame":
        """The newest figures, one row per variant and measure; no rows before the first run.

        `measure` is written as `ndcg@10`; the other columns are those of MetricRow: `value` with its interval `low` to
        `high`, the difference to the baseline with `p_value`, `p_adjusted` and `verdict`, what using it takes, the
        digests that the figure came from. With `everything`, also the rows of slices and general suites, by `slice`
        and `measured_on`.

        Raises:
            UnknownNameError: there is no such data set or variant.
        """
        import pandas as pd

        rows = [row for row in self._rows(dataset, variant) if everything or row.covers_own_queries]
        shown = [field.name for field in fields(MetricRow) if field.name not in _NOT_SHOWN]
        shown.insert(shown.index("value"), "measure")
        return pd.DataFrame([asdict(row) | {"measure": str(row.at)} for row in rows], columns=shown)

    def encoder(self, variant: str) -> Encoder:
        """What turns texts into the vectors that the variant searches with, its trained weights included.

        `encode_queries(texts)` and `encode_passages(texts)` give float32 (texts, dimension), with the variant's own
        instructions and lengths. Vectors are kept in the project's state: a text is encoded once.

        Raises:
            UnknownNameError: there is no such variant.
            ValueError: the variant searches without vectors, or was not trained yet.
        """
        with self._entered() as pipeline:
            graph = pipeline.graph()
            chosen = graph.project.variant_named(variant)
            found = _encoder(graph, chosen)
        if found is None:
            known = [one.key for one in graph.project.variants_of(chosen.dataset) if one.encoding_variant.encoder]
            raise ValueError(
                f"{chosen.key}: expected a variant with vectors ({', '.join(known) or 'none here'}), found one of "
                f"retriever {chosen.recipe.retriever}. Name another, or use searcher()."
            )
        return found

    def searcher(self, variant: str) -> Searcher:
        """The variant's search over the passages of its data set, as the last run built the index.

        Raises:
            UnknownNameError: there is no such variant.
            ValueError: there is no index yet, or it was built with other weights than stand now.
        """
        with self._entered() as pipeline:
            graph = pipeline.graph()
            chosen = graph.project.variant_named(variant)
            return load_searcher(graph, chosen, _search(graph, chosen))

    def _rows(self, dataset: str | None, variant: str | None) -> Sequence[MetricRow]:
        from embed_pipeline.reporting.database import read_newest

        with self._entered() as pipeline:
            project = pipeline.project()
            if dataset is not None:
                project.check_dataset(dataset)
            chosen = project.variant_named(variant) if variant is not None else None
            file = project.home / METRICS_FILE
            if not file.exists():
                return ()
            rows = read_newest(file, dataset=dataset)
        return [row for row in rows if chosen is None or (row.dataset, row.variant) == (chosen.dataset, chosen.name)]

    @contextmanager
    def _entered(self) -> "Iterator[PipelineResource]":
        """In the project's folder, as the command line works; afterwards the process is where and what it was."""
        from embed_pipeline.defs.resources import pipeline_from_environment

        before = {name: os.environ.get(name) for name in _PLACES}
        with chdir(self.folder):
            try:
                yield pipeline_from_environment()
            finally:
                for name, value in before.items():
                    if value is None:
                        os.environ.pop(name, None)
                    else:
                        os.environ[name] = value


def _encoder(graph: Graph, variant: Variant) -> Encoder | None:
    cache = VectorCache(graph.project.home / VECTORS_FOLDER)
    return load_variant_encoder(graph, variant, lambda encoder: CachedEncoder(encoder, cache))


def _search(graph: Graph, variant: Variant) -> Search:
    vectors, scores = (VectorCache(graph.project.home / folder) for folder in (VECTORS_FOLDER, PAIR_SCORES_FOLDER))
    return load_search(
        graph, variant, lambda one: CachedEncoder(one, vectors), lambda one: CachedPairScorer(one, scores)
    )
