"""Takes the pictures of the documentation, in light and in dark: the graph, the report, the table in the terminal.

    EMBED_PIPELINE_HOME=.embed_pipeline PYTHONPATH=. python docs/make_screenshots.py disease

shows what a run left in that folder; nothing is run. They lie in docs/images/. Look at them before they are kept.
"""

import argparse
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from PIL import Image
from playwright.sync_api import FloatRect, Page, expect, sync_playwright
from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME

from browser_tests.server import DevServer
from browser_tests.ui import SLOW_MILLISECONDS
from embed_pipeline.defs.resources import pipeline_from_environment
from embed_pipeline.evaluation.measures import Measure
from embed_pipeline.reporting.database import read_newest
from embed_pipeline.reporting.terminal import format_metrics

Scheme = Literal["light", "dark"]

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
MAX_BYTES = 200_000
"""A picture of a page that loads quickly."""
COLOURS = 128
"""What a page of text and lines needs; a third of the bytes."""
TABLE_COLUMNS = 112
MAIN_LINE = (
    *("cleaned_qa", "mined_negatives", "finetuned_checkpoint", "faiss_index", "query_metrics"),
    *("metrics_table", "report"),
)
"""The assets that the picture of the graph shows, behind the raw files."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="The data set whose table and report are shown.")
    dataset = parser.parse_args().dataset
    home = Path(os.environ.get("EMBED_PIPELINE_HOME") or ROOT / ".embed_pipeline").absolute()
    report = home / "reports" / f"{dataset}.html"
    if not report.is_file():
        raise SystemExit(
            f"{report}: expected a report, found none. Run `embed-pipeline run --dataset {dataset}` first."
        )
    project = pipeline_from_environment().project()
    settings = project.datasets[dataset]
    raw = "raw_xlsx" if settings.workbooks else "raw_pairs" if settings.pairs else "raw_documents"
    IMAGES.mkdir(exist_ok=True)
    for scheme in SCHEMES:
        write_table(home, dataset, project.headline(dataset), scheme)
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder), home) as server:
        for scheme in SCHEMES:
            with _page(scheme, width=1280, height=900) as page:
                page.goto(report.as_uri())
                _shoot(page, f"report_{scheme}")
            with _page(scheme, width=2500, height=950) as page:
                page.add_init_script(f"localStorage.setItem('theme', '\"{scheme.capitalize()}\"')")
                _open_main_line(page, server.url, raw)
                _shoot(page, f"graph_{scheme}", width=1800, height=740)


def write_table(home: Path, dataset: str, headline: Measure, scheme: Scheme) -> None:
    """The table of `embed-pipeline metrics` as a terminal shows it."""
    rows = read_newest(home / "metrics.duckdb", dataset=dataset)
    console = Console(
        record=True, width=TABLE_COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(f"[bold]$ embed-pipeline metrics --dataset {dataset}[/bold]", highlight=False)
    for table in format_metrics(rows, headline=headline):
        console.print(table)
    theme = DEFAULT_TERMINAL_THEME if scheme == "light" else SVG_EXPORT_THEME
    drawn = console.export_svg(title="embed-pipeline", theme=theme, unique_id="table")
    # A font from elsewhere would be loaded by everybody who looks at the picture.
    drawn = re.sub(r"\s*@font-face \{.*?\}", "", drawn, flags=re.S)
    drawn = drawn.replace("Fira Code, monospace", "DejaVu Sans Mono, Menlo, Consolas, monospace")
    (IMAGES / f"table_{scheme}.svg").write_text(drawn, encoding="utf-8")


def _open_main_line(page: Page, url: str, raw: str) -> None:
    """The lineage of the assets that every tuned variant passes through, groups open, nothing else on the page."""
    selection = quote(" or ".join(f'key:"{asset}"' for asset in (raw, *MAIN_LINE)))
    page.set_default_timeout(SLOW_MILLISECONDS)
    page.goto(f"{url}/asset-groups~{selection}/?asset-selection={selection}")
    expect(page.get_by_text("reporting", exact=True).first).to_be_visible(timeout=SLOW_MILLISECONDS)
    page.get_by_text("Hide navigation").click()
    page.keyboard.press("Alt+e")
    page.reload()  # drawn anew, with every group open
    expect(page.get_by_text("metrics_table", exact=True).first).to_be_visible(timeout=SLOW_MILLISECONDS)
    page.get_by_placeholder("Jump to…").locator("xpath=following::button[1]").click()  # the list beside the graph
    page.wait_for_timeout(1000)
    page.keyboard.press("0")  # as large as the page
    expect(page.get_by_text("Materialized", exact=True).first).to_be_visible(timeout=SLOW_MILLISECONDS)
    page.wait_for_load_state("networkidle")


@contextmanager
def _server(folder: Path, home: Path) -> Iterator[DevServer]:
    """The interface of a copy of the project, with the state of the run."""
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copyfile(ROOT / name, folder / name)
    shutil.copytree(os.environ.get("EMBED_PIPELINE_DATA") or ROOT / "data", folder / "data")
    with DevServer(folder, environment={"EMBED_PIPELINE_HOME": str(home)}) as server:
        yield server


@contextmanager
def _page(scheme: Scheme, *, width: int, height: int) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        browser.close()


def _shoot(page: Page, name: str, *, width: int | None = None, height: int | None = None) -> None:
    path = IMAGES / f"{name}.png"
    size = page.viewport_size
    assert size is not None
    clip: FloatRect = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"]}
    with Image.open(io.BytesIO(page.screenshot(clip=clip))) as taken:
        scale = (width or taken.width) / taken.width
        smaller = taken.convert("RGB").resize(
            (round(taken.width * scale), round(taken.height * scale)), Image.Resampling.LANCZOS
        )
        smaller.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    taken_bytes = path.stat().st_size
    if taken_bytes > MAX_BYTES:
        raise ValueError(f"{path}: expected at most {MAX_BYTES} bytes, found {taken_bytes}. Show less of the page.")
    print(f"{path.relative_to(ROOT)}: {taken_bytes // 1000} kB")


if __name__ == "__main__":
    main()
