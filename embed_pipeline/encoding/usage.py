"""What was asked of a hosted model and what it cost, over all runs, and the limits that no run passes.

Belongs here: the log file, its sums, the limits on spend and calls. Does not belong here: sending requests
(service_client.py), prices (the settings). No text and no key is ever written here.

A request's highest possible cost is reserved before it is sent and replaced by its real cost afterwards. A reservation
whose process was killed, or whose request was never answered, stays: the service may charge for it.
"""

import json
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from embed_pipeline.encoding.encoder import Role


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    at: str = Field(default_factory=_now, description="When it was written, UTC, ISO 8601.")


class AnsweredLine(_Line):
    """What every answered request says."""

    event: Literal["answered"] = Field(default="answered", description="What the line says.")
    reservation: str | None = Field(
        default=None, description="The reservation it replaces; None where nothing was set aside."
    )
    seconds: float = Field(ge=0, description="From sending to the answer, without earlier attempts and waiting.")
    cost_usd: float = Field(ge=0, description="What the tokens cost.")


class AnsweredRequest(AnsweredLine):
    """One request that an encoder's service answered."""

    role: Role = Field(description="Queries or passages.")
    texts: int = Field(ge=1, description="Texts in the request.")
    bytes: int = Field(ge=0, description="UTF-8 bytes of the texts, without instructions.")
    tokens: int = Field(ge=0, description="Tokens that the service counted, instructions included.")


class _Reserved(_Line):
    event: Literal["reserved"] = Field(default="reserved", description="What the line says.")
    id: str = Field(description="A name for the reservation.")
    cost_usd: float = Field(ge=0, description="The most that the request can cost.")


class _Released(_Line):
    event: Literal["released"] = Field(default="released", description="What the line says.")
    reservation: str = Field(description="The reservation whose request was refused, hence costs nothing.")


Answered = TypeVar("Answered", bound=AnsweredLine)


class CallRefusedError(ValueError):
    """A request was not sent, by our own decision."""


class SpendLimitError(CallRefusedError):
    """The next request could lift what was spent above the limit; it was not sent."""


class CallLimitError(CallRefusedError):
    """The next request would be one more than the limit allows; it was not sent."""


