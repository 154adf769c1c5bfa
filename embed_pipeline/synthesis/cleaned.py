"""The clean data set of documents, and in words what wrote its questions.

Belongs here: what the stages after it are handed. Does not belong here: writing and filtering questions (generation).
"""

from collections.abc import Sequence

from embed_pipeline.dataset.cleaning import CleanedData, CleaningCounts
from embed_pipeline.dataset.ledger import LedgerEntry
from embed_pipeline.records import Passage, Query
from embed_pipeline.synthesis.assembling import GENERATOR, assemble_dataset
from embed_pipeline.synthesis.questions import SyntheticQuestion


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
