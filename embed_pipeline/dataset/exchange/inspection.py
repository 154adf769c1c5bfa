"""What a file or a folder of files seems to be: format, columns, splits, languages, and what to compare on it.

Belongs here: looking and guessing, which a person reads and corrects. Does not belong here: writing dataset.yaml
(starting), anything that a result depends on.
"""

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embed_pipeline.dataset.exchange.collecting import kind_of
from embed_pipeline.dataset.exchange.column_guess import guess_columns
from embed_pipeline.dataset.exchange.delimited_text import is_tab_delimited
from embed_pipeline.dataset.exchange.registry import Format, detect_format
from embed_pipeline.dataset.exchange.table import content_of, read_question_table
from embed_pipeline.dataset.exchange.table_files import OTHER_SPREADSHEETS, TABLE_SUFFIXES, read_table
from embed_pipeline.dataset.facts import is_label_list
from embed_pipeline.dataset.normalisation import canonical_form, normalise_text
from embed_pipeline.dataset.pairs_file import SPLIT_NAMES, PairsContent
from embed_pipeline.dataset.settings import TableColumns
from embed_pipeline.paths import plain_file
from embed_pipeline.records import SPLITS, Split

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

_READ_SUFFIXES = (".json", ".jsonl", *TABLE_SUFFIXES)
_SAMPLES = 3
_SAMPLED_TEXTS = 200
_QUESTIONS_PER_LABEL = 4
"""From so many on, in all splits, a classifier has enough of each in the train split."""
_FEW_QUERIES = 50
_LETTERS_READ = 20_000
_LEAST_SHARE = 0.3
_CLOSE_LANGUAGES = 3


@dataclass(frozen=True, slots=True)
class InspectedFile:
    """One file and what was found in it. `columns` is None where the format names them."""

    path: Path
    format: Format
    confidence: float
    reasons: tuple[str, ...]
    split: Split | None
    language: str | None
    columns: TableColumns | None
    content: PairsContent


@dataclass(frozen=True, slots=True)
class Sample:
    """A question and one of its passages."""

    question: str
    passage: str


@dataclass(frozen=True, slots=True)
class LanguageGuess:
    """An ISO 639 code and what it was guessed from."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found, and what is proposed for it. Lengths are in characters; `not_read` are files of other kinds."""

    source: Path
    files: tuple[InspectedFile, ...]
    not_read: tuple[str, ...]
    language: LanguageGuess
    queries: int
    passages: int
    judgments: int
    samples: tuple[Sample, ...]
    duplicate_queries: int
    median_query_length: float
    median_passage_length: float
    is_label_corpus: bool
    parallel_languages: bool
    evaluation_only: bool
    draws_validation: bool
    """Whether its files name train and test questions alone, so that some of train become validation questions."""
    headline: str
    variants: tuple[str, ...]

    @property
    def format(self) -> str:
        """The format's name; several, if the files differ, are joined by a comma."""
        return ", ".join(dict.fromkeys(file.format.name for file in self.files))

    @property
    def confidence(self) -> float:
        """How sure the format of the least sure file is, 0 to 1."""
        return min(file.confidence for file in self.files)


def inspect(path: Path) -> Inspection:
    """What a file, a folder that is one data set, or a folder of files seems to be.

    Raises:
        ValueError: there is nothing readable, a file is malformed, no plain file, or a link that leads out of the
            folder, or no query was found.
    """
    files = _inspect_files(path)
    contents = [file.content for file in files]
    # The same id in files of several languages is another text; in files of several splits it is the same passage.
    queries = {(file.language, key): text for file in files for key, text in file.content.queries.items()}
    passages = {(file.language, key): text for file in files for key, text in file.content.corpus.items()}
    if not queries or not passages:
        raise ValueError(f"{path}: expected questions and passages, found {len(queries)} and {len(passages)}.")
    judgments = sum(len(judged) for content in contents for judged in content.relevant.values())
    query_length = statistics.median(map(len, queries.values()))
    passage_length = statistics.median(map(len, passages.values()))
    is_label_corpus = is_label_list(passage_length, len(passages), len(queries))
    parallel = _are_parallel(files)
    splits = {split for file in files for split in _splits_of(file)}
    # Files that name a split for training would contradict it.
    evaluation_only = parallel or splits == {"test"} or (len(queries) < _FEW_QUERIES and splits <= {None, "test"})
    trains = not evaluation_only and bool(splits & {None, "train"})
    draws_validation = trains and {file.split for file in files} == {"train", "test"}
    texts = _some_texts(queries, passages)
    return Inspection(
        source=path,
        files=files,
        not_read=_not_read(path, files),
        language=LanguageGuess("en", f"files in {len(files)} languages") if parallel else guess_language(texts),
        queries=len(queries),
        passages=len(passages),
        judgments=judgments,
        samples=_samples(contents[0]),
        duplicate_queries=len(queries) - len({canonical_form(text) for text in queries.values()}),
        median_query_length=query_length,
        median_passage_length=passage_length,
        is_label_corpus=is_label_corpus,
        parallel_languages=parallel,
        evaluation_only=evaluation_only,
        draws_validation=draws_validation,
        headline=_headline(is_label_corpus, judgments / len(queries)),
        variants=_variants(
            parallel=parallel,
            trains=trains,
            chooses=trains and (draws_validation or bool(splits & {None, "validation"})),
            learns_labels=trains and is_label_corpus and len(queries) >= _QUESTIONS_PER_LABEL * len(passages),
        ),
    )


