"""A stand-in for a chat model: it writes questions out of the passage in the prompt, and grades them.

Its questions share words with their passage and no run of five letters: a search can find the passage, and the filter
of copied questions lets them through.
"""

import hashlib
import re

from embed_pipeline_tests.chat_server import ChatCall

_PIECE = 4
_WORDS = 7


def write_question(call: ChatCall) -> dict[str, object]:
    """The answer to a call: a grade for the judge's prompt, else one question about the passages."""
    if "answerable" in call.system:
        return {"reason": "it is there", "answerable": 0.9}
    # The passages stand in the user's message; which part of them is asked about depends on the style.
    chance = hashlib.sha256((call.system + call.user).encode()).digest()
    body = max(call.user.split("\n\n"), key=len)
    question = _chinese(body, chance) if re.search(r"[\u4e00-\u9fff]{20}", body) else _words(body, chance)
    return {"questions": [{"question": question, "answer": "…"}]}


def _chinese(text: str, chance: bytes) -> str:
    letters = "".join(re.findall(r"[\u4e00-\u9fff]+", text))
    pieces = [letters[at : at + _PIECE] for at in range(0, len(letters) - _PIECE, _PIECE + 1)]
    start = chance[0] % max(1, len(pieces) - 3)
    return "请问" + "和".join(pieces[start : start + 4]) + "怎么规定?"


def _words(text: str, chance: bytes) -> str:
    words = re.findall(r"[^\W\d_]{4,}", text)
    start = chance[0] % max(1, len(words) - 2 * _WORDS)
    return "what about " + ", ".join(words[start : start + 2 * _WORDS : 2]) + "?"
