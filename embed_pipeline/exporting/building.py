"""All formats of one encoder, written, measured, and kept only where they are good enough."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.encoding.encoder import Encoder
from embed_pipeline.encoding.local import LocalEncoder, load_local_encoder
from embed_pipeline.evaluation.measures import Measure
from embed_pipeline.exporting.formats import (
    OnnxEncoder,
    check_packages,
    folder_bytes,
    write_float16,
    write_onnx,
    write_onnx_int8,
)
from embed_pipeline.exporting.parity import (
    ORIGINAL,
    Parity,
    Speed,
    choose_format,
    compare,
    measure_encoder,
    measure_speed,
    write_parity,
)
from embed_pipeline.exporting.settings import ExportSettings, Format


@dataclass(frozen=True)
class Exported:
    """What came of an export: each format's parity, what each takes on this machine, the one to deploy."""

    parities: tuple[Parity, ...]
    speeds: tuple[Speed, ...]
    deploy: Format | None


def export_encoder(
    encoder: LocalEncoder,
    dataset: RetrievalDataset,
    out: Path,
    *,
    work: Path,
    headline: Measure,
    settings: ExportSettings,
) -> Exported:
    """Write every format that keeps the headline into a folder of its name in `out`, and parity.json about all of them.

    `encoder` is the original, in float32; `work` an empty folder for what is written before it is measured.

    Raises:
        ValueError: a package is missing, the model cannot be written in a format, or there are no test queries.
    """
    check_packages(settings.formats)
    original = measure_encoder(encoder, dataset)
    parities, speeds = [], [measure_speed(ORIGINAL, encoder, dataset)]
    written = _write(encoder, settings, work)
    for name in settings.formats:
        folder = written[name]
        exported = _open(name, folder, encoder)
        found, size = measure_encoder(exported, dataset), folder_bytes(folder) / 1e6
        parity = compare(original, found, name, megabytes=size, headline=headline, settings=settings)
        parities.append(parity)
        if name != "float16":  # in float32 arithmetic it is as fast as the original
            speeds.append(measure_speed(name, exported, dataset))
        if parity.refused is None:
            shutil.copytree(folder, out / name)
    write_parity(parities, out, headline=headline, queries=len(original.ranking.queries))
    return Exported(tuple(parities), tuple(speeds), choose_format(parities, speeds))


def _write(encoder: LocalEncoder, settings: ExportSettings, place: Path) -> Mapping[Format, Path]:
    written: dict[Format, Path] = {name: place / name for name in settings.formats}
    if {"onnx", "onnx_int8"} & set(written):
        write_onnx(encoder, place / "onnx")
    if "onnx_int8" in written:
        write_onnx_int8(place / "onnx", place / "onnx_int8")
    if "float16" in written:
        write_float16(encoder, place / "float16")
    return written


def _open(name: Format, folder: Path, original: LocalEncoder) -> Encoder:
    if name == "float16":
        return load_local_encoder(original.settings, device=original.device, directory=folder)
    return OnnxEncoder(folder)
