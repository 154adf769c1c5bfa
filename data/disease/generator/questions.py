"""One-liners, chats and report excerpts around the mentions of a row.

Belongs here: how mentions become a question of each form. Does not belong here: the phrases (phrases/*.yaml), the mess.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from random import Random

import yaml
from grammar import Grammar, fill_slots, read_grammar
from mentions import Mention

_SPEAKERS = (
    ("客户：", "经纪人："),
    ("客户：", "经纪人："),
    ("客户：", "顾问："),
    ("客户:", "业务员:"),
    ("问：", "答："),
    ("【客户】", "【经纪人】"),
    ("我：", "客服："),
    ("甲：", "乙："),
)
_CIRCLED = "①②③④⑤⑥⑦⑧⑨⑩"


@dataclass(frozen=True, slots=True)
class Normal:
    """A normal result, and the labels beside which it would be a contradiction."""

    text: str
    unless: frozenset[str]


@dataclass(frozen=True, slots=True)
class Turn:
    """What the customer (speaker 0) or the broker (speaker 1) says."""

    speaker: int
    text: str


@dataclass(frozen=True, slots=True)
class Phrasebook:
    """The grammars of the three forms and the normal results of reports."""

    one_liners: Grammar
    chats: Grammar
    reports: Grammar
    normals: tuple[Normal, ...]


def read_phrasebook(directory: Path) -> Phrasebook:
    """The phrases beside the generator."""
    phrases = directory / "phrases"
    normals = yaml.safe_load((directory / "normals.yaml").read_text(encoding="utf-8"))
    return Phrasebook(
        read_grammar(phrases, "everyday", "leads", "one_liners"),
        read_grammar(phrases, "everyday", "leads", "one_liners", "chats"),
        read_grammar(phrases, "everyday", "leads", "one_liners", "reports"),
        tuple(Normal(line["text"], frozenset(line["unless"])) for line in normals),
    )


def _say(mentions: Sequence[Mention], grammar: Grammar, random: Random, facts: Mapping[str, str]) -> str:
    """The mentions as one run of speech: neighbouring names share a verb, clauses stand on their own."""
    pieces: list[str] = []
    for is_name, group in groupby(mentions, key=lambda mention: mention.is_name):
        texts = list(group)
        if is_name:
            pieces.append(grammar.expand("noun_phrase", random, {**facts, "n": _join_names(texts, grammar, random)}))
            continue
        for mention in texts:
            rule = {"n": mention.text, **facts}
            pieces.append(grammar.expand("finding_phrase", random, rule) if mention.kind == "finding" else mention.text)
    spoken = pieces[0]
    for piece in pieces[1:]:
        spoken += grammar.expand("list_glue", random, facts) + piece
    return spoken


def _join_names(mentions: Sequence[Mention], grammar: Grammar, random: Random) -> str:
    glue = grammar.expand("name_glue", random, {})
    return (
        glue.join(mention.text for mention in mentions[:-1]) + (glue if len(mentions) > 1 else "") + mentions[-1].text
    )


def write_one_liner(mentions: Sequence[Mention], book: Phrasebook, random: Random, facts: Mapping[str, str]) -> str:
    """A question of one or two sentences."""
    grammar = book.one_liners
    is_bare = len(mentions) <= 2 and all(mention.is_name for mention in mentions) and facts["rel"] == "我"
    if is_bare and random.random() < 0.35:
        core = _join_names(mentions, grammar, random)
        return grammar.expand("bare_name", random, {**facts, "core": core})
    core = _say(mentions, grammar, random, facts)
    return grammar.expand("one_liner", random, {**facts, "core": core})


def write_chat(
    mentions: Sequence[Mention], book: Phrasebook, random: Random, facts: Mapping[str, str], *, extra_turns: int
) -> str:
    """A conversation of a customer with a broker; the mentions are spread over the customer's turns."""
    grammar = book.chats
    turns: list[Turn] = []

    def add(speaker: int, rule: str, said: Sequence[Mention] = ()) -> None:
        core = {"core": _say(said, grammar, random, facts)} if said else {}
        text = grammar.expand(rule, random, {**facts, **core})
        # People do not repeat themselves word for word.
        while any(turn.text == text for turn in turns):
            text = grammar.expand(rule, random, {**facts, **core})
        turns.append(Turn(speaker, text))

    def add_topic(topic: str) -> None:
        if topic == "small":
            add(0, "small_talk")
            add(1, "small_reply")
        elif topic == "other":
            add(1, "ask_other")
            add(0, "deny")
        else:
            add(1, f"topic_{topic}_asked")
            add(0, f"topic_{topic}_answered")

    topics = ["when", "where", "now", "job", "cover", "budget", "small"]
    random.shuffle(topics)
    topics = [*(["other"] if "other" in facts else []), *topics][:extra_turns]
    random.shuffle(topics)
    groups = _split_over_turns(mentions, random)
    if random.random() < 0.4:
        add(0, "open_full", groups.pop(0))
    else:
        add(0, "open_empty")
        add(1, "probe_first")
        add(0, "answer", groups.pop(0))
    for group in groups:
        if topics and random.random() < 0.5:
            add_topic(topics.pop())
        add(1, "probe_more")
        add(0, "answer_more", group)
    for topic in topics:
        add_topic(topic)
    if random.random() < 0.6 and turns[-1].speaker == 0:
        add(1, "close_broker")
    if random.random() < 0.4 and turns[-1].speaker == 1:
        add(0, "close_client")
    return _lay_out(turns, random)


