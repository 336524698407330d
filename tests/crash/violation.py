"""The violation of an invariant, as reported by the simulated and the real layers."""

from __future__ import annotations

from dataclasses import dataclass

from photo_worker import pipelines

POLICIES = pipelines.steps()


@dataclass(frozen=True)
class Violation:
    """An invariant that does not hold, with a description of the place."""

    invariant: int
    text: str

    def __str__(self) -> str:
        return f"invariant {self.invariant}: {self.text}"
