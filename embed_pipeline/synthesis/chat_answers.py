"""What an answer of a chat model is worth: the JSON object that fits the schema, or why there is none.

Belongs here: finding the object in the text, the part of JSON Schema that requests may use. Does not belong here: what
an object means (the questions), where answers come from (hosted_chat.py).
"""

import json
import math
from collections.abc import Iterator, Mapping
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


def content_of(answer: StoredAnswer, request: ChatRequest) -> Mapping[str, Any] | str:
    """The object in the answer, or the problem in a few words where there is no usable one."""
    if answer.refusal:
        return f"refused: {_shown(answer.refusal)}"
    if answer.finish_reason == "content_filter":
        return "stopped by the service's content filter"
    if answer.finish_reason == "length":
        return f"cut off after {answer.answer_tokens} tokens; raise max_answer_tokens"
    if not answer.text or not answer.text.strip():
        return "no text in the answer"
    found = _object_in(answer.text)
    if found is None:
        return f"no JSON object: {_shown(answer.text)}"
    problem = next(_problems(found, request.schema, "answer"), "")
    return problem or found


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


def _object_in(text: str) -> dict[str, Any] | None:
    """The object between the first and the last brace; models write fences, greetings and thoughts around it."""
    text = text.rpartition("</think>")[2]
    try:
        found = json.loads(text[text.find("{") : text.rfind("}") + 1], parse_constant=_no_json)
        json.dumps(found, ensure_ascii=False).encode()  # fails at halves of characters, which no file takes
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _no_json(word: str) -> object:
    raise ValueError(f"{word} is no JSON")


def _problems(found: object, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is_of_type(found, kind) for kind in kinds):
        yield f"{where}: expected {' or '.join(kinds)}, found {_shown(json.dumps(found, ensure_ascii=False))}"
        return
    if "enum" in schema and found not in schema["enum"]:
        yield f"{where}: expected one of {schema['enum']}, found {_shown(json.dumps(found, ensure_ascii=False))}"
    if isinstance(found, dict):
        yield from _problems_of_object(found, schema, where)
    elif isinstance(found, list):
        yield from _out_of_bounds(len(found), schema, "minItems", "maxItems", f"{where}: number of items")
        for number, item in enumerate(found):
            yield from _problems(item, schema.get("items", {}), f"{where}[{number}]")
    elif isinstance(found, str):
        yield from _out_of_bounds(len(found), schema, "minLength", "maxLength", f"{where}: length")
    elif isinstance(found, int | float) and not isinstance(found, bool):
        yield from _out_of_bounds(found, schema, "minimum", "maximum", where)


def _problems_of_object(found: dict[str, Any], schema: Mapping[str, Any], where: str) -> Iterator[str]:
    properties = schema.get("properties", {})
    for name in schema.get("required", []):
        if name not in found:
            yield f"{where}: expected {name}, found none"
    for name, value in found.items():
        if name in properties:
            yield from _problems(value, properties[name], f"{where}.{name}")
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
