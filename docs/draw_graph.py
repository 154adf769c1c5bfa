"""Draws docs/graph.svg from the asset graph itself: `python docs/draw_graph.py`.

An asset without a place below stands in a row of its own at the bottom; give it one.
"""

from collections import defaultdict
from pathlib import Path

from embed_pipeline.definitions import defs

WIDTH, HEIGHT, COLUMN, ROW, LEFT, TOP = 180, 64, 218, 92, 16, 20
# Column and row of every card, and what is said below its name.
PLACES: dict[str, tuple[float, float, str]] = {
    "raw_xlsx": (2, 0, "workbooks · costs nothing"),
    "raw_pairs": (2, 1, "question-passage pairs"),
    "raw_documents": (0, 2, "pdf, docx, html, md, txt"),
    "passages": (1, 2, "per data set · seconds"),
    "synthetic_qa": (2, 3, "LLM or offline · money"),
    "cleaned_qa": (3, 1.5, "per data set · seconds"),
    "mined_negatives": (4, 0, "per trained variant · encoding"),
    "finetuned_checkpoint": (5, 0, "per trained variant · GPU"),
    "word_vectors": (5, 3, "per word2vec variant · seconds"),
    "merged_checkpoint": (6, -1, "per mixture · encoding"),
    "promoted_checkpoint": (8, -1, "per data set · what to take"),
    "reranker_checkpoint": (6, 0, "per second stage · GPU"),
    "adapter": (5, 2, "per adapted variant · encoding"),
    "faiss_index": (6, 1, "per variant · encoding"),
    "hybrid_weights": (6, 2, "per hybrid variant · seconds"),
    "query_metrics": (7, 1, "per variant · seconds"),
    "general_metrics": (7, 3, "per variant · what it forgot"),
    "exported_model": (7, 0, "per exported variant · encoding"),
    "vector_store": (7, 2, "per published variant · sending"),
    "metrics_table": (8, 1.5, "one table · seconds"),
    "report": (8, 3, "a page per data set · seconds"),
}
COLOURS = {
    "documents": "#3b6fb5",
    "synthesis": "#7a4fb0",
    "dataset": "#2f7d5b",
    "mining": "#8a6d1d",
    "training": "#b0512b",
    "merging": "#8c5a3c",
    "adaptation": "#56707f",
    "reranking": "#9a4458",
    "retrieval": "#1f6f8b",
    "evaluation": "#5d4fa0",
    "exporting": "#4b7a1f",
    "stores": "#2b7a78",
    "reporting": "#a03a6b",
}
STYLE = """
    .card { fill: #ffffff; stroke: #8aa0b2; } .name { fill: #17212b; font-weight: 600; } .note { fill: #5b6b7a; font-size: 10.5px; }
    .arrow { stroke: #8aa0b2; stroke-width: 1.4; fill: none; marker-end: url(#head); } .tip { fill: #8aa0b2; }
    .group { fill: #ffffff; font-size: 10px; font-weight: 600; }
    @media (prefers-color-scheme: dark) {
      .card { fill: #1b232c; stroke: #5b6b7a; } .name { fill: #e8eef4; } .note { fill: #a5b4c2; }
      .arrow { stroke: #7f90a0; } .tip { fill: #7f90a0; }
    }
"""  # noqa: E501


