"""What an answer of a chat model is worth: the JSON object that fits the schema, or why there is none.

Belongs here: finding the object in the text, the part of JSON Schema that requests may use. Does not belong here: what
an object means (the questions), where answers come from (hosted_chat.py).
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embed_pipeline.paths import shorten
from embed_pipeline.synthesis.call_cache import StoredAnswer
from embed_pipeline.synthesis.chat import ChatRequest

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}
_CHECKED = {"type", "enum", "properties", "required", "additionalProperties", "items", "minItems", "maxItems"}
_CHECKED |= {"minLength", "maxLength", "minimum", "maximum"}
_SAID_ONLY = {"title", "description", "examples", "default", "$schema"}
_SHOWN_CHARACTERS = 80
_FILTERED = ("content_filter", "sensitive")
_CUT_OFF = ("length", "model_context_window_exceeded")
_NO_ROOM_TOKENS = 4
"""An answer cut off after so few tokens had no room: the prompt fills the model's context."""
_MOST_TRIES = 5000
_OPENING = re.compile(r"[{\[]")
_STRING = re.compile(r'("(?:[^"\\]|\\.)*")', re.DOTALL)
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
_LINE_COMMENT = re.compile(r"//[^\n]*")
_WIDE = str.maketrans("“”„＂｛｝［］：，", '""""{}[]:,')
_THOUGHTS = re.compile(r"<(think|thinking|reasoning)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_END_OF_THOUGHTS = re.compile(
    r"</(?:think|thinking|reasoning)>|<\|channel\|>\s*final\b[^{\[]*?<\|message\|>|assistantfinal", re.IGNORECASE
)


def content_of(answer: StoredAnswer, request: ChatRequest) -> Mapping[str, Any] | str:
    """The object in the answer, or the problem in a few words where there is no usable one.

    It is the last one that fits the schema, whatever stands around it. The items of its lists are not looked at: each
    is judged alone, by `problem_of`.
    """
    if answer.refusal:
        return f"refused: {_shown(answer.refusal)}"
    if answer.finish_reason in _FILTERED:
        return "stopped by the service's content filter"
    text = (answer.text or "").strip()
    if answer.finish_reason in _CUT_OFF:
        if answer.answer_tokens <= _NO_ROOM_TOKENS:
            return f"cut off after {answer.answer_tokens} tokens: the prompt fills the model's context; raise it there"
        if len("".join(text.split())) * 10 < len(answer.text or ""):
            return f"{answer.answer_tokens} tokens of white space; set structured: prompt, or use another model"
        return f"cut off after {answer.answer_tokens} tokens; raise max_answer_tokens"
    if not text:
        return "no text in the answer"
    return _find(text, request.schema)


def problem_of(found: object, schema: Mapping[str, Any], where: str) -> str:
    """What of the value does not fit the schema, items of lists included; empty where all does."""
    return next(_problems(found, schema, where, items=True), "")


def check_schema(schema: Mapping[str, Any], where: str) -> None:
    """Returns where every keyword is one that answers are checked for.

    Raises:
        ValueError: a keyword or type that would go unchecked.
    """
    unknown = sorted(set(schema) - _CHECKED - _SAID_ONLY)
    kinds = schema.get("type", [])
    unknown += sorted(set([kinds] if isinstance(kinds, str) else kinds) - set(_TYPES))
    if isinstance(schema.get("additionalProperties", False), Mapping):
        unknown.append("additionalProperties with a schema")
    if unknown:
        raise ValueError(
            f"{where}: expected a JSON schema of {', '.join(sorted(_CHECKED))}, found {', '.join(unknown)}. Write it "
            "with those."
        )
    for name, part in schema.get("properties", {}).items():
        check_schema(part, f"{where}.{name}")
    if "items" in schema:
        check_schema(schema["items"], f"{where}[]")


def is_strict(schema: Mapping[str, Any]) -> bool:
    """Whether services can be held to the schema to the letter: every object closed, every property required."""
    properties = schema.get("properties", {})
    parts = [*properties.values(), *([schema["items"]] if "items" in schema else [])]
    closed = schema.get("additionalProperties") is False and set(schema.get("required", [])) == set(properties)
    return (closed or schema.get("type") != "object") and all(is_strict(part) for part in parts)


