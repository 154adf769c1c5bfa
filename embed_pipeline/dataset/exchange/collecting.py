"""Content gathered record by record, with the place of each, and lines of JSON with checked fields.

Belongs here: what readers of several formats share. Does not belong here: any format's layout.
"""

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embed_pipeline.dataset.normalisation import normalise_text, passage_id, query_id
from embed_pipeline.dataset.pairs_file import SPLIT_NAMES, PairsContent
from embed_pipeline.dataset.raw_text import MAX_LINE_BYTES, is_packed, open_unpacked, parse_json
from embed_pipeline.records import SPLITS, Split


@dataclass(frozen=True, slots=True)
class Line:
    """One JSON object of a file of lines; `place` is file and line for messages."""

    place: str
    found: Mapping[str, Any]

    def text(self, name: str) -> str:
        """The field's text. Raises ValueError where it is no text."""
        value = self.found.get(name)
        if not isinstance(value, str):
            raise self.wrong(name, "text", value)
        return value

    def identifier(self, name: str) -> str:
        """The field's id, text or whole number. Raises ValueError where it is neither, or empty."""
        value = self.found.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        return self.text(name)

    def optional_text(self, name: str) -> str | None:
        """The field's text, None where the field is missing or null. Raises ValueError as `text`."""
        return None if self.found.get(name) is None else self.text(name)

    def texts(self, name: str) -> list[str]:
        """The field's list of texts, [] where it is missing or null. Raises ValueError, for a lone text too."""
        value = self.found.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(name, "a list of texts", value)
        return value

    def attributes(self, name: str) -> dict[str, str]:
        """The field's object of texts, {} where it is missing or null; numbers and truth values as JSON writes them."""
        value = self.found.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict) or any(isinstance(item, list | dict) for item in value.values()):
            raise self.wrong(name, "an object of texts", value)
        return {
            key: item if isinstance(item, str) else json.dumps(item) for key, item in value.items() if item is not None
        }

    def wrong(self, name: str, expected: str, found: object) -> ValueError:
        """The error that says what a field should be."""
        return ValueError(f"{self.place}, {name}: expected {expected}, found {found!r:.80}. Correct the line.")


class Collector:
    """Queries, passages and judgments in the order they come in; the same id must mean the same text."""

    def __init__(self, folder: Path) -> None:
        """Notes name files below `folder`: they get into the ledger, whose bytes must not depend on where files lie."""
        self._content, self._folder = _Parts(), folder

    def query(self, place: str, identifier: str | None, text: str, attributes: Mapping[str, str]) -> str:
        """The query's id, from its text where None is given. Raises ValueError: empty text, or the id has another."""
        content = self._content
        key = _add(content.queries, place, "query", identifier, query_id(text) if text else "", text)
        if attributes:
            content.attributes.setdefault(key, {}).update(attributes)
        return key

    def empty_query(self, identifier: str) -> None:
        """Keep a query without a text, for cleaning to leave it out with its reason."""
        self._content.queries[identifier] = ""

    def passage(self, place: str, identifier: str | None, text: str, attributes: Mapping[str, str]) -> str:
        """The passage's id, as `query`."""
        content = self._content
        key = _add(content.corpus, place, "passage", identifier, passage_id(text) if text else "", text)
        if attributes:
            content.passage_attributes.setdefault(key, {}).update(attributes)
        return key

    def judge(self, query: str, passage: str, grade: int) -> None:
        """Keep the judgment; of several of the same pair the highest grade stays."""
        judged = self._content.relevant.setdefault(query, {})
        if passage in judged and judged[passage] != grade and 0 in (judged[passage], grade):
            self._content.contradictions += 1
        judged[passage] = max(grade, judged.get(passage, 0))

    def split(self, place: str, query: str, name: str) -> bool:
        """Keep the query's split, of several the one that is held out first: test, then validation.

        False where the query stays in another split, in which what `place` judges does not count; what was judged so
        far is dropped where the query leaves its split. Raises ValueError: no such split.
        """
        split = SPLIT_NAMES.get(name.strip().lower())
        if split is None:
            raise ValueError(f"{place}, split: expected train, validation or test, found {name!r}. Correct it.")
        content = self._content
        known = content.splits.setdefault(query, split)
        if known == split:
            return True
        if query not in content.in_several_splits:
            content.in_several_splits.add(query)
            self.note("questions are in several splits; the judgments of the one held out first stay", place)
        if SPLITS.index(split) < SPLITS.index(known):
            return False
        content.splits[query] = split
        content.relevant.pop(query, None)
        return True

    def note(self, what: str, place: str) -> None:
        """Count something that was read and has no place in the data set; the first place of each kind is told."""
        self._content.noted.setdefault(what, place.removeprefix(f"{self._folder}/"))
        self._content.counts[what] += 1

    def content(self, *notes: str) -> PairsContent:
        """Everything that was gathered."""
        parts = self._content
        notes += tuple(f"{count} {what}; the first: {parts.noted[what]}" for what, count in parts.counts.items())
        if parts.contradictions:
            notes = (
                *notes,
                f"{parts.contradictions} passages are relevant and irrelevant to one query; relevant stays",
            )
        return PairsContent(
            queries=parts.queries,
            corpus=parts.corpus,
            relevant=parts.relevant,
            attributes=parts.attributes,
            passage_attributes=parts.passage_attributes,
            splits=parts.splits,
            notes=notes,
        )