def _inspect_files(path: Path) -> tuple[InspectedFile, ...]:
    if not path.is_dir():
        # The argument may be a link: whoever names it means what it leads to.
        return (_inspect_file(plain_file(path, (path.resolve().parent,)), None),)
    if (path / "corpus.jsonl").is_file():
        for part in (*path.glob("*.jsonl"), *path.glob("qrels/*")):
            plain_file(part, (path,))
        return (_inspect_file(path, None),)
    there = _files_in(path)
    tables = [entry for entry in there if kind_of(entry) in _READ_SUFFIXES]
    paths = [plain_file(entry, (path,)) for entry in tables or filter(is_tab_delimited, there)]
    if not paths:
        for entry in there:
            if kind_of(entry) in OTHER_SPREADSHEETS:
                read_table(plain_file(entry, (path,)))  # says how to save it
        raise ValueError(f"{path}: expected files that end in {', '.join(_READ_SUFFIXES)}, found none. Put one there.")
    stems = [entry.name.partition(".")[0].lower() for entry in paths]
    if len(paths) == 1 or not all(re.fullmatch(r"[a-z]{2}", stem) for stem in stems):
        files = [_inspect_file(entry, _split_in(stem)) for entry, stem in zip(paths, stems, strict=True)]
        return _without_row_numbers(_with_test(files))
    found = tuple(_inspect_file(entry, None) for entry in paths)
    named = tuple(replace(file, language=stem) for file, stem in zip(found, stems, strict=True))
    wrong = [] if _are_parallel(named) else _not_languages(found, stems)
    if not wrong:
        return _without_row_numbers(named)
    told = "the names are taken for no languages: " + ", ".join(f"{stem} looks like {code}" for stem, code in wrong)
    return _without_row_numbers([replace(file, reasons=(*file.reasons, told)) for file in found])


def _with_test(files: Sequence[InspectedFile]) -> Sequence[InspectedFile]:
    """The files; where they are called train and validation alone, the second is the test.

    A table needs questions that nothing was chosen on, and those for choosing can be drawn from the train questions.
    """
    if {file.split for file in files} != {"train", "validation"}:
        return files
    told = "split test: no file is called so, and the table needs one"
    return [
        replace(file, split="test", reasons=(*file.reasons, told)) if file.split == "validation" else file
        for file in files
    ]


def _without_row_numbers(files: Sequence[InspectedFile]) -> tuple[InspectedFile, ...]:
    """The files, the tables without their ids where one id means different questions in two files, as a row's number.

    Two languages may have an id each: there it is the same question.
    """
    first: dict[tuple[str | None, str], str] = {}
    for file in files:
        for key, text in file.content.queries.items():
            if text and normalise_text(first.setdefault((file.language, key), text)) != normalise_text(text):
                return tuple(map(_without_ids, files))
    return tuple(files)


def _without_ids(file: InspectedFile) -> InspectedFile:
    if file.columns is None or file.columns.id is None:
        return file
    columns = file.columns.model_copy(update={"id": None})
    reason = f"{file.columns.id} is left out: the files have the same ids for different questions."
    return replace(
        file, columns=columns, reasons=(*file.reasons, reason), content=read_question_table(file.path, columns)
    )


def _not_languages(files: Sequence[InspectedFile], stems: Sequence[str]) -> list[tuple[str, str]]:
    """The names of two letters that the files' texts contradict, and what these look like.

    Nobody tells Croatian from Bosnian by a few words: a language that comes close contradicts nothing. What is no
    language's code (cn) may mean one where the files differ.
    """
    samples = [" ".join(_some_texts(file.content.queries, file.content.corpus))[:_LETTERS_READ] for file in files]
    close = [[code for code, _ in _identifier().rank(text)[:_CLOSE_LANGUAGES]] for text in samples]
    known = {code for code, _ in _identifier().rank("")}
    alike = len({codes[0] for codes in close}) == 1
    return [
        (stem, codes[0])
        for stem, text, codes in zip(stems, samples, close, strict=True)
        if any(map(str.isalpha, text)) and (stem not in codes if stem in known else alike)
    ]


