"""What mteb is given: tasks with their data in memory, so that no hub is asked, and an encoder as it sees one.

Belongs here: the types of task that need no more than text, what a task consists of, its content digest, our data set
as a retrieval task, the model whose revision is the content of its weights. Does not belong here: task folders on disk
(mteb_folder), running (mteb_run).
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.encoding.encoder import Encoder
from embed_pipeline.records import LANGUAGE, Split

if TYPE_CHECKING:
    import torch
    from mteb import AbsTask
    from mteb.models.model_meta import ModelMeta
    from mteb.types import PromptType

TaskType = Literal["retrieval", "reranking", "classification", "clustering", "pair_classification", "sts"]

_RANKING_SCORES = r"(ndcg|map|mrr|recall|precision|hit_rate)_at_(1|3|5|10|20|100|1000)"


UNDETERMINED = "und-Zyyy"
"""mteb's code where the language is not known; without any code mteb's own means over a task are NaN."""


@dataclass(frozen=True, slots=True)
class _Type:
    """One of mteb's types: its name, the base class, text to text or to class, its scores, mteb's own main score."""

    mteb_name: Any  # one of a Literal of mteb's
    base_class: str
    category: Literal["t2t", "t2c"]
    scores: str
    main_score: str


_TYPES: dict[TaskType, _Type] = {
    "retrieval": _Type("Retrieval", "AbsTaskRetrieval", "t2t", _RANKING_SCORES, "ndcg_at_10"),
    # a retrieval task with candidates; mteb's own class for reranking is deprecated
    "reranking": _Type("Reranking", "AbsTaskRetrieval", "t2t", _RANKING_SCORES, "map_at_1000"),
    "classification": _Type(
        "Classification", "AbsTaskClassification", "t2c", r"accuracy|(f1|precision|recall)(_weighted)?", "accuracy"
    ),
    "clustering": _Type("Clustering", "AbsTaskClustering", "t2c", r"v_measure|ami", "v_measure"),
    "pair_classification": _Type(
        "PairClassification",
        "AbsTaskPairClassification",
        "t2t",
        r"(max|similarity|cosine|dot|euclidean|manhattan)_(ap|f1|accuracy|precision|recall)",
        "max_ap",
    ),
    "sts": _Type("STS", "AbsTaskSTS", "t2t", r"((cosine|euclidean|manhattan)_)?(spearman|pearson)", "cosine_spearman"),
}


def mteb_type(task_type: TaskType) -> _Type:
    """What mteb calls this type and its parts."""
    return _TYPES[task_type]


def task_class(task_type: TaskType) -> "type[AbsTask]":
    """mteb's class of this type; it still lacks the description of one task."""
    from mteb import abstasks

    return getattr(abstasks, _TYPES[task_type].base_class)


def main_score_of(task_type: TaskType, wanted: str | None) -> str:
    """The score that stands for a task: the wanted one, or mteb's choice for the type.

    Raises:
        ValueError: mteb has no such score for this type.
    """
    described = _TYPES[task_type]
    if wanted is None:
        return described.main_score
    if not re.fullmatch(described.scores, wanted):
        raise ValueError(
            f"main_score of a {task_type} task must match {described.scores}, found {wanted!r}. "
            f"Correct it, or leave it out for {described.main_score}."
        )
    return wanted


def language_code(language: str) -> str:
    """mteb's code of a language: eng-Latn for en, eng or eng-Latn.

    Raises:
        ValueError: the language is unknown, or no script is known for it and none is named.
    """
    from mteb.languages.check_language_code import check_language_code
    from mteb.languages.iso_mappings import _get_iso1_to_iso3, _get_iso3_to_default_script

    code = language
    if "-" not in code:
        code = _get_iso1_to_iso3().get(code, code)
        code = f"{code}-{_get_iso3_to_default_script().get(code, '?')}"
    try:
        check_language_code(code)
    except ValueError as error:
        raise ValueError(
            f"language must be an ISO 639 code, as en, eng or with a script zho-Hans, found {language!r}. Correct it."
        ) from error
    return code


_DIGEST_VERSION = 1  # raise when build_task hands the same content to mteb in another way


