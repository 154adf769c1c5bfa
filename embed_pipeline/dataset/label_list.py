"""The label list: every label a data set knows, which is its corpus."""

from functools import lru_cache
from pathlib import Path

from embed_pipeline.dataset.nearest import Nearest, nearest_text
from embed_pipeline.dataset.normalisation import normalise_text


class LabelList:
    """The normalised labels in the order of the file; a cell's label is known if, normalised, it is one of them."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        self.texts = texts
        self._known = frozenset(texts)
        # The same mistyped label comes back in row after row.
        self.nearest = lru_cache(maxsize=65536)(self._find_nearest)

    def __contains__(self, label: str) -> bool:
        return label in self._known

    def _find_nearest(self, label: str) -> Nearest | None:
        """The known label that resembles an unknown one most, None if none does at all."""
        return nearest_text(label, self.texts)


def read_label_list(path: Path) -> LabelList:
    """The labels of a UTF-8 text file, one a line, normalised; blank lines and lines beginning with # are skipped.

    Raises:
        ValueError: the file is missing, not UTF-8, without labels, or has a label twice.
    """
    if not path.is_file():
        raise ValueError(f"{path.name}: no such label list. Write it, one label a line, or correct `label_list`.")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name}: expected UTF-8 text: {error}. Save it as UTF-8.") from error
    first_line: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        label = normalise_text(line)
        if not label or label.startswith("#"):
            continue
        if label in first_line:
            raise ValueError(
                f"{path.name}, line {number}: label {label!r} stands in line {first_line[label]} already. Delete one."
            )
        first_line[label] = number
    if not first_line:
        raise ValueError(f"{path.name}: expected labels, one a line, found none. Fill the file.")
    return LabelList(tuple(first_line))