def main() -> None:
    """Write the picture."""
    graph = defs.resolve_asset_graph()
    groups = {key.to_user_string(): graph.get(key).group_name for key in graph.get_all_asset_keys()}
    edges = sorted(
        (up.to_user_string(), key.to_user_string())
        for key in graph.get_all_asset_keys()
        for up in graph.get(key).parent_keys
    )
    places = _places(sorted(groups))
    width = max(x for x, _ in places.values()) + WIDTH + LEFT
    height = max(y for _, y in places.values()) + HEIGHT + 44
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        'aria-label="The asset graph" font-family="system-ui, sans-serif" font-size="13">',
        "  <title>From raw files to metrics_table and report</title>",
        "  <!-- Written by docs/draw_graph.py; a test compares cards and arrows with the asset graph. -->",
        f"  <style>{STYLE}  </style>",
        '  <defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        '<path class="tip" d="M0 0 8 4 0 8z"/></marker></defs>',
        *_arrows(edges, places, height),
        *(_card(name, groups[name] or "", places[name]) for name in sorted(groups)),
        "</svg>",
    ]
    (Path(__file__).parent / "graph.svg").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _places(names: list[str]) -> dict[str, tuple[float, float]]:
    bottom = max(row for _, row, _ in PLACES.values()) + 1
    unknown = [name for name in names if name not in PLACES]
    grid = {name: PLACES[name][:2] for name in names if name in PLACES}
    grid |= {name: (at, bottom) for at, name in enumerate(unknown)}
    return {name: (LEFT + column * COLUMN, TOP + row * ROW) for name, (column, row) in grid.items()}


def _arrows(edges: list[tuple[str, str]], places: dict[str, tuple[float, float]], height: float) -> list[str]:
    """Arrows from right sides to left sides; those of one card are spread over its side by where they come from."""
    starts, ends = defaultdict(list), defaultdict(list)
    for up, down in edges:
        starts[up].append((places[down][1], down))
        ends[down].append((places[up][1], places[up][0], up))
    found = []
    for up, down in edges:
        (x0, y0), (x1, y1) = places[up], places[down]
        if x0 == x1:
            found.append((up, down, f"M{x0 + WIDTH / 2:g} {y0 + HEIGHT:g} V{y1 - 2:g}"))
            continue
        start = y0 + _share(sorted(starts[up]).index((y1, down)), len(starts[up]))
        end = y1 + _share(sorted(ends[down]).index((y0, x0, up)), len(ends[down]))
        bend = max(18.0, min(70.0, (x1 - x0 - WIDTH) / 2))
        blocked = any(
            x0 + WIDTH < x < x1 and min(start, end) - HEIGHT + 8 < y < max(start, end) - 8
            for name, (x, y) in places.items()
            if name not in (up, down)
        )
        low = height - 18 - 7 * len([one for one in found if "H" in one[2]])
        path = f"M{x0 + WIDTH:g} {start:g} C{x0 + WIDTH + bend:g} {start:g} {x1 - bend:g} {end:g} {x1 - 2:g} {end:g}"
        if blocked and x1 - x0 > 4 * COLUMN:
            path = (
                f"M{x0 + WIDTH:g} {start:g} C{x0 + WIDTH + 26:g} {start:g} {x0 + WIDTH + 10:g} {low:g} "
                f"{x0 + WIDTH + 60:g} {low:g} H{x1 - 60:g} C{x1 - 10:g} {low:g} {x1 - 26:g} {end:g} {x1 - 2:g} {end:g}"
            )
        found.append((up, down, path))
    return [f'  <path class="arrow" data-edge="{up} {down}" d="{path}"/>' for up, down, path in found]


def _share(at: int, count: int) -> float:
    return 14 + (HEIGHT - 28) * (at + 0.5) / count


def _card(name: str, group: str, place: tuple[float, float]) -> str:
    x, y = place
    note = PLACES[name][2] if name in PLACES else ""
    return (
        f'  <g><rect class="card" x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        f'<path fill="{COLOURS.get(group, "#555555")}" d="M{x:g} {y + 18:g} v-12 a6 6 0 0 1 6 -6 h168 a6 6 0 0 1 6 6 '
        'v12 z"/>'
        f'<text class="group" x="{x + 10:g}" y="{y + 13:g}">{group}</text>'
        f'<text class="name" x="{x + 10:g}" y="{y + 37:g}">{name}</text>'
        f'<text class="note" x="{x + 10:g}" y="{y + 54:g}">{note}</text></g>'
    )


if __name__ == "__main__":
    main()
