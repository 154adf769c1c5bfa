"""Query measures and hits on disk: JSON lines, sorted, equal content gives equal bytes.

Belongs here: the two files of the asset `query_metrics`. Does not belong here: computing what is in them.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from embed_pipeline.dataset.formats import read_lines
from embed_pipeline.evaluation.measures import Measure, MeasureName, QueryMeasure
from embed_pipeline.records import Hit


class _MetricLine(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    query_id: str = Field(description="The measured query.")
    measure: MeasureName = Field(description="Name of the measure.")
    cutoff: int = Field(ge=1, description="Its k.")
    value: float = Field(ge=0, le=1, description="What the query scored.")


class _HitLine(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    query_id: str = Field(description="The query that was searched.")
    passage_id: str = Field(description="What was found.")
    rank: int = Field(ge=1, description="1 is the best.")
    score: float = Field(description="Higher is better.")


def write_query_metrics(query_measures: Iterable[QueryMeasure], path: Path) -> None:
    """Writes a line per query and measure, sorted by query id, measure, cutoff; values in full precision."""
    ordered = sorted(query_measures, key=lambda result: (result.query_id, result.measure))
    _write_lines(
        path,
        (
            {"query_id": r.query_id, "measure": r.measure.name, "cutoff": r.measure.cutoff, "value": r.value}
            for r in ordered
        ),
    )


def read_query_metrics(path: Path) -> tuple[QueryMeasure, ...]:
    """What write_query_metrics wrote, in the order of the file.

    Raises:
        ValueError: a line is no query metric; names the line.
    """
    return tuple(
        QueryMeasure(line.query_id, Measure(line.measure, line.cutoff), line.value)
        for line in read_lines(path, _MetricLine, "query_metrics")
    )


def write_hits(hits: Iterable[Hit], path: Path) -> None:
    """Writes a line per hit, sorted by query id, then rank; scores in full precision."""
    ordered = sorted(hits, key=lambda hit: (hit.query_id, hit.rank, hit.passage_id))
    _write_lines(
        path,
        (
            {"query_id": hit.query_id, "passage_id": hit.passage_id, "rank": hit.rank, "score": float(hit.score)}
            for hit in ordered
        ),
    )


def read_hits(path: Path) -> tuple[Hit, ...]:
    """What write_hits wrote, in the order of the file.

    Raises:
        ValueError: a line is no hit; names the line.
    """
    return tuple(
        Hit(line.query_id, line.passage_id, line.rank, line.score)
        for line in read_lines(path, _HitLine, "query_metrics")
    )


def _write_lines(path: Path, lines: Iterable[dict[str, str | int | float]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
