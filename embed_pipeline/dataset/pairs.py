"""From files of question-passage pairs to the data set: ids, splits, and what is left out with its reason.

Belongs here: the rules. Does not belong here: the layout of a file (pairs_file).

Ids stay those of the files, so that a result leads back to the user's own system; where files differ in language the
language goes before the id.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embed_pipeline.dataset.cleaning import CleanedData, CleaningCounts
from embed_pipeline.dataset.exchange.registry import read_content
from embed_pipeline.dataset.formats import build_dataset
from embed_pipeline.dataset.label_list import LabelList, read_label_list
from embed_pipeline.dataset.ledger import LedgerEntry, Reason, shorten_value
from embed_pipeline.dataset.near_duplicates import NearDuplicateIndex, shingle_texts
from embed_pipeline.dataset.normalisation import canonical_form, normalise_text
from embed_pipeline.dataset.pairs_file import REFERENCE_ANSWER, PairsContent
from embed_pipeline.dataset.raw_files import raw_paths
from embed_pipeline.dataset.settings import DatasetSettings, PairsFile
from embed_pipeline.dataset.splitting import split_texts
from embed_pipeline.records import LANGUAGE, SPLITS, Judgment, Passage, Query, Split


@dataclass(slots=True)
class _Candidate:
    """A query on its way in; `split` is None until the hash decides."""

    file: str
    position: int
    query_id: str
    text: str
    split: Split | None
    attributes: dict[str, str]
    grades: dict[str, int]


def clean_pairs(directory: Path, settings: DatasetSettings) -> CleanedData:
    """The data set of the files in the order of the settings.

    A query that is (nearly) in a split held out before its own is left out: test is held out first, then validation.
    So a train file that repeats test questions loses them, and no test question is lost. A query that several files
    have in one split is one query, with the judgments of all.

    Raises:
        ValueError: a file is malformed, an id has two texts, or not one query is usable.
    """
    ledger: list[LedgerEntry] = []
    paths = raw_paths(directory, settings)
    contents = [
        (entry, read_content(path, entry.format, entry.columns))
        for entry, path in zip(settings.pairs, paths, strict=False)  # behind them the label list
    ]
    for entry, content in contents:
        ledger += [_reject(entry.file, "file", 0, "noted", "", f"{note}.") for note in content.notes]
    passages = _collect_passages(contents, ledger)
    if settings.label_list:
        passages = _described(passages, read_label_list(directory / settings.label_list), settings.label_list, ledger)
    candidates = _collect_queries(contents, passages, ledger, settings)
    kept = _without_leaks(candidates, settings.near_duplicate_threshold, ledger)
    if not kept:
        raise ValueError(
            f"{directory}: {len(candidates)} queries read and none usable; the first reasons: "
            f"{[entry.reason for entry in ledger[:3]]}. Correct the files of `pairs` in dataset.yaml."
        )
    dataset = build_dataset(
        [Query(c.query_id, c.text, split, c.attributes) for c, split in kept],
        passages.values(),
        [Judgment(c.query_id, passage, grade) for c, _ in kept for passage, grade in c.grades.items()],
    )
    read = sum(len(content.queries) for _, content in contents)
    united = sum(entry.reason == "duplicate_question" for entry in ledger)
    counts = CleaningCounts(
        rows=read,
        rows_united=united,
        rows_rejected=read - united - len(kept),
        cells_rejected=len(ledger) - (read - len(kept)),
        queries=len(dataset.queries),
        passages=len(dataset.passages),
        judgments=len(dataset.judgments),
    )
    # In reading order again: splits were looked at one after the other.
    kept_places = {(candidate.file, candidate.position) for candidate, _ in kept}
    files = {c.query_id: c.file for c in candidates if (c.file, c.position) in kept_places}
    return CleanedData(dataset, tuple(ledger), counts, files)


def _collect_passages(
    contents: Sequence[tuple[PairsFile, PairsContent]], ledger: list[LedgerEntry]
) -> dict[str, Passage]:
    found: dict[str, Passage] = {}
    for entry, content in contents:
        for position, (name, raw) in enumerate(content.corpus.items(), start=1):
            key, text = _qualified(entry, name), normalise_text(raw)
            if not text:
                ledger.append(_reject(entry.file, "corpus", position, "empty_passage", name, "No text."))
            elif key in found and found[key].text != text:
                raise ValueError(
                    f"{entry.file}, corpus, {name}: it has another text in an earlier file. Give it another id, or "
                    "leave passage_id out of a table's columns: ids then come from the texts."
                )
            else:
                known = found[key].attributes if key in found else _language(entry)
                found[key] = Passage(key, text, {**known, **content.passage_attributes.get(name, {})})
    return found


def _described(
    passages: Mapping[str, Passage], labels: LabelList, file: str, ledger: list[LedgerEntry]
) -> dict[str, Passage]:
    """The passages with what the list says of them, and the labels of the list that no file has."""
    found = {key: labels.passage(passage.text, key, passage.attributes) for key, passage in passages.items()}
    texts = dict.fromkeys(passage.text for passage in passages.values())
    for position, text in enumerate((text for text in texts if text not in labels), start=1):
        detail = f"A passage that is not in the label list; {labels.hint(text)}. It stays, without a description."
        ledger.append(_reject(file, "labels", position, "noted", text, detail))
    return found | {
        added.id: added for added in (labels.passage(label) for label in labels.texts if label not in texts)
    }


def _collect_queries(
    contents: Sequence[tuple[PairsFile, PairsContent]],
    passages: dict[str, Passage],
    ledger: list[LedgerEntry],
    settings: DatasetSettings,
) -> list[_Candidate]:
    """The queries that can be used, each with its split, once in each split."""
    left_out: list[LedgerEntry] = []
    read = list(_read_queries(contents, passages, left_out, settings))
    usable = []
    for candidate in _united(read, left_out):
        if max(candidate.grades.values(), default=0) < 1:
            detail = "No passage is relevant to it, so it can be neither trained nor measured."
            left_out.append(_reject_query(candidate, "no_judgment", detail))
        else:
            usable.append(candidate)
    _assign_splits(usable, settings)
    usable = _united(usable, left_out)  # the hash may have said what another file names
    order = {entry.file: at for at, (entry, _) in enumerate(contents)}
    ledger += sorted(left_out, key=lambda entry: (order[entry.workbook], entry.row))
    return usable


def _read_queries(
    contents: Sequence[tuple[PairsFile, PairsContent]],
    passages: dict[str, Passage],
    ledger: list[LedgerEntry],
    settings: DatasetSettings,
) -> Iterator[_Candidate]:
    languages = [entry for entry, _ in contents] if settings.parallel_languages else []
    seen: dict[str, tuple[str, str]] = {}
    for entry, content in contents:
        for position, (name, raw) in enumerate(content.queries.items(), start=1):
            key, text = _qualified(entry, name), normalise_text(raw)
            grades: dict[str, int] = {}
            for passage, grade in content.relevant.get(name, {}).items():
                keys = dict.fromkeys(_qualified(other, passage) for other in languages or [entry])
                known = [key for key in keys if key in passages]
                grades |= dict.fromkeys(known, grade)
                if not known:
                    detail = f"The corpus has no passage {passage!r}; the judgment was left out."
                    ledger.append(_reject(entry.file, "relevant_docs", position, "unknown_passage", name, detail))
            if not text:
                ledger.append(_reject(entry.file, "queries", position, "empty_question", name, "No text."))
                continue
            first_file, first_text = seen.setdefault(key, (entry.file, text))
            if first_text != text:
                raise ValueError(
                    f"{entry.file}, queries, {name}: the id is in an earlier file too, {first_file}, and means another "
                    f"question there: {shorten_value(text)!r}, {shorten_value(first_text)!r}. Give one of them another "
                    "id, or none: leave id out of a table's columns or of the lines, and ids come from the texts."
                )
            known = content.attributes.get(name, {})
            attributes = {**_language(entry), **{k: v for k, v in known.items() if k != REFERENCE_ANSWER}}
            split = "test" if settings.evaluation_only else entry.split or content.splits.get(name)
            yield _Candidate(entry.file, position, key, text, split, attributes, grades)


def _united(candidates: Iterable[_Candidate], ledger: list[LedgerEntry]) -> list[_Candidate]:
    """Each query once in each split, where it was read first, with the judgments of all; relevant once is relevant."""
    found: dict[tuple[str, Split | None], _Candidate] = {}
    for candidate in candidates:
        first = found.setdefault((candidate.query_id, candidate.split), candidate)
        if first is candidate:
            continue
        contradictions = 0
        for passage, grade in candidate.grades.items():
            known = first.grades.setdefault(passage, grade)
            contradictions += known != grade and 0 in (known, grade)
            first.grades[passage] = max(known, grade)
        first.attributes = candidate.attributes | first.attributes
        detail = f"Repeats question {first.position} of {first.file}; its passages were added there."
        if contradictions:
            detail += f" {contradictions} are relevant in one place and irrelevant in the other; relevant stays."
        ledger.append(_reject_query(candidate, "duplicate_question", detail))
    return list(found.values())


def _assign_splits(candidates: Sequence[_Candidate], settings: DatasetSettings) -> None:
    open_ones = [candidate for candidate in candidates if candidate.split is None]
    assignment = split_texts([candidate.text for candidate in open_ones], settings)
    for candidate, split in zip(open_ones, assignment.splits, strict=True):
        # In conflict between two splits: as train it meets the held-out one below and is left out with its reason.
        candidate.split = split or "train"


def _without_leaks(
    candidates: Sequence[_Candidate], threshold: float, ledger: list[LedgerEntry]
) -> list[tuple[_Candidate, Split]]:
    index = NearDuplicateIndex(shingle_texts([canonical_form(c.text) for c in candidates]), threshold)
    kept: list[tuple[_Candidate, Split]] = []
    held_out: list[int] = []
    for split in reversed(SPLITS):
        own = np.array([at for at, candidate in enumerate(candidates) if candidate.split == split], dtype=np.int64)
        accepted = []
        for at, found in index.find_each(own, among=np.array(held_out, dtype=np.int64)):
            candidate = candidates[at]
            if not found:
                accepted.append(at)
                kept.append((candidate, split))
                continue
            near = found[0]
            other = candidates[near.position]
            detail = (
                f"Nearly the same as {other.query_id} of {other.split} (similarity {near.similarity:.2f}). Questions "
                "that differ in a number alone are: if they ask different things, raise near_duplicate_threshold."
            )
            if other.query_id == candidate.query_id:
                detail = f"It is question {other.position} of {other.file} too, which is of {other.split}."
            ledger.append(_reject_query(candidate, "near_duplicate_of_held_out", detail))
        held_out += accepted
    return kept


def _qualified(entry: PairsFile, name: str) -> str:
    return f"{entry.language}:{name}" if entry.language else name


def _language(entry: PairsFile) -> dict[str, str]:
    return {LANGUAGE: entry.language} if entry.language else {}


def _reject_query(candidate: _Candidate, reason: Reason, detail: str) -> LedgerEntry:
    return _reject(candidate.file, "queries", candidate.position, reason, candidate.text, detail)


def _reject(file: str, section: str, position: int, reason: Reason, value: str, detail: str) -> LedgerEntry:
    return LedgerEntry(
        workbook=file,
        sheet=section,
        row=position,
        column=None,
        reason=reason,
        value=shorten_value(value),
        nearest=None,
        nearest_score=None,
        detail=detail,
    )
