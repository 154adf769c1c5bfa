"""Training groups as numbers: queries and passages by row, each query with its positives, negatives and teacher scores.

Belongs here: tokenised texts, equal ones once; what is true of a query over the whole run. Does not belong here: what a
step draws from it (candidates.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from embed_pipeline.encoding.encoder import EncoderSettings, Role
from embed_pipeline.mining.groups import TrainingGroup
from embed_pipeline.records import Passage
from embed_pipeline.training.candidates import corpus_is_small, resolve_candidates
from embed_pipeline.training.settings import Candidates, TrainingSettings

_PART = 4096


class Tokenizer(Protocol):
    """What of a transformers tokenizer is used here."""

    def __call__(self, text: list[str], /, *, truncation: bool, max_length: int | None) -> dict[str, list[list[int]]]:
        """A mapping whose `input_ids` are the tokens of each text."""
        ...


@dataclass(frozen=True)
class TokenTable:
    """Token sequences in a row; sequence i is tokens[starts[i]:starts[i + 1]]. Four bytes a token."""

    tokens: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per sequence."""
        return np.diff(self.starts)

    def row(self, at: int) -> np.ndarray:
        """The tokens of one sequence."""
        return self.tokens[self.starts[at] : self.starts[at + 1]]


@dataclass(frozen=True)
class TokenisedTexts:
    """The different token sequences of some texts in order of first appearance, and the row of every text.

    Texts that the tokenizer maps to the same tokens (equal texts; texts that differ in what it ignores, or behind the
    length limit) have the same vector and therefore the same row.
    """

    table: TokenTable
    rows: np.ndarray


def tokenise(texts: Sequence[str], role: Role, tokenizer: Tokenizer, settings: EncoderSettings) -> TokenisedTexts:
    """The texts with their role's instruction, cut to its length, each different sequence once."""
    row_of: dict[bytes, int] = {}
    rows, sequences = np.empty(len(texts), dtype=np.int64), []
    for start in range(0, len(texts), _PART):
        part = [settings.format_text(role, text) for text in texts[start : start + _PART]]
        ids = tokenizer(part, truncation=True, max_length=settings.max_length(role))["input_ids"]
        for at, sequence in enumerate(ids, start=start):
            array = np.asarray(sequence, dtype=np.int32)
            row = row_of.setdefault(array.tobytes(), len(sequences))
            if row == len(sequences):
                sequences.append(array)
            rows[at] = row
    starts = np.concatenate(([0], np.cumsum([len(sequence) for sequence in sequences], dtype=np.int64)))
    tokens = np.concatenate(sequences) if sequences else np.empty(0, dtype=np.int32)
    return TokenisedTexts(TokenTable(tokens, starts), rows)


@dataclass(frozen=True)
class TrainingQuery:
    """A query: its row in the table of queries, and rows of the table of passages."""

    row: int
    positives: tuple[int, ...]
    """Ascending; all of them, also those of groups with the same question."""
    negatives: tuple[int, ...]
    """Hardest first, none of them a positive."""
    teacher_scores: Mapping[int, float]


@dataclass(frozen=True)
class Examples:
    """All that a training run draws from; a passage is a row, whatever ids and texts share its tokens."""

    candidates: Candidates
    """Never auto."""
    queries: tuple[TrainingQuery, ...]
    query_tokens: TokenTable
    passage_tokens: TokenTable
    left_out: tuple[str, ...] = ()
    """Ids of queries of which every candidate is a positive: there is nothing to contrast it with."""

    @property
    def tables(self) -> dict[Role, TokenTable]:
        """The tokens of each role's texts."""
        return {"query": self.query_tokens, "passage": self.passage_tokens}


def build_examples(
    groups: Sequence[TrainingGroup],
    passages: Sequence[Passage],
    *,
    tokenizer: Tokenizer,
    encoder: EncoderSettings,
    training: TrainingSettings,
) -> Examples:
    """The groups as examples; passages outside the groups are read only where the candidates include them.

    Raises:
        ValueError: there are no groups, or every passage is a positive of every query while the corpus is the
            candidates.
    """
    if not groups:
        raise ValueError("training: expected groups, found none. Materialise mined_negatives with train queries.")
    in_groups = list(dict.fromkeys(text for group in groups for text in (*group.positives, *group.negatives)))
    corpus = list(dict.fromkeys((*(passage.text for passage in passages), *in_groups)))
    asked = training.candidates
    whole = asked in ("corpus", "sample") or (asked == "auto" and corpus_is_small(len(corpus), len(corpus)))
    tokenised = tokenise(corpus if whole else in_groups, "passage", tokenizer, encoder)
    candidates = resolve_candidates(
        asked,
        corpus_texts=len(corpus),
        corpus_tokens=int(tokenised.table.tokens.size) if whole else len(corpus),
        queries=len(groups),
        queries_with_negatives=sum(bool(group.negatives) for group in groups),
    )
    if candidates == "sample" and not whole:
        tokenised = tokenise(corpus, "passage", tokenizer, encoder)
        whole = True
    row_of = dict(zip(corpus if whole else in_groups, tokenised.rows.tolist(), strict=True))
    questions = tokenise([group.query for group in groups], "query", tokenizer, encoder)
    queries = _queries(groups, row_of, questions.rows)
    if candidates != "corpus":
        return Examples(candidates, queries, questions.table, tokenised.table)
    unfit = [len(query.positives) == len(tokenised.table) for query in queries]
    if all(unfit):
        raise ValueError(
            f"training: expected a query to which a passage of the corpus is wrong, found none among {len(queries)}: "
            "every passage is a positive of every query (texts of the same tokens count as one), so there is nothing "
            "to learn from. Add passages, or extend the vocabulary."
        )
    taught = tuple(query for query, left in zip(queries, unfit, strict=True) if not left)
    left_out = tuple(group.query_id for group, left in zip(groups, unfit, strict=True) if left)
    return Examples(candidates, taught, questions.table, tokenised.table, left_out)


def _queries(
    groups: Sequence[TrainingGroup], row_of: Mapping[str, int], query_rows: np.ndarray
) -> tuple[TrainingQuery, ...]:
    # By text, not by tokens: to an encoder that knows few of the characters, too many questions are one.
    positives: dict[str, set[int]] = {}
    for group in groups:
        positives.setdefault(group.query, set()).update(row_of[text] for text in group.positives)
    return tuple(
        TrainingQuery(
            row=row,
            positives=tuple(sorted(positives[group.query])),
            negatives=tuple(
                at for at in dict.fromkeys(row_of[text] for text in group.negatives) if at not in positives[group.query]
            ),
            teacher_scores=_teacher_scores(group, row_of),
        )
        for group, row in zip(groups, query_rows.tolist(), strict=True)
    )


def _teacher_scores(group: TrainingGroup, row_of: Mapping[str, int]) -> dict[int, float]:
    scores: dict[int, float] = {}
    for text, score in (
        *zip(group.positives, group.positive_scores, strict=True),
        *zip(group.negatives, group.negative_scores, strict=True),
    ):
        row = row_of[text]
        scores[row] = max(score, scores.get(row, score))
    return scores
