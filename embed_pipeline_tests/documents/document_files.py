"""Small files of every kind that documents come in, written by hand so that a test knows what is in them."""

from collections.abc import Sequence
from pathlib import Path


def write_pdf(path: Path, pages: Sequence[Sequence[str]], *, password: str = "", placed: float = 0) -> Path:
    """A PDF with a line of Helvetica for each text; an empty page has no text at all.

    `placed`: in Courier, every letter by itself, so many widths from the last.
    """
    objects = ["<< /Type /Catalog /Pages 2 0 R >>"]
    kids = " ".join(f"{4 + 2 * at} 0 R" for at in range(len(pages)))
    objects.append(f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>")
    font = "Courier" if placed else "Helvetica"
    objects.append(f"<< /Type /Font /Subtype /Type1 /BaseFont /{font} /Encoding /WinAnsiEncoding >>")
    for at, lines in enumerate(pages):
        shown = "".join(f"({line.replace('(', '[').replace(')', ']')}) Tj T* " for line in lines)
        if placed:
            shown = "".join(
                f"ET BT /F1 11 Tf 1 0 0 1 {50 + 6.6 * placed * column:.1f} {800 - 14 * row} Tm ({letter}) Tj "
                for row, line in enumerate(lines)
                for column, letter in enumerate(line)
                if letter != " "
            )
        stream = f"BT /F1 11 Tf 14 TL 50 800 Td {shown}ET" if lines else "0 0 m 10 10 l S"
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> "
            f"/Contents {5 + 2 * at} 0 R >>"
        )
        objects.append(f"<< /Length {len(stream.encode('cp1252'))} >>\nstream\n{stream}\nendstream")
    content, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(content))
        content += f"{number} 0 obj\n{body}\nendobj\n".encode("cp1252")
    table = len(content)
    content += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    content += b"".join(f"{place:010d} 00000 n \n".encode() for place in places)
    content += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n".encode()
    path.write_bytes(content)
    if password:
        from pypdf import PdfReader, PdfWriter

        writer = PdfWriter(clone_from=PdfReader(path))
        writer.encrypt(password, algorithm="RC4-128")
        writer.write(path)
    return path


def write_docx(path: Path) -> Path:
    """A Word file with a title, two levels of headings, a list, a table with a merged cell, and a footer."""
    from docx import Document

    document = Document()
    document.add_heading("Terms", level=0)
    document.add_paragraph("Before the first chapter.")
    document.add_heading("Chapter one", level=1)
    document.add_heading("What is insured", level=2)
    document.add_paragraph("The house is insured.")
    document.add_paragraph("The garden shed", style="List Bullet")
    table = document.add_table(rows=2, cols=3)
    for row, cells in enumerate((("Damage", "Share", "Limit"), ("Fire", "all", ""))):
        for column, text in enumerate(cells):
            table.cell(row, column).text = text
    table.cell(1, 1).merge(table.cell(1, 2))
    document.add_heading("Chapter two", level=1)
    document.add_paragraph("What follows.")
    document.sections[0].footer.paragraphs[0].text = "Page 1 of every page"
    document.save(str(path))
    return path