@dataclass(frozen=True, slots=True)
class RankingContent:
    """Queries and documents as (id, text), grades by query and document id; candidates only where they are reranked."""

    queries: tuple[tuple[str, str], ...]
    documents: tuple[tuple[str, str], ...]
    grades: Mapping[str, Mapping[str, int]]
    candidates: Mapping[str, Sequence[str]] | None = None


@dataclass(frozen=True, slots=True)
class RowContent:
    """The rows of each split, all with the same columns, in mteb's names."""

    splits: Mapping[str, Sequence[Mapping[str, Any]]]


def retrieval_task(
    dataset: RetrievalDataset, name: str, *, split: Split = "test", languages: Sequence[str] = ()
) -> "AbsTask":
    """mteb's retrieval task over the whole corpus and the queries of a split that have a relevant passage.

    Grades stay as they are. Passages of equal text stay several documents, of which only the judged ids are relevant:
    mteb does not know about duplicates. It also orders equal scores by document id, descending. Both can make its
    figures differ from this project's. Without languages, the task has those that its records name.

    Raises:
        ValueError: mteb is not installed, a language is unknown, or no query of the split has a relevant passage.
    """
    content = retrieval_content(dataset, split)
    return build_task("retrieval", name, content, languages=languages or languages_of(dataset, split), split=split)


def languages_of(dataset: RetrievalDataset, split: Split) -> tuple[str, ...]:
    """The languages that passages and queries of the split name, sorted; empty where none does."""
    records = (*dataset.queries_of(split), *dataset.passages)
    return tuple(sorted({record.attributes[LANGUAGE] for record in records if LANGUAGE in record.attributes}))


def retrieval_content(dataset: RetrievalDataset, split: Split) -> RankingContent:
    """The corpus, and the queries of the split that have a relevant passage (grade 1 or more), with their grades.

    Raises:
        ValueError: the split has no such query.
    """
    grades = dataset.relevant()
    queries = [query for query in dataset.queries_of(split) if any(grade > 0 for grade in grades[query.id].values())]
    if not queries:
        raise ValueError(f"data set: expected queries with a relevant passage in the split {split}, found none.")
    return RankingContent(
        queries=tuple((query.id, query.text) for query in queries),
        documents=tuple((passage.id, passage.text) for passage in dataset.passages),
        grades={query.id: grades[query.id] for query in queries},
    )


def build_task(
    task_type: TaskType,
    name: str,
    content: RankingContent | RowContent,
    *,
    languages: Sequence[str],
    split: str = "test",
    main_score: str | None = None,
) -> "AbsTask":
    """An mteb task whose data is loaded, and whose dataset revision is the digest of all that decides its scores.

    Clustering uses every row (mteb's default is 4 %).

    Raises:
        ValueError: mteb is not installed, the name is no file name, or the main score or a language is unknown.
    """
    check_mteb_is_installed()
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"name of a task must be of letters, digits, '.', '_' and '-', found {name!r}. Rename it.")
    from mteb.abstasks.task_metadata import TaskMetadata

    main_score = main_score_of(task_type, main_score)
    base = task_class(task_type)
    metadata = TaskMetadata(
        name=name,
        description=f"{name}: local data, not published.",
        dataset={"path": f"local/{name}", "revision": _digest(task_type, main_score, split, content)},
        type=mteb_type(task_type).mteb_name,
        category=mteb_type(task_type).category,
        eval_splits=[split],
        eval_langs=[language_code(language) for language in languages] or [UNDETERMINED],
        main_score=main_score,
        is_public=False,
    )
    settings: dict[str, Any] = {"metadata": metadata}
    if task_type == "clustering" and isinstance(content, RowContent):
        rows = len(content.splits[split])
        settings |= {"max_fraction_of_documents_to_embed": None, "max_documents_per_cluster": min(rows, 16_384)}
    task = type(base.__name__, (base,), settings)()
    task.dataset = _ranking_data(content, split) if isinstance(content, RankingContent) else _row_data(content)
    task.data_loaded = True
    return task


