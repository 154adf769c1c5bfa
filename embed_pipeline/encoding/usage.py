"""What was asked of a hosted encoder and what it cost, over all runs, and the limit that no run passes.

Belongs here: the log file, its sums, the spend limit. Does not belong here: sending requests (hosted_client.py), prices
(hosted_settings.py). No text and no key is ever written here.

A request's highest possible cost is reserved before it is sent and replaced by its real cost afterwards. A reservation
whose process was killed, or whose request was never answered, stays: the service may charge for it.
"""

import math
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from embed_pipeline.encoding.encoder import Role


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    at: str = Field(default_factory=_now, description="When it was written, UTC, ISO 8601.")


class AnsweredRequest(_Line):
    """One request that the service answered."""

    event: Literal["answered"] = Field(default="answered", description="What the line says.")
    reservation: str | None = Field(
        default=None, description="The reservation it replaces; None where nothing is charged."
    )
    role: Role = Field(description="Queries or passages.")
    texts: int = Field(ge=1, description="Texts in the request.")
    bytes: int = Field(ge=0, description="UTF-8 bytes of the texts, without instructions.")
    tokens: int = Field(ge=0, description="Tokens that the service counted, instructions included.")
    seconds: float = Field(ge=0, description="From sending to the answer, without earlier attempts and waiting.")
    cost_usd: float = Field(ge=0, description="What the tokens cost.")


class _Reserved(_Line):
    event: Literal["reserved"] = Field(default="reserved", description="What the line says.")
    id: str = Field(description="A name for the reservation.")
    cost_usd: float = Field(ge=0, description="The most that the request can cost.")


class _Released(_Line):
    event: Literal["released"] = Field(default="released", description="What the line says.")
    reservation: str = Field(description="The reservation whose request was refused, hence costs nothing.")


_LINES = TypeAdapter(Annotated[AnsweredRequest | _Reserved | _Released, Field(discriminator="event")])


class SpendLimitError(ValueError):
    """The next request could lift what was spent above the limit; it was not sent."""


class UsageLog:
    """The requests of one encoder over all runs; safe for several processes and a kill at any moment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_up_to = 0
        self._requests: list[AnsweredRequest] = []
        self._open: dict[str, float] = {}

    @property
    def requests(self) -> tuple[AnsweredRequest, ...]:
        """Every answered request of every run so far, oldest first; empty before the first."""
        self._refresh()
        return tuple(self._requests)

    @property
    def spent_usd(self) -> float:
        """What the answered requests cost."""
        return math.fsum(request.cost_usd for request in self.requests)

    @property
    def reserved_usd(self) -> float:
        """The most that requests without an answer can cost: those under way, and those that were cut off."""
        self._refresh()
        return math.fsum(self._open.values())

    def reserve(self, cost_usd: float, limit_usd: float | None) -> str:
        """A name under which the cost is set aside until `settle` or `release`; no other process can use it.

        Raises:
            SpendLimitError: with what is spent and set aside already, the cost would be above the limit.
        """
        with self._lock():
            self._refresh()
            counted = [*(request.cost_usd for request in self._requests), *self._open.values()]
            if limit_usd is not None and math.fsum([*counted, cost_usd]) > limit_usd:
                raise SpendLimitError(
                    f"{self.path}: expected to stay within spend_limit_usd {limit_usd:g}; "
                    f"{self.spent_usd:.6g} is spent, {self.reserved_usd:.6g} set aside for requests without an answer, "
                    f"and the next request could cost {cost_usd:.6g}. It was not sent; every answer so far is in the "
                    "vector cache. Raise spend_limit_usd and run again, or encode fewer texts."
                )
            line = _Reserved(id=uuid.uuid4().hex, cost_usd=cost_usd)
            self._append(line)
            return line.id

    def settle(self, request: AnsweredRequest) -> None:
        """Writes an answered request before it returns; its reservation counts no longer."""
        with self._lock():
            self._append(request)

    def release(self, reservation: str) -> None:
        """Gives back what was set aside for a request that the service refused."""
        with self._lock():
            self._append(_Released(reservation=reservation))

    def _lock(self) -> FileLock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path.with_name(self.path.name + ".lock"))

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
            line = _LINES.validate_json(content)
        except ValidationError as error:
            if error.errors()[0]["type"] == "json_invalid":
                return  # torn by a kill: a reservation that was not used, or an answer whose reservation stays
            raise ValueError(
                f"{self.path}: a line that this version does not know: {content[:80]!r}. Move the file away; what "
                "was spent is then counted from 0."
            ) from error
        if isinstance(line, _Reserved):
            self._open[line.id] = line.cost_usd
            return
        self._open.pop(line.reservation or "", None)
        if isinstance(line, AnsweredRequest):
            self._requests.append(line)
