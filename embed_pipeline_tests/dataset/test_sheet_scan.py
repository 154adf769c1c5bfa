import io

import pytest

from embed_pipeline.dataset.sheet_scan import MergedRange, SheetScan, scan_sheet

CHUNK = 1 << 20
TAIL = (
    b'</sheetData><mergeCells count="2"><mergeCell ref="A2:A4"/>'
    b"<x:mergeCell  ref='C5:AB60' /></mergeCells></worksheet>"
)


@pytest.mark.parametrize("cut", range(0, len(TAIL), 5))
def test_ranges_are_found_wherever_a_read_is_cut(cut: int) -> None:
    """The filling puts the end of the first read `cut` bytes into the tail."""
    filling = b"<c><v>" + b"1" * (CHUNK - cut - 6)
    scan = scan_sheet(io.BytesIO(filling + TAIL))
    assert scan == SheetScan((MergedRange(2, 4, 1, 1), MergedRange(5, 60, 3, 28)), has_formulas=False)


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        (b"<c><f>A1</f><v/></c>", True),
        (b'<c><f t="shared" si="0"/></c>', True),
        (b"<x:c><x:f/></x:c>", True),
        (b"<cfRule><formula>A1</formula></cfRule><c><v>&lt;f&gt;</v></c>", False),
    ],
)
def test_formulas_are_told_from_tags_that_begin_alike(xml: bytes, expected: bool) -> None:
    assert scan_sheet(io.BytesIO(b"<worksheet>" + xml + b"</worksheet>")).has_formulas is expected
