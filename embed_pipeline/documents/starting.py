"""A data set made of documents: what they seem to be, and a dataset.yaml that says why each setting is what it is.

Belongs here: looking at documents and writing the folder. Does not belong here: files of questions (dataset.exchange).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from embed_pipeline.dataset.exchange.delimited_text import is_tab_delimited
from embed_pipeline.dataset.exchange.inspection import LanguageGuess, guess_language
from embed_pipeline.dataset.exchange.starting import new_dataset_folder, one_line, yaml_value
from embed_pipeline.dataset.exchange.table_files import some
from embed_pipeline.dataset.ledger import REASONS
from embed_pipeline.dataset.settings import SETTINGS_FILE
from embed_pipeline.documents.document import Document, DocumentProblem
from embed_pipeline.documents.headings import begins_article
from embed_pipeline.documents.reading import (
    SUFFIXES,
    DocumentPaths,
    document_left_out,
    plain_documents,
    read_document,
)
from embed_pipeline.paths import copy_new

FOLDER = "documents"
VARIANTS = ("bm25", "tfidf", "e5", "e5_auto", "e5_auto_hybrid")
# What makes a folder one of tables.
_TABLES = {".csv", ".tsv", ".json", ".jsonl", ".parquet", ".xlsx", ".xlsm", ".gz"}
_FEW_ARTICLES = 10
_SAMPLED_CHARACTERS = 4000


@dataclass(frozen=True, slots=True)
class FoundDocuments:
    """The documents of a folder, by their path below it, and what they have in common.

    `problems` are what of them is left out, `others` counts the files of the folder that are none, by their ending.
    """

    source: Path
    paths: tuple[Path, ...]
    characters: int
    problems: tuple[DocumentProblem, ...]
    others: Mapping[str, int]
    language: LanguageGuess
    articles: int

    @property
    def root(self) -> Path:
        """The folder that paths are relative to."""
        return self.source if self.source.is_dir() else self.source.parent


def find_documents(source: Path) -> DocumentPaths:
    """The documents in a folder and below, or the file itself if it is one; none where tables lie at the folder's top,
    or beside each of them.

    README files are about the folder and hidden ones nobody's: both are passed over. A .txt that is a table with tabs
    is one where it is all there is: among documents it may be a glossary.

    Raises:
        ValueError: what is called like a document is no plain file, or a link that leads out of the folder, each.
    """
    if not source.is_dir():
        is_one = source.is_file() and source.suffix.lower() in SUFFIXES and not is_tab_delimited(source)
        return DocumentPaths((source,) if is_one else (), {})
    files = _files(source)
    documents = list(filter(_is_document, files))
    of_tables = {path.parent for path in files if path.suffix.lower() in _TABLES}
    if source in of_tables or all(path.parent in of_tables or is_tab_delimited(path) for path in documents):
        return DocumentPaths((), {})
    return plain_documents(source, [path for path in files if _is_document(path) or path.is_dir()])


def describe_documents_beside(source: Path) -> str:
    """A sentence about the documents in a folder that was taken for one of tables, empty where there are none."""
    found = [path.name for path in _files(source) if _is_document(path)] if source.is_dir() else []
    if not found:
        return ""
    return (
        f" The folder holds {len(found)} documents too: {one_line(some(found))}. "
        "To take these, move what is no document out of it."
    )


def inspect_documents(source: Path, found: DocumentPaths) -> FoundDocuments:
    """What the documents seem to be; every one is read.

    Raises:
        ValueError: not one of them has text.
    """
    root = source if source.is_dir() else source.parent
    characters, articles, samples, problems = 0, 0, [], list[DocumentProblem]()
    documents = chain(
        (read_document(path, path.relative_to(root).as_posix()) for path in found.paths),
        (document_left_out(file, why) for file, why in found.left_out.items()),
    )
    for document in documents:
        characters += len(document.text)
        articles += _count_articles(document)
        samples.append(document.text[:_SAMPLED_CHARACTERS])
        problems += document.problems
    if not characters:
        told = "; ".join(_describe_problems(problems))
        raise ValueError(f"{source}: not one of {len(found.paths)} documents has text. {told}")
    beside = [path for path in (_files(source) if source.is_dir() else ()) if not _is_document(path)]
    others = Counter(_ending(path) for path in beside if not path.is_dir())
    language = guess_language(samples)
    return FoundDocuments(source, found.paths, characters, tuple(problems), others, language, articles)


def _files(folder: Path) -> list[Path]:
    """The files of a folder and the links to other folders in it; hidden ones and lock files are nobody's."""
    found = sorted(folder.rglob("*"))
    return [p for p in found if not p.name.startswith((".", "~$")) and (p.is_symlink() or not p.is_dir())]


