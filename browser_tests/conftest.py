"""One server, one browser and one page for the whole walk through the UI; screenshots of each station.

The browser is Debian's chromium, at /usr/bin/chromium or where CHROMIUM says; none is downloaded.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from browser_tests.project import ROOT, write_browser_project
from browser_tests.server import DevServer
from browser_tests.ui import Ui

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
SCREENSHOTS = Path(os.environ.get("SCREENSHOTS") or ROOT / ".embed_pipeline" / "screenshots")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    """The running UI and daemon of a project in which nothing was materialised yet; the night is every minute."""
    root = write_browser_project(tmp_path_factory.mktemp("browser") / "project")
    environment = {
        "EMBED_PIPELINE_NIGHTLY_CRON": "* * * * *",
        "EMBED_PIPELINE_THREADS": "1",
        "EMBED_PIPELINE_QDRANT_URL": "qdrant",
    }
    with DevServer(root, environment=environment) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser of the whole session."""
    if not Path(CHROMIUM).is_file():
        pytest.fail(
            f"{CHROMIUM}: expected a chromium, found none. `apt-get install chromium`, or name one in CHROMIUM."
        )
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


@pytest.fixture(scope="session")
def ui(server: DevServer, browser: Browser) -> Ui:
    """The page of the UI in the browser."""
    shutil.rmtree(SCREENSHOTS, ignore_errors=True)
    SCREENSHOTS.mkdir(parents=True)
    page = browser.new_context(viewport={"width": 1920, "height": 2400}, color_scheme="light").new_page()
    return Ui(page, server.url, SCREENSHOTS)
