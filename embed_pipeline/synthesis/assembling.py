"""The clean data set of documents: passages and synthetic questions, what wrote them, the sources that splits share.

Belongs here: questions to queries and judgments, and what the stages after it are handed. Does not belong here: writing
and filtering questions (generation).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from embed_pipeline.dataset.cleaning import CleanedData, CleaningCounts
from embed_pipeline.dataset.formats import RetrievalDataset, build_dataset
from embed_pipeline.dataset.ledger import LedgerEntry
from embed_pipeline.records import Judgment, Passage, Query, Split
from embed_pipeline.synthesis.questions import SyntheticQuestion

STYLE = "style"
GENERATOR = "generator"


@dataclass(frozen=True, slots=True)
class SharedSource:
    """A passage that a training question and a held-out question were written for."""

    passage_id: str
    training_question: str
    held_out_question: str
    held_out_split: Split


def assemble_dataset(passages: Iterable[Passage], questions: Iterable[SyntheticQuestion]) -> RetrievalDataset:
    """The data set: every passage, asked about or not, with its attributes; every question with style and generator.

    Each passage of a question is relevant to it, grade 1.

    Raises:
        ValueError: two questions are equal, or a question names an unknown passage.
    """
    asked = tuple(questions)
    return build_dataset(
        [
            Query(one.id, one.text, one.split, {STYLE: one.style, GENERATOR: f"{one.generator} {one.model}".strip()})
            for one in asked
        ],
        passages,
        [Judgment(one.id, passage_id) for one in asked for passage_id in one.passage_ids],
    )


def shared_sources(questions: Iterable[SyntheticQuestion]) -> tuple[SharedSource, ...]:
    """Every passage that is the source of a training question and of a validation or test question, by passage id.

    Must be empty: a model would be measured on what it was trained on. Counted from the questions alone, whatever the
    splitting did; a passage is named once for each split, with the first question by id on either side.
    """
    askers: defaultdict[str, dict[Split, str]] = defaultdict(dict)
    for question in sorted(questions, key=lambda one: one.id):
        for passage_id in question.passage_ids:
            askers[passage_id].setdefault(question.split, question.id)
    return tuple(
        SharedSource(passage_id, by_split["train"], by_split[split], split)
        for passage_id, by_split in sorted(askers.items())
        for split in ("validation", "test")
        if "train" in by_split and split in by_split
    )


def assemble_cleaned(
    passages: Sequence[Passage], questions: Sequence[SyntheticQuestion], ledger: Sequence[LedgerEntry]
) -> CleanedData:
    """The data set with the ledgers of cutting and writing; what the filters dropped is not counted as rejected rows.

    Raises:
        ValueError: there is no question, or one names an unknown passage.
    """
    if not questions:
        raise ValueError(
            f"synthetic_qa: no question passed the filters; the first reasons: {[e.reason for e in ledger[:3]]}. Read "
            "its ledger and change the section synthesis of dataset.yaml."
        )
    dataset = assemble_dataset(passages, questions)
    counts = CleaningCounts(
        rows=len(questions),
        rows_united=0,
        rows_rejected=0,
        cells_rejected=0,
        queries=len(dataset.queries),
        passages=len(dataset.passages),
        judgments=len(dataset.judgments),
    )
    return CleanedData(dataset, tuple(ledger), counts)


def describe_generators(queries: Sequence[Query]) -> str | None:
    """What wrote the queries, as `inverse_cloze` or `chat qwen3`; None where people did."""
    found = dict.fromkeys(query.attributes.get(GENERATOR, "") for query in queries)
    return ", ".join(sorted(name for name in found if name)) or None