def _split_over_turns(mentions: Sequence[Mention], random: Random) -> list[Sequence[Mention]]:
    groups: list[Sequence[Mention]] = []
    start = 0
    while start < len(mentions):
        size = random.choice((1, 1, 2) if len(mentions) < 4 else (1, 2, 2, 3))
        groups.append(mentions[start : start + size])
        start += size
    return groups


def _lay_out(turns: Sequence[Turn], random: Random) -> str:
    speakers = random.choice(_SPEAKERS)
    separator = random.choice(("\n", "\n", "\n", " ", "  "))
    shows_speakers = random.random() < 0.88
    lines: list[str] = []
    for speaker, group in groupby(turns, key=lambda turn: turn.speaker):
        lines.append(
            (speakers[speaker] if shows_speakers else "") + _join_sentences([turn.text for turn in group], random)
        )
    return (separator if shows_speakers else "\n").join(lines)


def _join_sentences(sentences: Sequence[str], random: Random) -> str:
    joined = sentences[0]
    for sentence in sentences[1:]:
        joined += ("" if joined[-1] in "。？！?～" else random.choice("，。")) + sentence
    return joined


def write_report(
    mentions: Sequence[Mention], book: Phrasebook, random: Random, facts: Mapping[str, str], *, normals: int
) -> str:
    """An excerpt of a check-up report or hospital record, mostly with the customer's question behind it."""
    grammar = book.reports
    labels = {mention.label for mention in mentions}
    items: list[str] = []
    names = [mention for mention in mentions if mention.is_name]
    for mention in mentions:
        if mention.kind == "finding":
            items.append(mention.text)
        elif not mention.is_name:
            items.append(grammar.expand("report_history", random, {**facts, "n": mention.text}))
    fitting = [normal for normal in book.normals if not normal.unless & labels]
    for normal in random.sample(fitting, min(normals, len(fitting))):
        items.insert(random.randint(0, len(items)), fill_slots(normal.text, random))
    if "other" in facts:
        items.append(grammar.expand("report_other", random, facts))
    if names:
        joined = random.choice(("、", "；", "，")).join(mention.text for mention in names)
        items.append(grammar.expand("report_diagnosis", random, {**facts, "n": joined}))
    if random.random() < 0.3:
        items.append(fill_slots(grammar.expand("report_advice", random, facts), random))
    body = _number_items(items, random)
    head = grammar.expand("report_head", random, facts)
    if random.random() < 0.12:
        return head + body
    asked = grammar.expand("report_ask", random, facts)
    if random.random() < 0.2:
        return asked.rstrip("？") + random.choice(("：", "？\n", "。")) + head + body
    return head + body + random.choice(("。", "。", "\n", " ")) + asked


def _number_items(items: Sequence[str], random: Random) -> str:
    style = random.choice(("plain", "plain", "plain", "digits", "circled", "lines")) if len(items) > 1 else "plain"
    if style == "digits":
        end = random.choice(("；", " ", "\n"))
        return end.join(f"{number}.{item}" for number, item in enumerate(items, 1))
    if style == "circled" and len(items) <= len(_CIRCLED):
        return "".join(f"{_CIRCLED[position]}{item}" for position, item in enumerate(items))
    return ("\n" if style == "lines" else random.choice(("；", "；", "，", "。"))).join(items)
