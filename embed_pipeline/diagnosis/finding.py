"""One line of the diagnosis.

Belongs here: what a finding is. Does not belong here: finding anything, printing it.
"""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """What was found about a subject. A problem: something that the project's variants need is missing."""

    subject: str
    state: State
    found: str
    remedy: str = ""