class SpendLog(Generic[Answered]):
    """The requests to one model over all runs; safe for threads, several processes and a kill at any moment."""

    kept_in: ClassVar[str] = "cache"
    ask_for_less: ClassVar[str] = "ask for less"

    def __init__(self, path: Path, answered: type[Answered]) -> None:
        self.path = path
        self._answered = answered
        kinds: Any = answered | _Reserved | _Released
        self._lines: TypeAdapter[Any] = TypeAdapter(kinds)
        self._thread = threading.RLock()
        self._read_up_to = 0
        self._requests: list[Answered] = []
        # Exact, so that adding up line by line comes to what adding up at once does.
        self._spent = Fraction(0)
        self._reserved = Fraction(0)
        self._open: dict[str, Fraction] = {}

    @property
    def requests(self) -> tuple[Answered, ...]:
        """Every answered request of every run so far, oldest first; empty before the first."""
        with self._thread:
            self._refresh()
            return tuple(self._requests)

    @property
    def spent_usd(self) -> float:
        """What the answered requests cost."""
        with self._thread:
            self._refresh()
            return float(self._spent)

    @property
    def reserved_usd(self) -> float:
        """The most that requests without an answer can cost: those under way, and those that were cut off."""
        with self._thread:
            self._refresh()
            return float(self._reserved)

    @property
    def unanswered(self) -> int:
        """How many requests have no answer: those under way, and those that were cut off."""
        with self._thread:
            self._refresh()
            return len(self._open)

    def reserve(self, cost_usd: float, limit_usd: float | None, call_limit: int | None = None) -> str:
        """A name under which the cost is set aside until `settle` or `release`; no other process can use it.

        `call_limit` bounds the requests that were answered, are under way, or were cut off.

        Raises:
            SpendLimitError: with what is spent and set aside already, the cost would be above the limit.
            CallLimitError: it would be one request too many.
        """
        with self._lock():
            self._refresh()
            if limit_usd is not None and float(self._spent + self._reserved + Fraction(cost_usd)) > limit_usd:
                raise SpendLimitError(
                    f"{self.path}: expected to stay within spend_limit_usd {limit_usd:g}; "
                    f"{float(self._spent):.6g} is spent, {float(self._reserved):.6g} set aside for requests without an "
                    f"answer, and the next request could cost {cost_usd:.6g}. It was not sent; every answer so far is "
                    f"in the {self.kept_in}. Raise spend_limit_usd and run again, or {self.ask_for_less}."
                )
            if call_limit is not None and len(self._requests) + len(self._open) >= call_limit:
                raise CallLimitError(
                    f"{self.path}: expected to stay within call_limit {call_limit}; {len(self._requests)} calls are "
                    f"answered and {len(self._open)} without an answer. The next was not sent; every answer so far is "
                    f"in the {self.kept_in}. Raise call_limit and run again, or {self.ask_for_less}."
                )
            line = _Reserved(id=uuid.uuid4().hex, cost_usd=cost_usd)
            self._append(line)
            return line.id

    def settle(self, request: Answered) -> None:
        """Writes an answered request before it returns; its reservation counts no longer."""
        with self._lock():
            self._append(request)

    def release(self, reservation: str) -> None:
        """Gives back what was set aside for a request that the service refused."""
        with self._lock():
            self._append(_Released(reservation=reservation))

    @contextmanager
    def _lock(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # The threads of one process wait for each other at once; the lock of the file is looked at now and then.
        with self._thread, FileLock(self.path.with_name(self.path.name + ".lock")):
            yield

    def _append(self, line: _Line) -> None:
        with self.path.open("a+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 1, 0))
            # What a killed process left half-written must not swallow this line.
            torn = size > 0 and file.read(1) != b"\n"
            file.write(b"\n" * torn + line.model_dump_json().encode() + b"\n")

    def _refresh(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._read_up_to)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        for line in whole.splitlines():
            self._take(line)
        self._read_up_to += len(whole)

    def _take(self, content: bytes) -> None:
        try:
            line = self._lines.validate_json(content)
        except ValidationError as error:
            if error.errors()[0]["type"] == "json_invalid":
                return  # torn by a kill: a reservation that was not used, or an answer whose reservation stays
            raise ValueError(
                f"{self.path}: a line that this version does not know: {content[:80]!r}. Move the file away; what "
                "was spent is then counted from 0."
            ) from error
        if isinstance(line, _Reserved):
            self._open[line.id] = Fraction(line.cost_usd)
            self._reserved += self._open[line.id]
            return
        self._reserved -= self._open.pop(line.reservation or "", Fraction(0))
        if isinstance(line, self._answered):
            self._requests.append(line)
            self._spent += Fraction(line.cost_usd)


class UsageLog(SpendLog[AnsweredRequest]):
    """The requests of one encoder."""

    kept_in = "vector cache"
    ask_for_less = "encode fewer texts"

    def __init__(self, path: Path) -> None:
        super().__init__(path, AnsweredRequest)


COST_DETAIL = "cost_usd"
"""The name of what a build paid, among the details of its manifest."""


def spent_usd(*folders: Path) -> float:
    """What the answered requests in the usage logs of the folders cost; 0.0 where there is none.

    Raises:
        ValueError: a line of a log is no JSON.
    """
    lines = (line for folder in folders for log in sorted(folder.glob("*.jsonl")) for line in _lines(log))
    answered = (entry for entry in lines if entry.get("event") == "answered")
    return sum(float(entry.get("cost_usd", 0.0)) for entry in answered)


def _lines(log: Path) -> list[dict]:
    # A line that is being written has no end yet; the request it tells of counts in the next build.
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines(keepends=True) if line[-1] == "\n"]
