"""Findings of the gate: one class for broken files, divergences, drift and missing coverage."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from temporal_replay_gate.defaults import COMMAND

Kind = Literal["preflight", "replay", "drift", "coverage", "control", "static", "gate", "additive", "note"]


@dataclass(frozen=True)
class Finding:
    """One reason for the gate to be red, or a remark that is not red (kinds ``additive`` and ``note``).

    ``code`` is stable. ``event_id`` and ``event_type`` name the recorded event; ``source`` is
    ``FILE:LINE`` of the workflow code that issued the differing command, if known. ``what``,
    ``why`` and ``fix`` are sentences for users. ``was`` and ``now`` are the differing values of a drift, as JSON text.
    """

    kind: Kind
    code: str
    what: str
    why: str
    fix: str
    file: str | None = None
    workflow_type: str | None = None
    workflow_id: str | None = None
    run_id: str | None = None
    event_id: int | None = None
    event_type: str | None = None
    source: str | None = None
    recorded: Any = None
    issued: Any = None
    where: str | None = None
    was: str | None = None
    now: str | None = None

    @property
    def red(self) -> bool:
        """Whether this finding makes the gate red."""
        return self.kind not in {"additive", "note"}

    def about(self, **facts: Any) -> Finding:
        """Return a copy of this finding with the given fields replaced."""
        return replace(self, **facts)

    def for_command(self, command: str) -> Finding:
        """Return this finding with ``command`` in its ``fix`` in place of the name ``replay-gate``.

        An entry for the allow list, which follows the sentences, is kept as it is.
        """
        advice, begins, entry = self.fix.partition("\n\n")
        fix = advice.replace(f"{COMMAND} ", f"{command} ") + begins + entry
        return self if command == COMMAND else replace(self, fix=fix)

    def as_dict(self) -> dict[str, Any]:
        """Return every field; those that do not apply are None."""
        return asdict(self)
