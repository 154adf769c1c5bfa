"""Passages of equal text: one answer under several ids."""

from collections.abc import Iterable

from embed_pipeline.records import Passage


def canonical_passages(passages: Iterable[Passage]) -> dict[str, str]:
    """Passage id → smallest id of the same text, for passages that are not the smallest themselves."""
    first: dict[str, str] = {}
    ordered = sorted(passages, key=lambda passage: passage.id)
    for passage in ordered:
        first.setdefault(passage.text, passage.id)
    return {passage.id: first[passage.text] for passage in ordered if first[passage.text] != passage.id}
