"""Real workbooks made on the spot, and the settings they are read with."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from embed_pipeline.dataset.settings import DatasetSettings

WriteWorkbook = Callable[..., Path]
EditSheet = Callable[[Path, Callable[[str], str]], Path]


@pytest.fixture
def settings() -> DatasetSettings:
    return DatasetSettings.model_validate(
        {
            "description": "test",
            "workbooks": ["*.xlsx"],
            "columns": {"question": "Question", "labels": ["Label", "Label2"]},
            "label_list": "labels.txt",
            "split": {"train": 0.6, "validation": 0.2, "test": 0.2, "seed": 1},
            "variants": ["bm25"],
        }
    )


@pytest.fixture
def write_workbook(tmp_path: Path) -> WriteWorkbook:
    """Writes rows as they are, the first one is the header, and returns the path."""

    def write(
        rows: Sequence[Sequence[object]],
        name: str = "book.xlsx",
        *,
        folder: Path | None = None,
        merged: Sequence[str] = (),
        sheets_before: Sequence[str] = (),
    ) -> Path:
        from openpyxl import Workbook

        workbook = Workbook()
        sheet = workbook.active
        assert sheet is not None
        sheet.title = "Sheet1"
        for title in reversed(sheets_before):
            workbook.create_sheet(title, 0)
        for row in rows:
            sheet.append(list(row))
        for merged_range in merged:
            sheet.merge_cells(merged_range)
        path = (folder or tmp_path) / name
        workbook.save(path)
        return path

    return write


@pytest.fixture
def edit_sheet() -> EditSheet:
    """Rewrites the XML of the first sheet in place, for what no writer can be asked to do."""

    def edit(path: Path, change: Callable[[str], str]) -> Path:
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        before = parts["xl/worksheets/sheet1.xml"].decode()
        after = change(before)
        assert after != before, "the edit must change something"
        parts["xl/worksheets/sheet1.xml"] = after.encode()
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
        return path

    return edit
