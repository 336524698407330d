"""A finding of ``photo-worker doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class DoctorFinding:
    """The result of one check. ``hint`` says what to do, and is None if ``state`` is ok."""

    check: str
    state: State
    what: str
    hint: str | None = None
