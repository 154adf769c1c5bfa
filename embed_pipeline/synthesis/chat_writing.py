"""Questions out of a chat model's answers, and the answers that hold none.

Belongs here: reading answers to writing requests, what of a text is the question and what is none. Does not belong
here: the requests (prompting), the filters.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from embed_pipeline.dataset.ledger import LedgerEntry
from embed_pipeline.dataset.normalisation import canonical_form, normalise_text, query_id
from embed_pipeline.synthesis.chat import ChatAnswer, ChatModel, Progress
from embed_pipeline.synthesis.chat_answers import problem_of
from embed_pipeline.synthesis.prompting import QUESTIONS_SCHEMA, WritingRequest
from embed_pipeline.synthesis.questions import SyntheticQuestion
from embed_pipeline.synthesis.sources import Sources, SourceSplits

MAX_QUESTION_CHARACTERS = 300
"""A longer text is an answer or a passage, and no question."""

TEMPLATE_DIGITS = 12
_ITEM_SCHEMA = QUESTIONS_SCHEMA["properties"]["questions"]["items"]

# What stands before and around a question in a list. Texts are in NFKC here: full-width digits and colons are plain.
_MARKS = (
    re.compile(r"^[-*•–·]\s+"),
    re.compile(r"^\(\d{1,2}\)\s*"),
    re.compile(r"^\d{1,2}(?:[.)]\s*(?![\d.])|[、:]\s*(?!\d))"),
    re.compile(
        r"^(?:question|frage|pregunta|domanda|вопрос|q|问题|問題|问|問)\s*\d{0,3}\s*[:.)]\s*(?=\S)", re.IGNORECASE
    ),
    re.compile(r"^(?:question|q|问题|問題)\s*\d{1,3}\s*[-–—]\s*(?=\S)", re.IGNORECASE),
)
_BOLD = re.compile(r"(?<![A-Za-z0-9*])\*\*(?=\S)([^*]+?)(?<=\S)\*\*(?![A-Za-z0-9*])")
_PAIRS = ('""', "“”", "「」", "''", "``", "**", "__")

_PLACEHOLDERS = {
    "string",
    "question",
    "text",
    "questiontext",
    "yourquestion",
    "thequestion",
    "na",
    "null",
    "none",
    "无",
    "没有",
}
_NO_QUESTION = re.compile(
    r"^(?:here (?:is|are)|here's|sure\b|certainly|of course|以下是|下面是).*:$"
    r"|^(?:i['’]?m |we are )?sorry\b.*\b(?:question|passage|text)"
    r"|^i (?:cannot|can['’]t|am (?:unable|not able) to) (?:write|create|generate|form|think of)\b.*\bquestion"
    r"|^(?:抱歉|对不起|很抱歉).*(?:问题|段落|文本)"
    r"|^我?(?:无法|不能)(?:根据|基于|针对|从|为|对|就)(?:这|该|此|上|所给|提供的|给定的?|给出的)(?:一?[段个篇])?(?:段落|文本|文字|内容)"
    r"|^我?(?:无法|不能)(?:为[^?]{0,10})?(?:生成|提出|写出?|编写|创建|设计|构造|形成|给出)"
    r"(?:任何|一个|新的|有效的?|合适的?|相关的?|合理的?|有意义的)*问题(?:$|[。.,!;:])",
    re.IGNORECASE,
)
# 基本条件, 日本文化, 版本文件: the first two characters are a word, and nothing points at a text.
_NO_WORD_BEFORE = "(?<![日文版样樣脚腳剧劇课課书書成基根资資标標副正账帳范範蓝藍译譯绘繪话話])"
_POINTS_AT_THE_PASSAGE = re.compile(
    r"\b(?:according to|based on|as (?:stated|mentioned|described) in|(?:stated|mentioned|described) in) (?:the|this) "
    r"(?:\w+ )?(?:passage|text|excerpt|paragraph|article|document|section|context)\b"
    r"|\b(?:this|the (?:above|given|following|provided)) (?:passage|text|excerpt|paragraph)\b"
    r"|\bthe (?:passage|excerpt)\b(?! (?:of|from|through|between))|\bthe (?:text|paragraph) (?:above|below)\b"
    r"|\bmentioned above\b|\b(?:laut|gemäß) (?:dem|diesem) (?:obigen )?(?:text|abschnitt|absatz|dokument)\b"
    r"|\b(?:im|in diesem) (?:obigen |vorliegenden )(?:text|abschnitt)\b|\bin diesem (?:text|abschnitt)\b"
    r"|\b(?:selon|d'après) (?:le|ce) (?:texte|passage|extrait|document)\b"
    r"|\bsegún (?:el|este) (?:texto|pasaje|fragmento|documento)\b"
    r"|根据(?:上文|本文|原文|以上|上述|该段|此段|这段|文中|所给)|上文(?![件化档檔字章本明学學献獻艺藝])|以上文[字本章]"
    rf"|{_NO_WORD_BEFORE}本文|原文中|文中(?:提到|所述|提及|指出)|(?:{_NO_WORD_BEFORE}本|[该此这])段(?:落|文字|中|$)"
    rf"|上述(?:段落|文本|文字|材料)|{_NO_WORD_BEFORE}本条(?![例款约])",
    re.IGNORECASE,
)
# "If the document does not contain a date, …" answers; what opens such a clause may not stand before "does not".
_NO_ANSWER = re.compile(
    r"(?:^|[.!?;:,]\s)(?:(?!\b(?:if|when|whenever|where|unless|whose)\b)[^.!?;:,])*?"
    r"\b(?:passage|text|excerpt|document|context)\b"
    r"(?:(?!\b(?:if|when|whenever|where|unless)\b|\b(?:that|which) do(?:es)?\b)[^.]){0,30}"
    r"\b(?:does not|doesn['’]t|do not|did not) "
    r"(?:say|mention|state|specify|provide|contain|give|tell|include|answer|explain)"
    r"|^(?:this |it )?(?:is )?not (?:mentioned|stated|specified|provided|given|answered)\b"
    r"(?: (?:in|by) (?:the|this)\b.*)?\.?$|^n/?a\.?$"
    r"|(?:段落|原文|文中|文本|上文|本文|材料)(?:中|里)?(?:没有|未|并未)(?:提到|提及|说明|给出|指出|涉及|明确)|^未(?:提及|说明)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Written:
    """The questions in the order of their requests, and an entry for everything that is no question."""

    questions: tuple[SyntheticQuestion, ...]
    dropped: tuple[LedgerEntry, ...]
    lost_usd: float = 0.0
    """What the answers cost in which there was none, whenever they were made."""


def write_with_model(
    requests: Sequence[WritingRequest],
    chat: ChatModel,
    sources: Sources,
    splits: SourceSplits,
    *,
    number: int,
    progress: Progress | None = None,
) -> Written:
    """What the model writes: at most `number` questions an answer, the rest of the answer is left out.

    An answer that did not come is one entry `unanswered_call`; one without a usable question, and every part of an
    answer that is none, is one entry `malformed_question`.

    Raises:
        CallLimitError, SpendLimitError, ValueError: as `ChatModel.answer`.
    """
    questions: list[SyntheticQuestion] = []
    dropped: list[LedgerEntry] = []
    lost_usd = 0.0
    answers = chat.answer([one.request for one in requests], progress)
    for request, answer in zip(requests, answers, strict=True):
        lost_usd += answer.cost_usd if answer.content is None else 0.0
        for found in _read_answer(answer, number):
            if found.problem:
                reason = "unanswered_call" if answer.content is None else "malformed_question"
                style = request.template.style
                dropped.append(sources.entry(request.passage_ids, style, reason, found.text, found.problem))
            else:
                questions.append(_question(found.text, request, chat.name, splits))
    return Written(tuple(questions), tuple(dropped), lost_usd)


@dataclass(frozen=True, slots=True)
class _Found:
    """A question, or what stands in its place with what is wrong with it."""

    text: str
    problem: str = ""


def _read_answer(answer: ChatAnswer, number: int) -> Iterator[_Found]:
    if answer.content is None:
        yield _Found("", f"No answer of the model: {answer.problem}")
        return
    items = answer.content.get("questions")
    if not isinstance(items, list):
        yield _Found(str(answer.content), f"Expected a list of questions, found {type(items).__name__}.")
    elif not items:
        yield _Found("", "The model wrote no question for it.")
    else:
        for at, item in enumerate(items):
            text = _text_of(item)
            problem = _problem_of(item, text) if at < number else f"More than the {number} asked for."
            yield _Found(text, problem)


def _text_of(item: Any) -> str:
    question = item.get("question") if isinstance(item, dict) else None
    return clean_question(question if isinstance(question, str) else str(item))


def clean_question(text: str) -> str:
    """The text, normalised, without list numbers, "Q:", "问题1：", bold marks and quotes around the whole."""
    text, before = normalise_text(text), ""
    while text != before:
        before = text
        text = _BOLD.sub(r"\1", text)
        for mark in _MARKS:
            text = mark.sub("", text, count=1)
        for opening, closing in _PAIRS:
            inside = text[1:-1]
            if text[:1] == opening and text[-1:] == closing and len(text) > 2 and not {opening, closing} & set(inside):
                text = inside.strip()
    return text


def _problem_of(item: Any, text: str) -> str:
    if not isinstance(item, dict) or not isinstance(item.get("question"), str):
        return "Expected an object with a text as question."
    if not any(character.isalnum() for character in canonical_form(text)):
        return "The question has no letter."
    if len(text) > MAX_QUESTION_CHARACTERS:
        return f"The question has {len(text)} characters, more than {MAX_QUESTION_CHARACTERS}."
    if canonical_form(text) in _PLACEHOLDERS or _NO_QUESTION.search(text):
        return "It is no question: the model repeats the form, announces one or refuses to write one."
    pointer = _POINTS_AT_THE_PASSAGE.search(text)
    if pointer:
        return f"It points at the passage ({pointer.group()!r}), which nobody has before them who asks."
    answer = item.get("answer")
    if isinstance(answer, str) and not answer.strip():
        return "The model has no answer to its own question."
    if isinstance(answer, str) and _NO_ANSWER.search(normalise_text(answer)):
        return f"The passage does not answer it: {normalise_text(answer)[:80]}"
    problem = problem_of(item, _ITEM_SCHEMA, "item")
    return f"The model's form is not kept: {problem}." if problem else ""


def _question(text: str, request: WritingRequest, model: str, splits: SourceSplits) -> SyntheticQuestion:
    return SyntheticQuestion.model_validate(
        {
            "id": query_id(text),
            "text": text,
            "passage_ids": request.passage_ids,
            "split": splits.splits[request.passage_ids[0]],
            "style": request.template.style,
            "generator": "chat",
            "model": model,
            "template": request.template.digest[:TEMPLATE_DIGITS],
            "seed": request.request.seed,
        }
    )
