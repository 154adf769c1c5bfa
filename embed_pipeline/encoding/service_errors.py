"""What an answer that is an error means: its words, its status whatever status it came with, and no key in it.

Belongs here: reading errors as servers write them. Does not belong here: sending and repeating (service_client.py).
"""

import json
import re
from collections.abc import Mapping
from typing import Any

_HIDDEN = "***"
_SHARED_CHARACTERS = 8
"""A piece of the key this long is hidden too: services repeat keys in part."""
_STATUS_FIELDS = ("status", "status_code", "statusCode", "http_status", "code")
_MESSAGE_FIELDS = ("message", "detail", "error", "msg")
_BROKEN_OFF = ("error", "network_error", "insufficient_system_resource")
"""Reasons to finish that say the service failed under way; what was written until then is no answer."""
_STATUS_OF_WORDS = (
    (401, r"api.?key|unauthori|authenticat"),
    (429, r"rate.?limit|too many requests|quota"),
    (503, r"\bloading\b|overload|unavailable|\bbusy\b|try again|temporar|warming|starting up|time.?out|timed out"),
    (503, r"server_error|internal (server )?error|queue is full"),
    (404, r"not found|does not exist"),
)
"""What an error means that comes with status 200 and names no status of its own: the first that its words fit."""
OF_THE_ACCOUNT = re.compile(r"insufficient_quota|exceeded your current quota|billing", re.IGNORECASE)
OF_THE_TEXT = re.compile(
    r"unsupported value|\bNaN\b|too large to process|physical batch size|too long|context (length|size|window)"
    r"|less than \d+ tokens|maximum input length",
    re.IGNORECASE,
)
"""Errors that no repeat mends, whatever their status: of an account without money, and of one text."""


class ServiceError(ValueError):
    """The service gave no usable answer."""

    def __init__(self, message: str, *, charges: bool, code: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.charges = charges
        """Whether the service may charge for the request: it did not refuse it."""
        self.code = code
        """The service's own word for the reason; empty where it says none."""
        self.status = status
        """The status of its answer, or what the error in it comes to; 0 where there was none."""


def hide_key(text: str, key: str) -> str:
    """The text with *** for the key and for every piece of it of 8 characters or more."""
    if not key:
        return text
    size = min(_SHARED_CHARACTERS, len(key))
    pieces = {key[at : at + size] for at in range(len(key) - size + 1)}
    hidden = {at + step for at in range(len(text)) if text[at : at + size] in pieces for step in range(size)}
    return "".join(
        (_HIDDEN if at - 1 not in hidden else "") if at in hidden else character for at, character in enumerate(text)
    )


def parse_body(content: bytes) -> object:
    """The JSON in the content, else its text."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return content.decode(errors="replace")


def failure_in(body: object) -> Mapping[str, Any] | None:
    """The error that an answer of status 200 holds in place of what was asked for; None where there is none."""
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    if not isinstance(body, Mapping):
        return None
    first = next((body[name][0] for name in ("data", "choices") if isinstance(body.get(name), list) and body[name]), 0)
    if first:
        reason = first.get("finish_reason") if isinstance(first, Mapping) else None
        error = first.get("error") if isinstance(first, Mapping) else None
        if error:
            return error if isinstance(error, Mapping) else {"message": str(error), "code": 502}
        return {"message": f"finish_reason {reason}", "code": 502} if reason in _BROKEN_OFF else None
    error = body.get("error")
    if isinstance(error, Mapping) and error:
        return error
    if error or any(body.get(name) for name in _MESSAGE_FIELDS):
        return {**body, "message": words_of(error or body), "error": None}
    return None


def status_of(failure: Mapping[str, Any]) -> int:
    """The status that an error is to be treated as: its own, else what its words say, else 400."""
    for name in _STATUS_FIELDS:
        found = str(failure.get(name, ""))
        if re.fullmatch(r"[45]\d\d", found):
            return int(found)
    words = " ".join(str(failure.get(name) or "") for name in ("type", "error_type", "code", "message"))
    return next((status for status, said in _STATUS_OF_WORDS if re.search(said, words, re.IGNORECASE)), 400)


def words_of(body: object) -> str:
    """What the body of an error says, on one line; tags of a page are left out."""
    if isinstance(body, Mapping):
        return next((words_of(body[name]) for name in _MESSAGE_FIELDS if body.get(name)), "")
    if isinstance(body, list):
        return "; ".join(filter(None, map(words_of, body)))
    return " ".join(re.sub(r"<(style|script|head)\b.*?</\1>|<[^>]*>", " ", str(body), flags=re.DOTALL).split())
