"""What ``photo-worker doctor`` says of one thing that it looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Diagnosis:
    """One thing that was looked at. ``hint`` says what to do, and is None where all is well."""

    check: str
    state: State
    what: str
    hint: str | None = None