def _ranking_data(content: RankingContent, split: str) -> Any:
    from datasets import Dataset

    def rows(items: Sequence[tuple[str, str]]) -> Dataset:
        return Dataset.from_dict({"id": [item[0] for item in items], "text": [item[1] for item in items]})

    candidates = content.candidates
    data = {
        "corpus": rows(content.documents),
        "queries": rows(content.queries),
        "relevant_docs": {query_id: dict(grades) for query_id, grades in content.grades.items()},
        "top_ranked": None if candidates is None else {query_id: list(ids) for query_id, ids in candidates.items()},
    }
    return {"default": {split: data}}


def _row_data(content: RowContent) -> Any:
    from datasets import Dataset, DatasetDict

    return DatasetDict({name: Dataset.from_list([dict(row) for row in rows]) for name, rows in content.splits.items()})


def _digest(task_type: TaskType, main_score: str, split: str, content: RankingContent | RowContent) -> str:
    if isinstance(content, RankingContent):
        data: Any = [content.queries, content.documents, content.grades, content.candidates]
    else:
        data = content.splits
    identity = [_DIGEST_VERSION, task_type, main_score, split, data]
    text = json.dumps(identity, sort_keys=True, ensure_ascii=True, default=dict)
    return hashlib.sha256(text.encode()).hexdigest()


ORGANISATION = "embed-pipeline"


class MtebEncoder:
    """Implements mteb's EncoderProtocol over one of our encoders.

    Queries of a retrieval or reranking task are encoded as queries. All else is encoded as passages: documents, and the
    texts of the symmetric tasks (classification, clustering, pair classification, STS), which mteb gives no role; two
    equal texts must get equal vectors there, and a query's instruction describes a search that does not take place.
    The prompts of a task are ignored: an encoder's instructions belong to it and to its fingerprint.

    Similarity is the inner product, by which this project ranks. Scores do not depend on mteb's batch size.
    """

    def __init__(self, encoder: Encoder, variant: str, *, max_tokens: int | None = None) -> None:
        """`variant` names the model in mteb's results; `max_tokens` is the limit of a passage, None if unknown.

        Raises:
            ValueError: mteb is not installed, or the name is empty.
        """
        check_mteb_is_installed()
        if not variant.strip():
            raise ValueError("mteb model: expected the name of a variant, found an empty one. Name the variant.")
        self._encoder = encoder
        self._description = _describe(encoder, f"{ORGANISATION}/{variant}", max_tokens)

    @property
    def mteb_model_meta(self) -> "ModelMeta":
        """Name, and as revision the fingerprint of the encoder; what is not known is None."""
        return self._description

    def encode(
        self, inputs: Iterable[Any], *, prompt_type: "PromptType | None" = None, **_what_is_encoded: Any
    ) -> np.ndarray:
        """float32 (texts, dimension), row i for text i of all batches together."""
        texts = [text for batch in inputs for text in cast("list[str]", batch["text"])]
        return self._encoder.encode_queries(texts) if prompt_type == "query" else self._encoder.encode_passages(texts)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> "torch.Tensor":
        """The inner products of all rows with all rows, (rows of the first, rows of the second)."""
        import torch

        return torch.atleast_2d(torch.as_tensor(embeddings1)) @ torch.atleast_2d(torch.as_tensor(embeddings2)).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> "torch.Tensor":
        """The inner product of row i with row i."""
        import torch

        return (torch.as_tensor(embeddings1) * torch.as_tensor(embeddings2)).sum(dim=-1)


def check_mteb_is_installed() -> None:
    """Raises ValueError, naming the extra, where mteb is missing."""
    if find_spec("mteb") is None:
        raise ValueError("mteb is not installed, which this needs. Run `pip install 'embed-pipeline[mteb]'`.")


def _describe(encoder: Encoder, name: str, max_tokens: int | None) -> "ModelMeta":
    from mteb.models.model_meta import ModelMeta, ScoringFunction

    return ModelMeta(
        loader=None,
        name=name,
        revision=encoder.fingerprint,
        release_date=None,
        languages=None,
        n_parameters=None,
        memory_usage_mb=None,
        max_tokens=max_tokens,
        embed_dim=encoder.dimension,
        license=None,
        open_weights=None,
        public_training_code=None,
        public_training_data=None,
        framework=[],
        similarity_fn_name=ScoringFunction.DOT_PRODUCT,
        use_instructions=None,
        training_datasets=None,
    )