@dataclass(frozen=True, slots=True)
class _Values:
    """The JSON objects and lists of a text, one after the other, and where the one broke that got furthest."""

    found: Sequence[object]
    broken_at: int | None
    problem: str


def _find(text: str, schema: Mapping[str, Any]) -> Mapping[str, Any] | str:
    try:
        inner = json.loads(text)
    except (ValueError, RecursionError):
        inner = None
    if isinstance(inner, str) and inner != text:  # JSON in a JSON string
        return _find(inner, schema)
    problem = ""
    for part in _without_thoughts(text):
        for form in (part, _mend(part)):
            values = _values_in(form)
            fitting = _fitting(values, schema)
            if fitting is not None:
                return fitting
            problem = problem or _describe(values, form, schema)
    return problem or f"no JSON object: {_shown(text)}"


def _without_thoughts(text: str) -> Iterator[str]:
    """The text behind the end of the thoughts, the text without them, the text with thoughts that do not end."""
    ends = list(_END_OF_THOUGHTS.finditer(text))
    if ends:
        yield text[ends[-1].end() :]
    without = _THOUGHTS.sub("", text)
    if without != text:
        yield without
    if not _THOUGHTS.match(text):
        yield text


def _values_in(text: str) -> _Values:
    """What each opening brace or bracket opens, but for those inside a value that was read."""
    found: list[object] = []
    broken, problem, at = None, "", 0
    for _ in range(_MOST_TRIES):
        opening = _OPENING.search(text, at)
        if opening is None:
            break
        try:
            value, at = _DECODER.raw_decode(text, opening.start())
            json.dumps(value, ensure_ascii=False).encode()  # fails at halves of characters, which no file takes
        except RecursionError:
            return _Values(found, opening.start(), "brackets that are too deep")
        except ValueError as error:
            place = error.pos if isinstance(error, json.JSONDecodeError) else opening.start()
            if broken is None or place > broken:
                broken, problem = place, str(error).partition(": line ")[0].removesuffix(" starting at")
            if place >= len(text.rstrip()):
                break  # cut off: what is whole inside of it is not the answer
            at = opening.start() + 1
        else:
            found.append(value)
    return _Values(found, broken, problem)


