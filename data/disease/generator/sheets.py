"""Workbooks with reproducible bytes.

Belongs here: writing an xlsx that carries no time of writing. Does not belong here: what stands in it.
"""

import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

from mess import LABEL_COLUMNS, SheetRow
from openpyxl import Workbook

HEADER = ("Question", "Thinking", "Label", *(f"Label{number}" for number in range(2, LABEL_COLUMNS + 1)))
_WRITTEN_AT = (2024, 1, 1, 0, 0, 0)


def write_sheet(rows: Sequence[SheetRow], path: Path) -> None:
    """The rows under HEADER as a workbook of one sheet; the same rows give the same bytes at any time."""
    workbook = Workbook(write_only=True)
    sheet = workbook.create_sheet("Sheet1")
    sheet.append(list(HEADER))
    for row in rows:
        sheet.append([row.question, row.thinking, *row.labels])
    buffer = io.BytesIO()
    workbook.save(buffer)
    path.write_bytes(_without_times(buffer.getvalue()))


def _without_times(workbook: bytes) -> bytes:
    """The same archive with fixed member times and fixed dates in docProps."""
    stamped = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(workbook)) as old, zipfile.ZipFile(stamped, "w") as new:
        for name in sorted(old.namelist()):
            content = old.read(name)
            if name == "docProps/core.xml":
                content = re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", b"2024-01-01T00:00:00Z", content)
            member = zipfile.ZipInfo(name, _WRITTEN_AT)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            new.writestr(member, content, compresslevel=9)
    return stamped.getvalue()
