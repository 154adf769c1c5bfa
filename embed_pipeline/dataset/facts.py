"""What a cleaned data set is like, in the few figures that a training is chosen by.

Belongs here: the figures, and when a corpus is a list of labels. Does not belong here: what follows from them
(project/automatic_training.py).
"""

import statistics

from pydantic import BaseModel, ConfigDict, Field

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.records import LABEL

LABEL_LENGTH = 40
"""Characters up to which a text is taken for a label, by the median."""
_MOST_LABELS = 1000


class DataFacts(BaseModel):
    """The figures of one data set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train_queries: int = Field(ge=0, description="Train queries with at least one relevant passage.")
    passages: int = Field(ge=0)
    passage_length: float = Field(ge=0, description="In characters, the median; of a label without its description.")
    is_label_list: bool = Field(description="Few short passages that many questions share.")

    @property
    def in_words(self) -> str:
        """All of them, on one line."""
        kind = "labels" if self.is_label_list else "passages"
        texts = f"{self.passages:,} {kind} of some {self.passage_length:.0f} characters"
        return f"{self.train_queries:,} train questions, {texts}"


def is_label_list(passage_length: float, passages: int, queries: int) -> bool:
    """Whether a corpus of so many passages, of that median length in characters, is a list of labels."""
    return passage_length <= LABEL_LENGTH and passages <= min(_MOST_LABELS, queries / 2)


def data_facts(dataset: RetrievalDataset) -> DataFacts:
    """The figures of a cleaned data set; the length of no passages is 0."""
    answered = {judgment.query_id for judgment in dataset.judgments if judgment.grade > 0}
    lengths = [len(passage.attributes.get(LABEL, passage.text)) for passage in dataset.passages]
    passage_length = float(statistics.median(lengths or [0]))
    return DataFacts(
        train_queries=sum(query.id in answered for query in dataset.queries_of("train")),
        passages=len(dataset.passages),
        passage_length=passage_length,
        is_label_list=is_label_list(passage_length, len(dataset.passages), len(dataset.queries)),
    )
