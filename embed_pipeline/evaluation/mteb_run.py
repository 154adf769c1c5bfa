"""Running mteb tasks, with scores cached under the content of the weights and of the data.

Belongs here: mteb's evaluation, our cache, what comes out of it. Does not belong here: making models and
tasks (mteb_tasks, mteb_folder).
"""

import copy
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.encoding.encoder import Encoder
from embed_pipeline.evaluation.mteb_folder import read_local_tasks
from embed_pipeline.evaluation.mteb_tasks import ORGANISATION, MtebEncoder, retrieval_task
from embed_pipeline.records import Split

if TYPE_CHECKING:
    from mteb import AbsTask
    from mteb.cache import ResultCache
    from mteb.models.model_meta import ModelMeta
    from mteb.results import TaskResult

_WRAPPING = 1  # raise when MtebEncoder or run_tasks start to give other scores
_DECIMALS = 6  # what mteb keeps on disk: a cached score equals a fresh one
_BATCH_SIZE = 256  # of mteb's loader alone; the encoder makes its own batches


@dataclass(frozen=True, slots=True)
class TaskScore:
    """What an encoder scored on one split and subset of a task; `scores` holds all of mteb's figures that are finite.

    `value` is NaN where mteb's main score is undefined (a correlation with a constant).
    """

    task: str
    type: str
    split: str
    subset: str
    main_score_name: str
    value: float
    scores: Mapping[str, float] = field(hash=False)


def measure_variant(
    encoder: Encoder,
    dataset: RetrievalDataset,
    *,
    name: str,
    variant: str,
    cache_directory: Path,
    split: Split = "test",
    languages: Sequence[str] = (),
    task_folder: Path | None = None,
    max_tokens: int | None = None,
    show_progress: bool = True,
) -> tuple[TaskScore, ...]:
    """What a variant scores on its own data set as an mteb retrieval task, then on the local tasks of a folder.

    Raises:
        ValueError: as `retrieval_task`, `read_local_tasks` and `run_tasks`.
    """
    own = retrieval_task(dataset, name, split=split, languages=languages)
    return run_tasks(
        encoder,
        (own, *(read_local_tasks(task_folder) if task_folder else ())),
        cache_directory=cache_directory,
        variant=variant,
        max_tokens=max_tokens,
        show_progress=show_progress,
    )


def run_tasks(
    encoder: Encoder,
    tasks: Sequence["AbsTask"],
    *,
    cache_directory: Path,
    variant: str,
    max_tokens: int | None = None,
    show_progress: bool = True,
) -> tuple[TaskScore, ...]:
    """A score per task, split and subset: tasks in the order given, splits in the task's, subsets by name.

    Scores come from the cache where the encoder's fingerprint, the task's name, its dataset revision and mteb's version
    are the same, whatever the variant is called; the encoder is then not asked. The given tasks are left as they are,
    so a task shows every encoder the same sample. No file is written outside cache_directory; importing mteb makes an
    empty ~/.cache/mteb, or the folder that the environment variable MTEB_CACHE names.

    Raises:
        ValueError: mteb is not installed, or two tasks share a name.
    """
    model = MtebEncoder(encoder, variant, max_tokens=max_tokens)
    import mteb

    names = [task.metadata.name for task in tasks]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"mteb: expected tasks of different names, found {', '.join(repeated)} twice. Rename one.")
    if not tasks:
        return ()
    with _bars(shown=show_progress):
        found = mteb.evaluate(
            cast("Any", model),  # mteb's protocol asks for its own constructor, which only its command line calls
            [_unused(task) for task in tasks],
            co2_tracker=False,
            encode_kwargs={"batch_size": _BATCH_SIZE, "show_progress_bar": show_progress},
            cache=_content_cache(cache_directory, {task.metadata.name: task.metadata.revision for task in tasks}),
            show_progress_bar=show_progress,
        )
    return tuple(
        score for task, result in zip(tasks, found.task_results, strict=True) for score in _scores(task, result)
    )


@contextmanager
def _bars(*, shown: bool) -> Iterator[None]:
    """The bars of datasets are off meanwhile if not shown; mteb does not pass that on."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if shown or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _unused(task: "AbsTask") -> "AbsTask":
    """A copy with its chance set back: clustering draws from a generator that would go on from encoder to encoder."""
    fresh = copy.copy(task)
    fresh.rng_state = random.Random(task.seed)
    return fresh


def _content_cache(directory: Path, revisions: Mapping[str, str]) -> "ResultCache":
    """mteb's cache, without its two ways to a stale score: a model's name in the key, and data left out of it."""
    from mteb.cache import ResultCache
    from mteb.models.model_meta import ModelMeta
    from mteb.results import TaskResult

    class ContentCache(ResultCache):
        def get_task_result_path(
            self, task_name: str, model_name: "str | ModelMeta", *args: Any, **kwargs: Any
        ) -> Path:
            if isinstance(model_name, ModelMeta):
                model_name = model_name.model_copy(update={"name": f"{ORGANISATION}/content-{_WRAPPING}"})
            return super().get_task_result_path(task_name, model_name, *args, **kwargs)

        def load_task_result(self, task_name: str, model_name: "str | ModelMeta", *_: Any, **more: Any) -> Any:
            path = self.get_task_result_path(task_name, model_name)
            if not path.is_file():
                return None
            try:
                result = TaskResult.from_disk(path, load_historic_data=False)
            except ValueError:  # a run was killed while it wrote: measure again
                return None
            same = result.dataset_revision == revisions[task_name] and result.mteb_version == version("mteb")
            return result if same else None

    return ContentCache(directory)


def _scores(task: "AbsTask", result: "TaskResult") -> Iterator[TaskScore]:
    for split in task.eval_splits:
        for found in sorted(result.scores[split], key=lambda scores: scores["hf_subset"]):
            scores = {
                name: round(float(value), _DECIMALS)
                for name, value in found.items()
                if isinstance(value, int | float) and math.isfinite(value)
            }
            yield TaskScore(
                task=task.metadata.name,
                type=task.metadata.type,
                split=split,
                subset=found["hf_subset"],
                main_score_name=task.metadata.main_score,
                value=scores.pop("main_score", math.nan),
                scores=scores,
            )
