"""The allow list: intended drift, and exits that a workflow cannot have, each with a reason.

An entry that matches nothing is red as well: left alone, it would let the next change pass unseen.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from photo_worker.errors import AllowListInvalid
from photo_worker.replay.findings import Finding

_FIELDS = {
    "drift": ("workflow", "where", "what", "reason"),
    "coverage": ("workflow", "exit", "reason"),
}


@dataclass(frozen=True)
class Entry:
    """One allowed thing. ``where`` and ``what`` are those of a drift finding; ``exit`` names missing coverage."""

    table: str
    workflow: str
    reason: str
    where: str = ""
    what: str = ""
    exit: str = ""

    def matches(self, finding: Finding) -> bool:
        """Tell whether this entry speaks of ``finding``."""
        if finding.workflow_type != self.workflow or finding.kind != self.table:
            return False
        return finding.where == (f"{self.where} {self.what}" if self.table == "drift" else self.exit)


def read(path: Path) -> list[Entry]:
    """Read an allow list. Raises ``AllowListInvalid``, with the entry at fault."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AllowListInvalid(path=str(path), reason=str(error)) from error
    entries = []
    if unknown := sorted(document.keys() - _FIELDS.keys()):
        raise AllowListInvalid(path=str(path), reason=f"it knows no table {unknown[0]!r}")
    for table, fields in _FIELDS.items():
        rows = document.get(table, [])
        if not isinstance(rows, list):
            raise AllowListInvalid(path=str(path), reason=f"{table} is not a list of tables: write [[{table}]]")
        for number, row in enumerate(rows, start=1):
            if not isinstance(row, dict) or row.keys() != set(fields):
                raise AllowListInvalid(path=str(path), reason=f"[[{table}]] {number} needs exactly {', '.join(fields)}")
            if not all(isinstance(value, str) and value.strip() for value in row.values()):
                raise AllowListInvalid(path=str(path), reason=f"[[{table}]] {number} has an empty or non-text value")
            entries.append(Entry(table=table, **row))
    return entries


def apply(entries: Sequence[Entry], findings: Sequence[Finding], path: Path) -> tuple[list[Finding], list[Finding]]:
    """Split findings into those that stay red, stale entries among them, and those that are allowed."""
    red: list[Finding] = []
    allowed: list[Finding] = []
    used: set[int] = set()
    for finding in findings:
        matching = [index for index, entry in enumerate(entries) if entry.matches(finding)]
        used.update(matching)
        (allowed if matching else red).append(finding)
    for index, entry in enumerate(entries):
        if index not in used:
            about = f"{entry.where} {entry.what}" if entry.table == "drift" else f"exit {entry.exit}"
            red.append(
                Finding(
                    "gate",
                    "allow_entry_stale",
                    f"The allow list's [[{entry.table}]] for {entry.workflow} ({about}) matches nothing.",
                    "the next change in this place would pass unseen under an old reason",
                    "Delete the entry, or correct its names.",
                    file=str(path),
                    workflow_type=entry.workflow,
                )
            )
    return red, allowed