def _some_texts(queries: Mapping[Any, str], passages: Mapping[Any, str]) -> list[str]:
    return [text for texts in (queries, passages) for text in islice(texts.values(), _SAMPLED_TEXTS)]


def _files_in(folder: Path) -> list[Path]:
    """The files of a folder, sorted; hidden ones and lock files are nobody's."""
    return sorted(p for p in folder.iterdir() if not p.is_dir() and not p.name.startswith((".", "~$")))


def _not_read(path: Path, read: Sequence[InspectedFile]) -> tuple[str, ...]:
    """The files of a folder of files that are of no kind that is read."""
    if not path.is_dir() or read[0].format.folder:
        return ()
    names = {file.path.name for file in read}
    return tuple(entry.name for entry in _files_in(path) if entry.name not in names)


def _inspect_file(path: Path, split: Split | None) -> InspectedFile:
    detection = detect_format(path)
    columns, reasons, confidence = None, [detection.reason], detection.score
    if detection.format.name == "table":
        table = detection.table or read_table(path)
        try:
            guess = guess_columns(table)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        columns = guess.columns
        reasons += [f"read as {table.found}", *guess.reasons]
        content = content_of(path, table, columns)
    else:
        content = detection.format.read(path, None)
    if split is not None:
        reasons.append(f"split {split}: the file's name")
    return InspectedFile(
        path=path,
        format=detection.format,
        confidence=confidence,
        reasons=(*reasons, *content.notes),
        split=split,
        language=None,
        columns=columns,
        content=content,
    )


def _split_in(stem: str) -> Split | None:
    """The split that a word of the name says; Chinese has no spaces, so the end of its letters counts (客服训练集)."""
    words = re.findall(r"[a-z]+|[\u4e00-\u9fff]+", stem)
    words += [word[-3:] for word in words if word.endswith("集")]
    found: set[Split] = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return found.pop() if len(found) == 1 else None


def _splits_of(file: InspectedFile) -> set[Split | None]:
    if file.split is not None:
        return {file.split}
    return {file.content.splits.get(query) for query in file.content.queries}


def _are_parallel(files: Sequence[InspectedFile]) -> bool:
    """Whether the files are languages of one data set: the same ids, and the same judgments."""
    first = files[0].content
    return files[0].language is not None and all(
        file.content.queries.keys() == first.queries.keys()
        and file.content.corpus.keys() == first.corpus.keys()
        and file.content.relevant == first.relevant
        for file in files
    )


def _samples(content: PairsContent) -> tuple[Sample, ...]:
    found = []
    for query, text in content.queries.items():
        judged = content.relevant.get(query, {})
        passage = next((p for p, grade in judged.items() if grade > 0 and p in content.corpus), None)
        if passage is not None and len(found) < _SAMPLES:
            found.append(Sample(text, content.corpus[passage]))
    return tuple(found)


def _headline(is_label_corpus: bool, judgments_per_query: float) -> str:
    if not is_label_corpus:
        return "ndcg@10"
    return "precise@5" if judgments_per_query > 1.2 else "hit_rate@1"


def _variants(*, parallel: bool, trains: bool, chooses: bool, learns_labels: bool) -> tuple[str, ...]:
    if parallel:
        return ("bm25", "e5")
    trained = [*(["e5_auto"] if trains else []), *(["e5_auto_hybrid"] if chooses else [])]
    return ("bm25", "tfidf", *(["classifier"] if learns_labels else []), "e5", *trained)


def sorted_splits(files: Sequence[InspectedFile]) -> tuple[Split, ...]:
    """The splits that the files have, in the order train, validation, test."""
    found = {split for file in files for split in _splits_of(file)}
    return tuple(split for split in SPLITS if split in found)


def guess_language(texts: Iterable[str]) -> LanguageGuess:
    """The language of the texts; English where they hold no letters, or names and numbers alone."""
    sample = " ".join(texts)[:_LETTERS_READ]
    if not any(map(str.isalpha, sample)):
        return LanguageGuess("en", "no letters; English is assumed")
    (code, share), (second, _) = _identifier().rank(sample)[:2]
    if share < _LEAST_SHARE:
        return LanguageGuess("en", f"no language is plain to see ({code} {share:.0%}); English is assumed")
    return LanguageGuess(code, f"guessed from {len(sample):,} characters, {share:.0%} sure; {second} comes next")


@cache
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    found = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    # Those of three letters are written by few (wuu, yue) and would take a share of Chinese.
    found.set_languages([code for code in found.labels if len(code) == 2])
    return found
