"""How an artifact becomes a materialisation: its data version, its metadata, its checks."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from embed_pipeline.artifacts import Manifest

Assets = Any
"""What a module defines: a list of dg.AssetsDefinition, which dagster's decorator is typed not to return."""

OWNERS = ["team:embed-pipeline"]
ASSET_OPTIONS: Mapping[str, Any] = {"owners": OWNERS}


def materialized(
    manifest: Manifest,
    *,
    metadata: Mapping[str, Any] | None = None,
    checks: Sequence[dg.AssetCheckResult] = (),
) -> dg.MaterializeResult:
    """The materialisation of an artifact: data version = digest; metadata says what is in it and what it cost."""
    figures = {name: value for name, value in manifest.details.items() if isinstance(value, (int, float, str))}
    return dg.MaterializeResult(
        data_version=dg.DataVersion(manifest.digest),
        metadata={
            **figures,
            **(metadata or {}),
            "digest": manifest.digest,
            "fingerprint": manifest.fingerprint,
            "cached": manifest.cached,
            "build_seconds": round(manifest.seconds, 2),
            "built_at": manifest.built_at,
            "git_commit": manifest.git_commit or "not under git",
            "inputs": dg.MetadataValue.json(dict(manifest.inputs)),
            "settings": dg.MetadataValue.json(dict(manifest.settings)),
        },
        check_results=list(checks),
    )


def detail_table(manifest: Manifest, name: str) -> dg.MetadataValue:
    """A group of figures among the manifest's details as a table of names and values."""
    group = manifest.details.get(name)
    return table(
        [{"figure": key, "value": str(value)} for key, value in group.items()] if isinstance(group, dict) else []
    )


def table(rows: Sequence[Mapping[str, Any]]) -> dg.MetadataValue:
    """Rows as a table in the asset's metadata, a cell that a row lacks left empty; `none` when there are no rows."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    records = [dg.TableRecord({name: _cell(row.get(name, "")) for name in names}) for row in rows]
    if not records:
        return dg.MetadataValue.text("none")
    return dg.MetadataValue.table(records=records)


def picture(png: bytes, caption: str) -> dg.MetadataValue:
    """A PNG as Markdown that the UI draws."""
    import base64

    return dg.MetadataValue.md(f"![{caption}](data:image/png;base64,{base64.b64encode(png).decode()})")


def svg_picture(svg: str, caption: str) -> dg.MetadataValue:
    """A drawing as Markdown that the UI draws, with the reader's own fonts."""
    import base64

    return dg.MetadataValue.md(f"![{caption}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})")


def _cell(value: object) -> str | int | float | bool:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return value if isinstance(value, (int, str, bool)) else str(value)
