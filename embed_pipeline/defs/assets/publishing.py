"""How an asset presents itself in the UI: owner and tags, and of each materialisation data version, metadata, checks.

Belongs here: what all assets have in common there. Does not belong here: what is in one of them (its module), plots
(reporting).
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Literal

import dagster as dg

from embed_pipeline.artifacts import Manifest
from embed_pipeline.defs.checks import per_partition
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.encoding.usage import COST_DETAIL
from embed_pipeline.graph.catalogue import ASSETS, DATASET_ASSETS, PUBLISHED_ASSETS

Assets = Any
"""What a module defines: a list of dg.AssetsDefinition, which dagster's decorator is typed not to return."""

FILE_ROWS = 50
GPU_POOL = "gpu"
OF_A_DATASET = (*DATASET_ASSETS, "promoted_checkpoint")
OWNERS = ["team:embed-pipeline"]
Cost = Literal["cheap", "gpu", "may_be_paid"]
"""What a build may take: cheap: seconds to minutes of CPU; gpu: a training, which waits in the pool of that name;
may_be_paid: calls of a hosted model."""


def asset_options(
    partitions: Partitions,
    name: str,
    *,
    group: str,
    kinds: AbstractSet[str],
    cost: Cost = "cheap",
    specs: Sequence[dg.AssetCheckSpec] = (),
) -> dict[str, Any]:
    """What dg.asset is told of an asset: partitions, edges, version as in the graph; owner, tags, checks, pool."""
    grain = "project" if name in PUBLISHED_ASSETS else "data_set" if name in OF_A_DATASET else "variant"
    options: dict[str, Any] = {
        "deps": partitions.deps(name),
        "check_specs": specs,
        "group_name": group,
        "kinds": set(kinds),
        "code_version": ASSETS[name].version,
        "owners": OWNERS,
        "tags": {"grain": grain, "cost": cost},
        "pool": GPU_POOL if cost == "gpu" else None,
    }
    if grain != "project":
        own = partitions.of(name)
        options |= {"partitions_def": own, "check_specs": per_partition(specs, own)}
    return options


def materialized(
    manifest: Manifest,
    *,
    rows: int | None = None,
    folder: Path | None = None,
    metadata: Mapping[str, Any] | None = None,
    checks: Sequence[dg.AssetCheckResult] = (),
) -> dg.MaterializeResult:
    """The materialisation of an artifact: data version = digest; metadata says what is in it and what it cost.

    First what one looks for first, then figures, tables and pictures, then the evidence. `rows` counts what the grain
    in the asset's description names; `folder`, the opened artifact, adds a table of its files.
    """
    figures = {name: value for name, value in manifest.details.items() if isinstance(value, (int, float, str))}
    cost = figures.pop(COST_DETAIL, 0.0)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(manifest.digest),
        metadata={
            **({} if rows is None else {"dagster/row_count": rows}),
            "cached": manifest.cached,
            "digest": manifest.digest,
            "build_seconds": round(manifest.seconds, 2),
            "build_cost_usd": cost,
            **figures,
            **(metadata or {}),
            **({} if folder is None else {"contents": _files(folder)}),
            "built_at": manifest.built_at,
            "inputs": dg.MetadataValue.json(dict(manifest.inputs)),
            "settings": dg.MetadataValue.json(dict(manifest.settings)),
            "fingerprint": manifest.fingerprint,
            "git_commit": manifest.git_commit or "not under git",
        },
        check_results=list(checks),
    )


def detail_table(manifest: Manifest, name: str) -> dg.MetadataValue:
    """A group of figures among the manifest's details as a table of names and values."""
    group = manifest.details.get(name)
    return figure_table(group if isinstance(group, dict) else {})


def figure_table(figures: Mapping[str, Any]) -> dg.MetadataValue:
    """Names and values, one below the other."""
    return table([{"figure": name, "value": _told(value)} for name, value in figures.items()])


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


def _files(folder: Path) -> dg.MetadataValue:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    shown = [{"file": p.relative_to(folder).as_posix(), "bytes": p.stat().st_size} for p in paths[:FILE_ROWS]]
    return table(shown if len(paths) <= FILE_ROWS else [*shown, {"file": f"… {len(paths)} in all", "bytes": 0}])


def _told(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {part}" for name, part in value.items()) or "none"
    return "none" if value is None else str(_cell(value))


def _cell(value: object) -> str | int | float | bool:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return value if isinstance(value, (int, str, bool)) else str(value)
