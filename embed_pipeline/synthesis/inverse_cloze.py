"""Questions without a chat model: a passage's own sentences and headings stand for questions.

Belongs here: choosing and trimming them. Does not belong here: what is a sentence (documents.cutting).

The sentence stays in its passage, so that the corpus is the one that is searched in earnest. Question and passage then
share their words, and lexical search looks better than it is with people's questions.

Source: Lee, Chang, Toutanova: Latent Retrieval for Weakly Supervised Open Domain Question Answering, ACL 2019 (where
the sentence is taken out of most passages).
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from embed_pipeline.dataset.ledger import LedgerEntry
from embed_pipeline.dataset.normalisation import normalise_text, query_id
from embed_pipeline.documents.cutting import sentence_spans
from embed_pipeline.records import Passage
from embed_pipeline.synthesis.chat_writing import Written
from embed_pipeline.synthesis.questions import SyntheticQuestion
from embed_pipeline.synthesis.settings import SynthesisSettings
from embed_pipeline.synthesis.sources import Sources, SourceSplits, file_of, heading_path

SENTENCE = "sentence"
HEADING = "heading"

# Counted as `count_words`: Chinese characters or words.
SENTENCE_LENGTHS = range(4, 41)
CHINESE_SENTENCE_LENGTHS = range(6, 61)
HEADING_PASSAGES = 3
_SHORT_HEADING = 4
_SHORT_CHINESE_HEADING = 8

_CHINESE = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
# 1. · 2.1 · (3) · a) · iv. · 一、 · （二） · 第三条 · Article 4 · § 7 · bullets: they count and say nothing. A
# reference ("Article 4 of the act") and an amount ("2.5 percent") at the start of a sentence stay.
_ENUMERATION = re.compile(
    r"""^(?:
        [-–—•·●○▪■◆*]+\s+
      | [(（](?:\d{1,3}|[ivxlc]{1,5}|[a-zA-Z]|[一二三四五六七八九十百]{1,4})[)）][.、．]?\s*
      | (?:\d{1,3}\.)+\d{1,3}\.?\s+(?=[^\Wa-z\d_])
      | (?:\d{1,3}|[ivxlc]{1,5}|[a-zA-Z]|[一二三四五六七八九十百]{1,4})(?:[)）、．]|\.(?=[\s\u4e00-\u9fff]))\s*
      | 第[一二三四五六七八九十百千零〇\d]{1,8}[条章节编款项篇](?:之[一二三四五六七八九十])?(?:[\s:：、]+|$)
      | (?:(?:Article|Section|Chapter|Artikel|Abschnitt|Kapitel|Chapitre)\s+(?:\d+[a-z]?|[IVXLC]+|premier)
          |§+\s*\d+[a-z]?)(?:\s*[.:–—-]\s*|\s+(?=[^\Wa-z\d_])|$)
    )""",
    re.VERBOSE,
)
_HEADING_NUMBER = re.compile(r"^(?:\d{1,3}\.)*\d{1,3}\s+(?=[^\W\d_])")
# Where a clause ends; the comma of 1,000 ends none.
_CLAUSE_END = re.compile(r"(?<=[;:,，；：])(?=[\s\u4e00-\u9fff《“(])")
_END = " \t。．.;；:：,，、!！…"


def write_offline(
    drawn: Sequence[Passage], sources: Sources, splits: SourceSplits, settings: SynthesisSettings
) -> Written:
    """For every drawn passage its sentences, then for every heading above drawn passages the heading.

    At most `questions_per_passage` sentences a passage, drawn with the seed among those of a reasonable length; which
    ones does not depend on other passages. A passage without any is an entry `malformed_question`.
    """
    questions: list[SyntheticQuestion] = []
    dropped: list[LedgerEntry] = []
    for passage in drawn:
        texts = draw_sentences(passage, settings.questions_per_passage, settings.seed)
        ids = (passage.id,)
        questions.extend(_question(text, ids, SENTENCE, splits, settings.seed) for text in texts)
        if not texts:
            detail = "No sentence of a reasonable length to stand for a question."
            dropped.append(sources.entry(ids, SENTENCE, "malformed_question", passage.text, detail))
    wanted = {passage.id for passage in drawn}
    for text, ids in _headings(sources, splits.splits):
        if wanted.intersection(ids):
            questions.append(_question(text, ids, HEADING, splits, settings.seed))
    return Written(tuple(questions), tuple(dropped))


def draw_sentences(passage: Passage, number: int, seed: int) -> tuple[str, ...]:
    """At most `number` different sentences of a passage, trimmed, in the order of the draw; maybe none.

    Of a sentence that is too long the first clauses that fit stand for the whole.
    """
    spans = sentence_spans(passage.text)
    trimmed = dict.fromkeys(shorten(trim(passage.text[span.start : span.end])) for span in spans)
    fitting = [text for text in trimmed if _says_something(text) and count_words(text) in _lengths(text)]
    lots = {text: hashlib.sha256(f"{seed}\n{passage.id}\n{text}".encode()).digest() for text in fitting}
    return tuple(sorted(fitting, key=lambda text: lots[text])[:number])


def trim(text: str) -> str:
    """The text without enumeration marks before it and the full stop after it; may be empty."""
    text = normalise_text(text)
    while (match := _ENUMERATION.match(text)) and match.end():
        text = text[match.end() :]
    return text.rstrip(_END).strip()


def shorten(text: str) -> str:
    """The text, or as many of its first clauses as a reasonable length allows; empty where not even one fits."""
    longest = _lengths(text)[-1]
    if count_words(text) <= longest:
        return text
    kept = ""
    for clause in _CLAUSE_END.split(text):
        if count_words(kept + clause) > longest:
            break
        kept += clause
    return kept.rstrip(_END).strip()


def heading_query(path: Sequence[str]) -> str:
    """What stands for a question to a heading: its text, with its parent's before it where it is short.

    Empty where that is less than 2 words or 4 Chinese characters.
    """
    *parents, last = [trim(_HEADING_NUMBER.sub("", normalise_text(part))) for part in path]
    if not _says_something(last):
        return ""
    short = _SHORT_CHINESE_HEADING if _CHINESE.search(last) else _SHORT_HEADING
    text = f"{parents[-1]} {last}".strip() if parents and count_words(last) < short else last
    return text if count_words(text) >= (4 if _CHINESE.search(text) else 2) else ""


def count_words(text: str) -> int:
    """The Chinese (or Japanese) characters of a text, and the words of the rest of it."""
    return len(_CHINESE.findall(text)) + len(_WORD.findall(_CHINESE.sub(" ", text)))


def _lengths(text: str) -> range:
    return CHINESE_SENTENCE_LENGTHS if _CHINESE.search(text) else SENTENCE_LENGTHS


def _says_something(text: str) -> bool:
    """More letters than digits: the row of a table and a number are no question."""
    return 2 * sum(map(str.isalpha, text)) > sum(map(str.isalnum, text))


def _headings(sources: Sources, splits: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The query of every heading with at most 3 passages below it, all in one split; by their first passage."""
    below: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    own: dict[tuple[str, ...], tuple[str, ...]] = {}
    for passage in sources.ordered:
        file, path = file_of(passage), heading_path(passage)
        for depth in range(1, len(path) + 1):
            below[(file, *path[:depth])].append(passage.id)
        if path:
            own.setdefault((file, *path), path)
    for key, path in own.items():
        ids = tuple(below[key])
        text = heading_query(path)
        if text and len(ids) <= HEADING_PASSAGES and len({splits[passage_id] for passage_id in ids}) == 1:
            yield text, ids


def _question(
    text: str, passage_ids: tuple[str, ...], style: str, splits: SourceSplits, seed: int
) -> SyntheticQuestion:
    return SyntheticQuestion.model_validate(
        {
            "id": query_id(text),
            "text": text,
            "passage_ids": passage_ids,
            "split": splits.splits[passage_ids[0]],
            "style": style,
            "generator": "inverse_cloze",
            "seed": seed,
        }
    )