def _is_document(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.stem.lower() != "readme" and not path.is_dir()


def _ending(path: Path) -> str:
    return "README" if path.stem.lower() == "readme" else path.suffix.lower() or "without an ending"


def write_documents_yaml(found: FoundDocuments, name: str, data_folder: Path) -> Path:
    """The dataset.yaml in a new folder data_folder/name, with copies of the documents below it; whole or not at all.

    Raises:
        ValueError: the name is no data set name, or the folder exists.
    """
    with new_dataset_folder(data_folder, name) as made:
        for path in found.paths:
            copy = made / FOLDER / path.relative_to(found.root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy_new(path, copy)
        (made / SETTINGS_FILE).write_text(_yaml(found, data_folder), encoding="utf-8", newline="\n")
    return data_folder / name / SETTINGS_FILE


def describe_documents(found: FoundDocuments) -> str:
    """What was found, in a few lines for a terminal."""
    kinds = Counter(path.suffix.lower().removeprefix(".") for path in found.paths)
    lines = [
        f"{len(found.paths)} documents ({', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))}), "
        f"{found.characters:,} characters, {found.articles} articles.",
        *_describe_problems(found.problems),
    ]
    if found.others:
        told = ", ".join(f"{count} {ending}" for ending, count in sorted(found.others.items()))
        lines.append(f"Not documents, not taken: {one_line(told)}. Read are {', '.join(SUFFIXES)}.")
    return "\n".join(lines)


def _describe_problems(problems: Sequence[DocumentProblem]) -> list[str]:
    """A line for each reason: how often, in how many files, and the first."""
    lines = []
    for reason in REASONS:
        own = [problem for problem in problems if problem.reason == reason]
        if own:
            first = f"{own[0].file}{f', {own[0].place}' if own[0].place else ''}: {own[0].detail}"
            files = len({problem.file for problem in own})
            among = f" in {files} files" if 1 < files < len(own) else ""
            lines.append(f"Left out: {len(own)} × {reason}{among}. The first: {one_line(first)}")
    return lines


def _yaml(found: FoundDocuments, data_folder: Path) -> str:
    cut = "article" if found.articles >= _FEW_ARTICLES else "section"
    suffixes = sorted({path.suffix for path in found.paths})
    patterns = [f"{FOLDER}/**/*{suffix}" for suffix in suffixes]
    recipes = data_folder / "recipes"
    known = [v for v in VARIANTS if not recipes.is_dir() or (recipes / f"{v}.yaml").is_file()]
    lines = [
        "# Written by `embed-pipeline init` from what it found; every line may be changed.",
        *(f"# {line}" for line in describe_documents(found).splitlines()),
        f"description: {yaml_value(f'Passages of the documents in {found.source.name}.')}",
        f"# {found.language.reason}; decides how BM25 finds words and what language questions are written in.",
        f"language: {found.language.code}",
        "documents:",
        f"  files: {yaml_value(patterns)}",
        f"  # {found.articles} articles were found; article: each begins a passage, section: each heading does.",
        f"  cut: {cut}",
        "  passage_tokens: 256",
        "# No questions are known. Without a chat model, sentences and headings stand for them; docs/documents.md.",
        "synthesis: {generator: inverse_cloze}",
        "# The passages are texts of their own: what counts is how far up the right one stands.",
        "headline: ndcg@10",
        "# Recipes in data/recipes that are compared; the first is the baseline.",
        f"variants: [{', '.join(known)}]",
    ]
    return "\n".join(lines) + "\n"


def _count_articles(document: Document) -> int:
    return sum(begins_article(document.text[block.start : block.end]) for block in document.blocks)