def _fitting(values: _Values, schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The last object that fits; else the last list, or all the objects, that should stand in it under one name."""
    name = _list_name(schema)
    for value in reversed(values.found):
        if isinstance(value, dict):
            named = _with_names(value, schema)
            if not any(_problems(named, schema, "", items=False)):
                return named
        if name and isinstance(value, list) and value and all(_is_item(item, schema, name) for item in value):
            return {name: [_with_names(item, schema["properties"][name]["items"]) for item in value]}
    if name and values.found and values.broken_at is None and all(_is_item(one, schema, name) for one in values.found):
        return {name: [_with_names(one, schema["properties"][name]["items"]) for one in values.found]}
    return None


def _list_name(schema: Mapping[str, Any]) -> str | None:
    """The only property of a schema, where it is a list of objects."""
    properties = schema.get("properties", {})
    name = next(iter(properties)) if list(properties) == schema.get("required") and len(properties) == 1 else None
    return name if name and properties[name].get("items", {}).get("type") == "object" else None


def _is_item(value: object, schema: Mapping[str, Any], name: str) -> bool:
    item = schema["properties"][name]["items"]
    return isinstance(value, dict) and set(item.get("required", ())) <= set(_with_names(value, item))


def _with_names(found: Any, schema: Mapping[str, Any]) -> Any:
    """The value with names as the schema spells them, without those that it does not have, numbers as numbers."""
    if isinstance(found, list):
        return [_with_names(item, schema.get("items", {})) for item in found]
    if schema.get("type") == "number" and isinstance(found, str) and re.fullmatch(r"\s*\d+(\.\d+)?\s*", found):
        return float(found)
    if not isinstance(found, dict) or "properties" not in schema:
        return found
    names = {name.casefold(): name for name in schema["properties"]}
    named = {names.get(name.strip().casefold(), name): value for name, value in found.items()}
    parts, closed = schema["properties"], schema.get("additionalProperties") is False
    return {n: _with_names(value, parts.get(n, {})) for n, value in named.items() if n in parts or not closed}


def _mend(text: str) -> str:
    """The text with the punctuation of JSON where it is full-width, without commas before a bracket and comments."""
    text = text.replace("\0", "")
    if '"' not in text:
        text = text.translate(_WIDE)
    parts = _STRING.split(text)
    parts[::2] = [_LINE_COMMENT.sub("", part).translate(_WIDE) for part in parts[::2]]
    marked = "".join(parts[at] if at % 2 == 0 else f"\0{at}\0" for at in range(len(parts)))
    while (shorter := _TRAILING_COMMA.sub(r"\1", marked)) != marked:
        marked = shorter
    return re.sub(r"\0(\d+)\0", lambda found: parts[int(found[1])], marked)


def _describe(values: _Values, text: str, schema: Mapping[str, Any]) -> str:
    """Why nothing of it is an answer; empty where there is nothing."""
    last = next((value for value in reversed(values.found) if isinstance(value, dict)), None)
    named = _with_names(last, schema) if last is not None else {}
    if values.broken_at is None or set(named) & set(schema.get("properties", {})):
        return next(_problems(named, schema, "answer", items=False), "") if last is not None else ""
    near = text[max(values.broken_at - _SHOWN_CHARACTERS // 2, 0) : values.broken_at + _SHOWN_CHARACTERS // 2]
    return f"no JSON object: {values.problem} at character {values.broken_at + 1}, near {_shown(near)}"


def _no_json(word: str) -> object:
    raise ValueError(f"{word} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_json, strict=False)


def _problems(found: object, schema: Mapping[str, Any], where: str, *, items: bool) -> Iterator[str]:
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is_of_type(found, kind) for kind in kinds):
        yield f"{where}: expected {' or '.join(kinds)}, found {_shown(json.dumps(found, ensure_ascii=False))}"
        return
    if "enum" in schema and found not in schema["enum"]:
        yield f"{where}: expected one of {schema['enum']}, found {_shown(json.dumps(found, ensure_ascii=False))}"
    if isinstance(found, dict):
        yield from _problems_of_object(found, schema, where, items=items)
    elif isinstance(found, list):
        yield from _out_of_bounds(len(found), schema, "minItems", "maxItems", f"{where}: number of items")
        for number, item in enumerate(found if items else ()):
            yield from _problems(item, schema.get("items", {}), f"{where}[{number}]", items=items)
    elif isinstance(found, str):
        yield from _out_of_bounds(len(found), schema, "minLength", "maxLength", f"{where}: length")
    elif isinstance(found, int | float) and not isinstance(found, bool):
        yield from _out_of_bounds(found, schema, "minimum", "maximum", where)


def _problems_of_object(found: dict[str, Any], schema: Mapping[str, Any], where: str, *, items: bool) -> Iterator[str]:
    properties = schema.get("properties", {})
    for name in schema.get("required", []):
        if name not in found:
            yield f"{where}: expected {name}, found none"
    for name, value in found.items():
        if name in properties:
            yield from _problems(value, properties[name], f"{where}.{name}", items=items)
        elif schema.get("additionalProperties") is False:
            yield f"{where}: expected only {', '.join(properties)}, found {_shown(name)}"


def _out_of_bounds(value: float, schema: Mapping[str, Any], least: str, most: str, where: str) -> Iterator[str]:
    if value < schema.get(least, -math.inf) or value > schema.get(most, math.inf):
        yield f"{where}: expected {schema.get(least, 'any')} to {schema.get(most, 'any')}, found {value}"


def _is_of_type(found: object, kind: str) -> bool:
    if isinstance(found, bool):
        return kind == "boolean"
    if kind == "number" and isinstance(found, float):
        return math.isfinite(found)  # 1e999 is read as infinity
    return isinstance(found, _TYPES[kind]) or (kind == "integer" and isinstance(found, float) and found.is_integer())


def _shown(text: str) -> str:
    return shorten(" ".join(text.encode(errors="replace").decode().split()), _SHOWN_CHARACTERS)
