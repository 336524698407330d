"""The entry of a safeguard in the table of ``safeguards.py``."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.mutation import Mutation


@dataclass(frozen=True)
class Safeguard:
    """One safeguard. ``otherwise`` is the harm to a user without it.

    ``invariants`` are those of docs/explanation/crash-safety.md, ``off`` describes ``edits`` in words, and ``tests``
    are pytest ids of which at least one must fail then: because ``otherwise`` happens in it, not because a call, an
    argument or a digest is different.
    """

    name: str
    title: str
    otherwise: str
    invariants: tuple[int, ...]
    off: str
    edits: tuple[Mutation, ...]
    tests: tuple[str, ...]
    limit_seconds: float = 40.0
    """The time in seconds after which a hanging test counts as red."""

    @property
    def needs_stack(self) -> bool:
        """Return whether its tests use the native stack."""
        return any(test.startswith(("tests/integration", "tests/e2e")) for test in self.tests)
