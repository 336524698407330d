"""What a safeguard is, as the table in ``safeguards.py`` says it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.crash.mutants import Mutation


@dataclass(frozen=True)
class Safeguard:
    """One safeguard. ``otherwise`` is what a user would meet without it.

    ``invariants`` are those of docs/explanation/crash-safety.md, ``off`` says in words what ``edits`` do, and
    ``tests`` are the pytest ids of which at least one must fail then: because what ``otherwise`` says happens in it,
    not because a call, an argument or a digest is another one.
    """

    name: str
    title: str
    otherwise: str
    invariants: tuple[int, ...]
    off: str
    edits: tuple[Mutation, ...]
    tests: tuple[str, ...]
    limit_seconds: float = 40.0
    """After which a test that hangs counts as red."""

    @property
    def needs_stack(self) -> bool:
        """Tell whether its tests use the native stack."""
        return any(test.startswith(("tests/integration", "tests/e2e")) for test in self.tests)
