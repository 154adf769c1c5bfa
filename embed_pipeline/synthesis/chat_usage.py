"""What calls of a chat model cost over all runs, and whether the next may be made.

Belongs here: the lines of the log, the budget that the threads of one process share. Does not belong here: the log
itself (encoding/usage.py), making calls (hosted_chat.py).
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field

from embed_pipeline.encoding.usage import AnsweredLine, CallRefusedError, SpendLog
from embed_pipeline.synthesis.chat import ChatSettings


class CallStoppedError(CallRefusedError):
    """The call was not made because no more are wanted."""

    def __init__(self) -> None:
        super().__init__("chat model: a call was not made, because the work had ended. Run it again.")


class AnsweredCall(AnsweredLine):
    """One call that the service answered."""

    bytes: int = Field(ge=0, description="UTF-8 bytes of the prompt, the schema included.")
    prompt_tokens: int = Field(ge=0, description="Tokens of the prompt that the service counted.")
    answer_tokens: int = Field(ge=0, description="Tokens of the answer that the service counted.")


class CallLog(SpendLog[AnsweredCall]):
    """The calls of one chat model."""

    kept_in = "call cache"
    ask_for_less = "write fewer questions"

    def __init__(self, path: Path) -> None:
        super().__init__(path, AnsweredCall)


class Reservation:
    """What is set aside for the next attempt of one call; made by CallBudget."""

    def __init__(self, budget: "CallBudget", most_usd: float, stop: threading.Event) -> None:
        self.name: str | None = None
        """As the log knows it; None where nothing is set aside."""
        self._budget = budget
        self._most_usd = most_usd
        self._stop = stop

    def renew(self) -> None:
        """Sets the amount aside once more; what was set aside stays so, as the service may charge for it.

        Raises:
            SpendLimitError, CallLimitError: a limit is in the way, and no call under way could make room.
            CallStoppedError: no more calls are wanted.
        """
        self.end()
        self.name = self._budget.reserve(self._most_usd, self._stop)

    def release(self) -> None:
        """The last attempt was refused or never sent, and costs nothing."""
        if self.name is not None:
            self._budget.log.release(self.name)

    def end(self) -> None:
        """The call is no longer under way."""
        if self.name is not None:
            self.name = None
            self._budget.end()


class CallBudget:
    """The limits of one model, for the calls that this process has under way."""

    def __init__(self, settings: ChatSettings, log: CallLog) -> None:
        self.settings = settings
        self.log = log
        self._under_way = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def call(self, most_usd: float, stop: threading.Event) -> Iterator[Reservation]:
        """A reservation for one call; what is neither settled nor released stays set aside. Raises as `renew`."""
        reservation = Reservation(self, most_usd, stop)
        reservation.renew()
        try:
            yield reservation
        finally:
            reservation.end()

    def reserve(self, most_usd: float, stop: threading.Event) -> str:
        """See Reservation.renew. At a limit it waits for the calls under way, which may cost less than was set aside.

        So many threads get as far as one. Who waits is served in turn, so that no later call takes what an earlier one
        waits for.
        """
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                while not stop.is_set():
                    if self._waiting[0] is turn:
                        try:
                            name = self.log.reserve(most_usd, self.settings.spend_limit_usd, self.settings.call_limit)
                        except CallRefusedError:
                            if not self._under_way:
                                raise
                        else:
                            self._under_way += 1
                            return name
                    self._changed.wait()
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()
        raise CallStoppedError

    def end(self) -> None:
        """A call is no longer under way."""
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()
