"""All rows of the conformance suite, in the order of the reference page."""

from __future__ import annotations

from tests.conformance import analysis, control, jobs, reading, requests, wire
from tests.conformance.expectation import Expectation

EXPECTATIONS: tuple[Expectation, ...] = (
    *wire.EXPECTATIONS,
    *requests.EXPECTATIONS,
    *reading.EXPECTATIONS,
    *analysis.EXPECTATIONS,
    *jobs.EXPECTATIONS,
    *control.EXPECTATIONS,
)


def named(identity: str) -> Expectation:
    """Return the row with this id. Raises ``KeyError``."""
    return {expectation.id: expectation for expectation in EXPECTATIONS}[identity]