def kind_of(path: Path) -> str:
    """The file's kind by its name, .gz taken off and other names of a kind undone: `.csv`, `.jsonl`, …"""
    suffix = Path(path.stem if is_packed(path) else path).suffix.lower()
    return {".ndjson": ".jsonl", ".tab": ".tsv"}.get(suffix, suffix)


def read_lines(path: Path) -> Iterator[Line]:
    """The objects of a file of JSON lines (.gz is unpacked), empty lines left out; or of one array of objects.

    Raises:
        ValueError: the file is missing or cannot be unpacked, or a line is no JSON object in UTF-8 or longer than
            MAX_LINE_BYTES.
    """
    with open_unpacked(path) as file:
        number, first = 0, True
        while data := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(data) > MAX_LINE_BYTES:
                raise ValueError(
                    f"{path}, line {number}: expected at most {MAX_LINE_BYTES >> 20} MiB, found a longer line. "
                    "Write one record a line."
                )
            data = data.removeprefix(b"\xef\xbb\xbf") if number == 1 else data
            if not data.strip():
                continue
            if first and data.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise ValueError(f"{path}: expected JSON in UTF-8, found UTF-16. Save it as UTF-8.")
            if first and re.match(rb"\s*\[\s*(\{|$)", data):
                yield from _records(path, data + file.read())
                return
            first = False
            place = f"{path}, line {number}"
            found = parse_json(data, place)
            if not isinstance(found, dict):
                raise ValueError(f"{place}: expected an object, found {type(found).__name__}. Correct the line.")
            yield Line(place, found)


def _records(path: Path, data: bytes) -> Iterator[Line]:
    found = parse_json(data, str(path))
    for number, record in enumerate(found, start=1):
        place = f"{path}, record {number}"
        if not isinstance(record, dict):
            raise ValueError(f"{place}: expected an object, found {type(record).__name__}. Correct the record.")
        yield Line(place, record)


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, UTF-8; a name that ends in .gz is packed, without a time in it."""
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with the newlines as they are; a name that ends in .gz is packed, without a time in it."""
    data = text.encode()
    path.write_bytes(gzip.compress(data, mtime=0) if is_packed(path) else data)


@dataclass(slots=True)
class _Parts:
    queries: dict[str, str] = field(default_factory=dict)
    corpus: dict[str, str] = field(default_factory=dict)
    relevant: dict[str, dict[str, int]] = field(default_factory=dict)
    attributes: dict[str, dict[str, str]] = field(default_factory=dict)
    passage_attributes: dict[str, dict[str, str]] = field(default_factory=dict)
    splits: dict[str, Split] = field(default_factory=dict)
    in_several_splits: set[str] = field(default_factory=set)
    contradictions: int = 0
    noted: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


def _add(texts: dict[str, str], place: str, what: str, identifier: str | None, from_text: str, text: str) -> str:
    if identifier is None:
        if not text:
            raise ValueError(f"{place}: expected the text of a {what}, found none. Fill it in or remove the record.")
        texts.setdefault(from_text, text)
        return from_text
    if not identifier:
        raise ValueError(f"{place}: expected the id of a {what}, found none. Fill it in.")
    known = texts.setdefault(identifier, text)
    if known != text and normalise_text(known) != normalise_text(text):
        raise ValueError(f"{place}: {what} {identifier!r} has another text earlier in the file. Give it another id.")
    return identifier
