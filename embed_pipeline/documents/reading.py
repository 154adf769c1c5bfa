"""Any document as text: the reader of each kind of file.

Belongs here: which reader a file gets. Does not belong here: any file format.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from embed_pipeline.documents.building import DocumentBuilder, describe_error
from embed_pipeline.documents.document import Document
from embed_pipeline.documents.docx_file import read_docx
from embed_pipeline.documents.html_file import read_html
from embed_pipeline.documents.markdown_file import read_markdown
from embed_pipeline.documents.pdf_file import read_pdf
from embed_pipeline.documents.text_file import read_text

_READERS: Mapping[str, Callable[[DocumentBuilder, bytes], None]] = {
    ".pdf": read_pdf,
    ".docx": read_docx,
    ".html": read_html,
    ".htm": read_html,
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".txt": read_text,
}
SUFFIXES = tuple(_READERS)


def read_document(path: Path, file: str) -> Document:
    """The document in a file, `file` being its name in every message; what cannot be read is among its problems.

    Raises:
        ValueError: there is no such file.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file. Put it there or correct documents.files.")
    builder = DocumentBuilder(file)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        kinds = ", ".join(SUFFIXES)
        builder.problem("unsupported_file", f"{path.suffix or 'No suffix'} is not read. Convert it to one of {kinds}.")
    else:
        try:
            reader(builder, path.read_bytes())
        except Exception as error:
            kind = path.suffix.removeprefix(".")
            builder.problem("broken_file", f"It cannot be read as {kind} ({describe_error(error)}). Save it again.")
    return builder.build()
