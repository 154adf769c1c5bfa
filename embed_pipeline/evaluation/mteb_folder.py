"""Task folders: mteb tasks from local files, and a data set of ours as such a folder.

Belongs here: task.yaml and the folder as a whole. Does not belong here: the data files (mteb_content), handing the data
to mteb (mteb_tasks).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.evaluation.mteb_content import read_content
from embed_pipeline.evaluation.mteb_model import check_mteb_is_installed
from embed_pipeline.evaluation.mteb_tasks import TaskType, build_task, languages_of, retrieval_content
from embed_pipeline.records import Split
from embed_pipeline.settings_file import read_mapping, shown

if TYPE_CHECKING:
    from mteb import AbsTask

TASK_FILE = "task.yaml"


class LocalTaskSettings(BaseModel):
    """The content of task.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="The task's name in the results, where a file is called after it.")
    type: TaskType = Field(description="Which of mteb's tasks the data is for.")
    language: str | tuple[str, ...] = Field(description="ISO 639 codes of the texts: en, eng, zho-Hans; [] if unknown.")
    main_score: str | None = Field(default=None, description="The score that stands for the task, else mteb's choice.")


def read_local_task(folder: Path) -> "AbsTask":
    """The mteb task in a folder: task.yaml (see LocalTaskSettings) and these files, each as .jsonl or .parquet.

    retrieval: queries (id, text), corpus (id, text, title if there is one), qrels (query-id, corpus-id, score: a whole
    number, 0 is judged irrelevant). Queries without a relevant document are left out.
    reranking: the same, and top_ranked (query-id, corpus-ids: the candidates), a row for each of these queries.
    classification: train and test (text, label: text or whole number). A classifier over the vectors learns train.
    clustering: test (sentences: one text; labels: text or whole number).
    pair_classification: test (sentence1, sentence2, labels: 1 they belong together, 0 not).
    sts: test (sentence1, sentence2, score: higher is more similar).

    Other columns are ignored; the score is of the split test. Nothing is fetched.

    Raises:
        ValueError: mteb is not installed, a file is missing or malformed (names file, line and field), an id is unknown
            or there twice, or the labels or scores are all the same.
    """
    check_mteb_is_installed()
    settings = _read_settings(folder / TASK_FILE)
    languages = (settings.language,) if isinstance(settings.language, str) else settings.language
    content = read_content(folder, settings.type)
    try:
        return build_task(settings.type, settings.name, content, languages=languages, main_score=settings.main_score)
    except ValueError as error:
        raise ValueError(f"{folder / TASK_FILE}: {error}") from error


def read_local_tasks(folder: Path) -> tuple["AbsTask", ...]:
    """The task of a folder that holds task.yaml, else the tasks of all folders in it that do, sorted by path.

    Raises:
        ValueError: there is none, or one is malformed.
    """
    found = (
        [folder] if (folder / TASK_FILE).is_file() else sorted(path.parent for path in folder.glob(f"*/{TASK_FILE}"))
    )
    if not found:
        raise ValueError(f"{folder}: expected {TASK_FILE} in it or in its folders, found none. Add task folders.")
    return tuple(read_local_task(path) for path in found)


def write_retrieval_task(
    dataset: RetrievalDataset, folder: Path, name: str, *, split: Split = "test", languages: Sequence[str] = ()
) -> None:
    """Write the files of `read_local_task` into an existing folder: the same task as `retrieval_task` makes.

    The same content gives the same bytes. Raises ValueError as `retrieval_content` does.
    """
    content = retrieval_content(dataset, split)
    task = {"name": name, "type": "retrieval", "language": list(languages or languages_of(dataset, split))}
    (folder / TASK_FILE).write_text(yaml.safe_dump(task, sort_keys=False, allow_unicode=True), encoding="utf-8")
    _write_lines(folder / "queries.jsonl", [{"id": id, "text": text} for id, text in content.queries])
    _write_lines(folder / "corpus.jsonl", [{"id": id, "text": text} for id, text in content.documents])
    grades = [
        {"query-id": query_id, "corpus-id": passage_id, "score": grade}
        for query_id, of_query in content.grades.items()
        for passage_id, grade in of_query.items()
    ]
    _write_lines(folder / "qrels.jsonl", grades)


def _write_lines(path: Path, rows: Sequence[dict[str, str] | dict[str, str | int]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _read_settings(path: Path) -> LocalTaskSettings:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; a task folder needs one. Write name, type and language into it.")
    try:
        return LocalTaskSettings.model_validate(read_mapping(path))
    except ValidationError as error:
        found = error.errors()[0]
        field = ".".join(str(part) for part in found["loc"]) or "content"
        raise ValueError(f"{path}: {field}: {found['msg']}, found {shown(found['input'])}. Correct it.") from error
