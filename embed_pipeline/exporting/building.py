"""All formats of one model, written, measured, and kept only where they are good enough."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.encoding.cross_encoder import CrossEncoder, load_cross_encoder
from embed_pipeline.encoding.encoder import Encoder
from embed_pipeline.encoding.local import LocalEncoder, load_local_encoder
from embed_pipeline.encoding.pair_scores import PairScorer
from embed_pipeline.evaluation.latency import spread
from embed_pipeline.evaluation.measures import Measure
from embed_pipeline.exporting.parity import (
    ORIGINAL,
    Measured,
    Parity,
    Speed,
    choose_format,
    compare,
    measure_encoder,
    measure_pair_speed,
    measure_pairs,
    measure_speed,
    write_parity,
)
from embed_pipeline.exporting.running import ExportedCrossEncoder, ExportedEncoder, StaticEncoder
from embed_pipeline.exporting.settings import ExportSettings, Format
from embed_pipeline.exporting.vectors import VectorForm, compare_vectors
from embed_pipeline.exporting.writing import (
    Inputs,
    check_packages,
    folder_bytes,
    write_float16,
    write_onnx,
    write_onnx_int8,
    write_onnx_int8_static,
    write_openvino_int8,
    write_pair_onnx,
    write_static,
)
from embed_pipeline.retrieval.search import RerankedRetriever

Model = TypeVar("Model")

_CALIBRATED_ON = 128
"""Train questions, and as many passages, whose activations give the scales of 8 bits."""


@dataclass(frozen=True)
class Exported:
    """What came of an export: each format's parity, what each takes on this machine, the one to deploy."""

    parities: tuple[Parity, ...]
    speeds: tuple[Speed, ...]
    deploy: Format | None


@dataclass(frozen=True)
class Export:
    """What is exported for whom: the questions it is held against, the bound, where it goes."""

    dataset: RetrievalDataset
    headline: Measure
    settings: ExportSettings
    work: Path
    """An empty folder for what is written before it is measured."""
    out: Path
    """An empty folder: one of each format's name that is good enough, and parity.json about all."""


def export_encoder(encoder: LocalEncoder, export: Export, *, dimensions: Sequence[int] = ()) -> Exported:
    """Every format of an encoder that keeps the headline, and what shorter and smaller vectors lose.

    `encoder` is the original, in float32; `dimensions` the shorter lengths that it was trained for.

    Raises:
        ValueError: a package is missing, the model cannot be written in a format, or there are no test queries.
    """
    dataset, onnx = export.dataset, export.work / "onnx"

    def sample() -> list[Inputs]:
        exported = ExportedEncoder(onnx)
        train = spread([query.text for query in dataset.queries_of("train")], _CALIBRATED_ON)
        passages = spread([passage.text for passage in dataset.passages], _CALIBRATED_ON)
        return [*exported.inputs_of("query", train), *exported.inputs_of("passage", passages)]

    writers: Mapping[Format, Callable[[Path], None]] = {
        "onnx": lambda out: write_onnx(encoder, out),
        "onnx_int8": lambda out: write_onnx_int8(onnx, out),
        "onnx_int8_static": lambda out: write_onnx_int8_static(onnx, sample(), out),
        "openvino_int8": lambda out: write_openvino_int8(onnx, sample(), out),
        "float16": lambda out: write_float16(encoder.directory, out, encoder.settings),
        "static": lambda out: write_static(encoder, out),
    }

    def opened(name: Format, folder: Path) -> Encoder:
        if name == "float16":
            return load_local_encoder(encoder.settings, device="cpu", directory=folder)
        return StaticEncoder(folder) if name == "static" else ExportedEncoder(folder)

    def small_vectors(original: Measured) -> tuple[VectorForm, ...]:
        asked, whole = len(original.ranking.queries), encoder.dimension
        cuts = dimensions or [whole // 2, whole // 4]
        return compare_vectors(
            original.outputs[:asked],
            original.outputs[asked:],
            dataset,
            original.scores,
            dimensions=cuts if encoder.settings.normalize else [],
            headline=export.headline,
        )

    return _export(
        export,
        encoder,
        writers,
        opened,
        measure=lambda model: measure_encoder(model, dataset),
        time=lambda name, model: measure_speed(name, model, dataset),
        small_vectors=small_vectors,
    )


def export_cross_encoder(encoder: CrossEncoder, retriever: RerankedRetriever, export: Export) -> Exported:
    """Every format of a cross-encoder with which the reranked hits keep the headline; `retriever` has both stages.

    Raises:
        ValueError: as `export_encoder`.
    """
    onnx = export.work / "onnx"
    writers: Mapping[Format, Callable[[Path], None]] = {
        "onnx": lambda out: write_pair_onnx(encoder, out),
        "onnx_int8": lambda out: write_onnx_int8(onnx, out),
        "float16": lambda out: write_float16(encoder.directory, out, None),
    }

    def opened(name: Format, folder: Path) -> PairScorer:
        if name == "float16":
            return load_cross_encoder(encoder.settings.model_copy(update={"model": str(folder), "revision": None}))
        return ExportedCrossEncoder(folder, encoder)

    return _export(
        export,
        encoder,
        writers,
        opened,
        measure=lambda model: measure_pairs(model, retriever, export.dataset),
        time=lambda name, model: measure_pair_speed(name, model, retriever, export.dataset),
        small_vectors=lambda _: (),
    )


def _export(
    export: Export,
    model: Model,
    writers: Mapping[Format, Callable[[Path], None]],
    opened: Callable[[Format, Path], Model],
    *,
    measure: Callable[[Model], Measured],
    time: Callable[[str, Model], Speed],
    small_vectors: Callable[[Measured], tuple[VectorForm, ...]],
) -> Exported:
    formats = export.settings.formats
    check_packages(formats)
    original = measure(model)
    parities, speeds = [], [time(ORIGINAL, model)]
    if any("int8" in name for name in formats) or "onnx" in formats:  # the others of ONNX are made of it
        writers["onnx"](export.work / "onnx")
    for name in formats:
        folder = export.work / name
        if name != "onnx":
            writers[name](folder)
        exported = opened(name, folder)
        found, size = measure(exported), folder_bytes(folder) / 1e6
        parity = compare(original, found, name, megabytes=size, headline=export.headline, settings=export.settings)
        parities.append(parity)
        if name != "float16":  # in float32 arithmetic it is as fast as the original
            speeds.append(time(name, exported))
        if parity.refused is None:
            shutil.copytree(folder, export.out / name)
    write_parity(
        parities,
        small_vectors(original),
        export.out,
        headline=export.headline,
        queries=len(original.ranking.queries),
    )
    return Exported(tuple(parities), tuple(speeds), choose_format(parities, speeds))
