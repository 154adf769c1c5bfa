"""What a person does in the UI, by the roles and texts that a person sees.

Belongs here: clicks and what is on the page. Does not belong here: what must be there (tests).
"""

from pathlib import Path

from playwright.sync_api import Locator, Page, expect

LOCATION = "/locations/embed-pipeline"
SLOW_MILLISECONDS = 90_000
"""A page of a machine that trains at the same time."""


class Ui:
    """The Dagster UI in one page of a browser."""

    def __init__(self, page: Page, url: str, screenshots: Path) -> None:
        self.page, self.url, self.screenshots = page, url, screenshots
        page.set_default_timeout(SLOW_MILLISECONDS)
        expect.set_options(timeout=SLOW_MILLISECONDS)
        self._taken = 0
        self._expanded = False

    def open(self, path: str) -> None:
        """Go to a page of the UI."""
        self.page.goto(self.url + path)

    def shoot(self, name: str) -> None:
        """A screenshot, numbered in the order of the walk."""
        self._taken += 1
        self.page.wait_for_load_state("networkidle")  # else parts of the page are grey
        self.page.screenshot(path=self.screenshots / f"{self._taken:02d}_{name}.png")

    def open_lineage(self) -> Locator:
        """The picture of the whole graph with every group open; the UI remembers that they are."""
        self.open("/asset-groups")
        expect(self.visible("reporting").first).to_be_visible()
        if not self._expanded:
            self.page.keyboard.press("Alt+e")
            expect(self.visible("cleaned_qa")).to_be_visible()
            self._expanded = True
            self.open("/asset-groups")  # drawn anew, as wide as the page; the page is high enough for all of it
        expect(self.visible("cleaned_qa")).to_be_visible()
        return self.page.locator("svg").filter(has=self.page.get_by_text("cleaned_qa"))

    def open_asset(self, name: str, view: str = "overview") -> None:
        """The page of an asset."""
        self.open(f"/assets/{name}?view={view}")
        expect(self.page.get_by_role("tab", name="Overview").or_(self.visible("Overview")).first).to_be_visible()

    def launch_backfill(self) -> None:
        """Materialize all, every partition, and see that the UI says so."""
        self.page.get_by_role("button", name="Materialize all").click()
        dialog = self.page.get_by_role("dialog")
        launch, everything = (
            dialog.get_by_role("button", name=name, exact=True) for name in ("Launch backfill", "All")
        )
        expect(launch).to_be_visible()
        if not launch.is_enabled():
            everything.click()
        self.shoot("launch")
        launch.click()
        expect(self.page.get_by_text("Created backfill").first).to_be_visible()

    def switch(self, page: str, *, on: bool) -> None:
        """Turn a sensor or a schedule on or off on its own page."""
        self.open(f"{LOCATION}/{page}")
        box = self.page.get_by_role("checkbox").first
        box.wait_for(state="attached")
        if box.is_checked() != on:
            box.locator("..").click()
        expect(box).to_be_checked(checked=on)

    def row(self, key: str) -> Locator:
        """The row of an entry among the metadata of an asset."""
        return self.page.get_by_role("row").filter(has=self.page.get_by_text(key, exact=True)).first

    def open_picture(self, key: str) -> Locator:
        """The picture that an entry of the metadata holds, in its dialog."""
        self.row(key).get_by_text("Show Markdown").click()
        return self.page.get_by_role("dialog").locator("img[alt]")

    def close(self) -> None:
        """Close the dialog."""
        self.page.get_by_role("dialog").get_by_role("button", name="Close").click()
        expect(self.page.get_by_role("dialog")).to_have_count(0)

    def visible(self, text: str) -> Locator:
        """What shows exactly this text; a truncated name lies a second time behind it, invisible."""
        return self.page.get_by_text(text, exact=True).filter(visible=True)
