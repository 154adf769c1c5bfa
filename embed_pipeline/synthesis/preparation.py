"""What writing questions starts from: passages in order, their splits, those that are asked about, and the requests.

Belongs here: everything that is known before the first question is written. Does not belong here: writing (generation).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embed_pipeline.records import Passage
from embed_pipeline.synthesis.prompting import WritingRequest, draw_passages, writing_requests
from embed_pipeline.synthesis.settings import SynthesisSettings
from embed_pipeline.synthesis.source_splits import SourceSplits, split_sources
from embed_pipeline.synthesis.sources import Sources, collect_sources
from embed_pipeline.synthesis.templates import load_template


@dataclass(frozen=True, slots=True)
class Prepared:
    """The passages and their splits, those drawn to be asked about, and the language to ask in."""

    sources: Sources
    splits: SourceSplits
    drawn: tuple[Passage, ...]
    language: str


def prepare(passages: Sequence[Passage], settings: SynthesisSettings, language: str) -> Prepared:
    """The start of writing; `language` is the data set's, the settings may name another.

    Raises:
        ValueError: a passage does not say its file, or there are too few documents or sections.
    """
    sources = collect_sources(passages)
    splits = split_sources(sources.ordered, settings.split, settings.split_by)
    return Prepared(sources, splits, draw_passages(sources, splits, settings), settings.language or language)


def requests_for(
    made: Prepared, settings: SynthesisSettings, templates_folder: Path | None
) -> tuple[WritingRequest, ...]:
    """The requests for questions; none where no model writes. Raises ValueError as `load_template`."""
    if settings.generator != "chat":
        return ()
    templates = [load_template(style, made.language, templates_folder) for style in settings.styles]
    return writing_requests(
        made.drawn, made.sources, made.splits, settings, templates=templates, language=made.language
    )
