"""The label list: every label that a data set knows, which is its corpus, and what each means.

Belongs here: the file, which label a text is or resembles, the passage of a label. Does not belong here: what happens
to a label that is not in the list (cleaning, pairs).
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from embed_pipeline.dataset.normalisation import normalise_text, passage_id
from embed_pipeline.nearest import Nearest, nearest_text
from embed_pipeline.records import LABEL, Attributes, Passage


class LabelList:
    """The normalised labels in the order of the file, and what is said of some.

    A text is known if, normalised, it is one of them.
    """

    def __init__(self, texts: tuple[str, ...], descriptions: Mapping[str, str] | None = None) -> None:
        self.texts = texts
        self.descriptions = descriptions or {}
        self._known = frozenset(texts)
        # The same mistyped label comes back in row after row.
        self.nearest = lru_cache(maxsize=65536)(self._find_nearest)

    def __contains__(self, label: str) -> bool:
        return label in self._known

    def passage(self, label: str, key: str | None = None, attributes: Attributes | None = None) -> Passage:
        """A label as it is searched: with its description behind it, if it has one, and its name as an attribute.

        Without a key its id is the label's, whatever is said of it.
        """
        key, attributes, description = key or passage_id(label), attributes or {}, self.descriptions.get(label)
        if description is None:
            return Passage(key, label, attributes)
        return Passage(key, f"{label}: {description}", {**attributes, LABEL: label})

    def hint(self, label: str) -> str:
        """What an unknown label may have been meant to be, in words."""
        nearest = self.nearest(label)
        return f"nearest is {nearest.text!r}" if nearest else "nothing there resembles it"

    def _find_nearest(self, label: str) -> Nearest | None:
        """The known label that resembles an unknown one most, None if none does at all."""
        return nearest_text(label, self.texts)


def read_label_list(path: Path) -> LabelList:
    """The labels of a UTF-8 text file, one a line; behind a tab may stand what the label means.

    Both are normalised; blank lines and lines beginning with # are skipped.

    Raises:
        ValueError: the file is missing, not UTF-8, without labels, has a label twice or a description without one.
    """
    if not path.is_file():
        raise ValueError(f"{path.name}: no such label list. Write it, one label a line, or correct `label_list`.")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name}: expected UTF-8 text: {error}. Save it as UTF-8.") from error
    first_line: dict[str, int] = {}
    descriptions: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        label, description = map(normalise_text, line.partition("\t")[::2])
        if label.startswith("#") or not (label or description):
            continue
        if not label:
            raise ValueError(
                f"{path.name}, line {number}: expected a label before the tab, found none before {description!r}. "
                "Write it, or delete the tab."
            )
        if label in first_line:
            raise ValueError(
                f"{path.name}, line {number}: label {label!r} stands in line {first_line[label]} already. Delete one."
            )
        first_line[label] = number
        if description:
            descriptions[label] = description
    if not first_line:
        raise ValueError(f"{path.name}: expected labels, one a line, found none. Fill the file.")
    return LabelList(tuple(first_line), descriptions)
