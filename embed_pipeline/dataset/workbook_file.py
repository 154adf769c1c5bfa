"""Opening a workbook, or saying what the file is instead.

Belongs here: the container, from the first bytes to the sheet. Does not belong here: anything about rows.
"""

import codecs
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError

from embed_pipeline.dataset.nearest import nearest_text

if TYPE_CHECKING:
    from openpyxl.workbook import Workbook
    from openpyxl.worksheet._read_only import ReadOnlyWorksheet

# What openpyxl lets through from zip, XML and broken references inside a damaged file.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    ParseError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)

_OLE_MAGIC = bytes.fromhex("d0cf11e0a1b11ae1")
_ZIP_MAGIC = b"PK\x03\x04"


@contextmanager
def open_workbook(path: Path, *, cached_values: bool = True) -> Iterator["Workbook"]:
    """The workbook, read-only; formulas as the values Excel stored, or as formulas with `cached_values=False`.

    Raises:
        ValueError: the file is missing, empty, protected by a password, damaged or no .xlsx; the message says which.
    """
    from openpyxl import load_workbook

    _refuse_other_files(path)
    with path.open("rb") as file:
        try:
            workbook = load_workbook(file, read_only=True, data_only=cached_values, keep_links=False)
        except DAMAGE as error:
            raise damaged_workbook(path, error) from error
        try:
            yield workbook
        finally:
            workbook.close()


def choose_sheet(workbook: "Workbook", path: Path, name: str | None) -> "ReadOnlyWorksheet":
    """The sheet of that name, or the first visible one, with the size it claims forgotten: writers lie about it.

    Raises:
        ValueError: there is no such sheet.
    """
    sheets: dict[str, ReadOnlyWorksheet] = {
        sheet.title: sheet  # pyright: ignore[reportAssignmentType]
        for sheet in workbook.worksheets
    }
    if name is not None and name not in sheets:
        nearest = nearest_text(name, list(sheets))
        hint = f" Nearest: {nearest.text!r}." if nearest else ""
        raise ValueError(
            f"{path.name}: expected a sheet {name!r}, found {list(sheets)}.{hint} Rename the sheet or correct `sheet` "
            "in dataset.yaml."
        )
    visible = [title for title, sheet in sheets.items() if sheet.sheet_state == "visible"]
    if name is None and not visible:
        raise ValueError(f"{path.name}: expected a visible sheet, found {list(sheets)}. Name one as `sheet`.")
    sheet = sheets[visible[0] if name is None else name]
    sheet.reset_dimensions()
    return sheet


def damaged_workbook(path: Path, error: Exception) -> ValueError:
    """The error that says that a workbook cannot be read to its end."""
    return ValueError(
        f"{path.name}: damaged or incomplete Excel file ({type(error).__name__}: {error}). Open it in Excel, save it "
        "again as .xlsx, or copy it again from where it came from."
    )


def _refuse_other_files(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"{path.name}: no such file. Put the workbook there or correct `workbooks` in dataset.yaml.")
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        raise ValueError(f"{path.name}: the file is empty (0 bytes). Copy the workbook again.")
    if head.startswith(_OLE_MAGIC):
        _refuse_ole_file(path)
    if not head.startswith(_ZIP_MAGIC):
        raise ValueError(f"{path.name}: expected an .xlsx workbook, found {_describe_head(head)}. Save it as .xlsx.")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path.name}: the Excel file is incomplete, its end is missing ({path.stat().st_size} bytes). "
            "Copy it again."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except DAMAGE as error:
        raise damaged_workbook(path, error) from error
    if "xl/workbook.bin" in names:
        raise ValueError(f"{path.name}: a binary workbook (.xlsb). Save it as .xlsx.")
    if not any(name.startswith("xl/") for name in names):
        raise ValueError(f"{path.name}: a zip archive without a workbook in it, found {names[:3]}. Save it as .xlsx.")


def _refuse_ole_file(path: Path) -> None:
    # The names of the streams stand in UTF-16 in the container's directory.
    if "EncryptedPackage".encode("utf-16-le") in path.read_bytes():
        raise ValueError(f"{path.name}: protected by a password. Remove it (File, Info, Protect Workbook) and save.")
    raise ValueError(f"{path.name}: expected an .xlsx workbook, found the old .xls format. Save it as .xlsx.")


def _describe_head(head: bytes) -> str:
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
        return "HTML or XML text"
    for encoding in ("utf-8-sig", "gb18030", "utf-16"):
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(head)  # the head may end inside a character
        except UnicodeDecodeError:
            continue
        if "\x00" not in text:
            return f"text, perhaps a CSV, beginning {text[:40]!r}"
    return f"bytes beginning {head[:8].hex(' ')}"
