"""The allow list: intended drift, and exits that a workflow cannot have, each with a reason.

A drift entry names the change by its old and its new value, so that it excuses no later change of the
same field. An entry that matches no finding is red, too.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from temporal_replay_gate.errors import AllowListInvalid
from temporal_replay_gate.files import read_regular
from temporal_replay_gate.findings import Finding
from temporal_replay_gate.printable import cut

_FIELDS = {
    "drift": ("workflow", "where", "what", "was", "now", "reason"),
    "coverage": ("workflow", "exit", "reason"),
}


_LIMIT_BYTES = 4 * 1024 * 1024

# How deep a value of a command's field may be nested. Whether a deeper one can be serialised again depends on the
# depth of the caller's stack.
_DEEPEST = 100


@dataclass(frozen=True)
class AllowListEntry:
    """One entry of the allow list.

    ``where``, ``what``, ``was`` and ``now`` are those of a drift finding, the last two as JSON text;
    ``exit`` names the coverage that may be missing.
    """

    table: str
    workflow: str
    reason: str
    where: str = ""
    what: str = ""
    was: str = ""
    now: str = ""
    exit: str = ""

    def matches(self, finding: Finding) -> bool:
        """Tell whether this entry excuses ``finding``."""
        if finding.workflow_type != self.workflow or finding.kind != self.table:
            return False
        if self.table != "drift":
            return finding.where == self.exit
        change = (_plain(finding.was), _plain(finding.now))
        return finding.where == f"{self.where} {self.what}" and change == (_plain(self.was), _plain(self.now))


def _plain(text: str | None) -> str:
    """Return normalised JSON text: 120 and 120.0 are the same number of seconds."""
    whole = json.loads(
        text or "null", parse_float=lambda digits: int(number) if (number := float(digits)).is_integer() else number
    )
    return json.dumps(whole, sort_keys=True)


def as_toml(table: str, **values: str) -> str:
    """Return an entry of the allow list as TOML, with a reason that is still to be written."""
    rows = {**values, "reason": "why"}
    return "\n".join([f"[[{table}]]", *(f"{name} = {_basic_string(value)}" for name, value in rows.items())])


# What a basic string of TOML cannot hold as it is, and what a terminal would not show as it is.
_TO_ESCAPE = re.compile(r"""["\\]|[^ -~]""")


def _basic_string(text: str) -> str:
    return f'"{_TO_ESCAPE.sub(_escaped, text)}"'


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08x}"


def read(path: Path) -> list[AllowListEntry]:
    """Read an allow list. Raises ``AllowListInvalid``, which names the invalid entry."""
    try:
        document = tomllib.loads(read_regular(path, _LIMIT_BYTES).decode("utf-8"))
    except OSError as error:
        raise AllowListInvalid(path=str(path), reason=error.strerror or str(error)) from error
    except ValueError as error:
        raise AllowListInvalid(path=str(path), reason=str(error)) from error
    except RecursionError as error:
        raise AllowListInvalid(path=str(path), reason="it is nested too deeply") from error
    entries = []
    if unknown := sorted(document.keys() - _FIELDS.keys()):
        raise AllowListInvalid(path=str(path), reason=f"it knows no table {unknown[0]!r}")
    for table, fields in _FIELDS.items():
        rows = document.get(table, [])
        if not isinstance(rows, list):
            raise AllowListInvalid(path=str(path), reason=f"{table} is not a list of tables: write [[{table}]]")
        for number, row in enumerate(rows, start=1):
            if table == "drift" and isinstance(row, dict) and (lacking := sorted({"was", "now"} - row.keys())):
                reason = (
                    f"[[drift]] {number} lacks {' and '.join(lacking)}: without the old and the new value it would "
                    "excuse every later change of its field"
                )
                raise AllowListInvalid(path=str(path), reason=reason)
            if not isinstance(row, dict) or row.keys() != set(fields):
                raise AllowListInvalid(path=str(path), reason=f"[[{table}]] {number} needs exactly {', '.join(fields)}")
            if not all(isinstance(value, str) and value.strip() for value in row.values()):
                raise AllowListInvalid(path=str(path), reason=f"[[{table}]] {number} has an empty or non-text value")
            for name in ("was", "now") if table == "drift" else ():
                _check_json(path, f"{name} of [[drift]] {number}", row[name])
            entries.append(AllowListEntry(table=table, **row))
    return entries


def _check_json(path: Path, what: str, text: str) -> None:
    deep = f"{what} is nested more than {_DEEPEST} deep"
    try:
        levels = _levels(json.loads(text))
    except RecursionError as error:
        raise AllowListInvalid(path=str(path), reason=deep) from error
    except ValueError as error:
        raise AllowListInvalid(path=str(path), reason=f"{what} is not JSON: {cut(text)!r} ({error})") from error
    if levels > _DEEPEST:
        raise AllowListInvalid(path=str(path), reason=deep)


def _levels(value: Any) -> int:
    """Return how deep lists and objects are nested in a JSON value."""
    levels, inside = 0, [value]
    while inside := [entry for entry in inside if isinstance(entry, (dict, list))]:
        levels += 1
        inside = [entry for each in inside for entry in (each.values() if isinstance(each, dict) else each)]
    return levels


def apply(
    entries: Sequence[AllowListEntry],
    findings: Sequence[Finding],
    path: Path,
    misses: Callable[[AllowListEntry], bool] = lambda entry: True,
) -> tuple[list[Finding], list[Finding]]:
    """Split findings into those that stay and those that the entries excuse.

    The first list also gets a finding for each entry that matches nothing: red if ``misses(entry)``, else a note.
    """
    red: list[Finding] = []
    allowed: list[Finding] = []
    used: set[int] = set()
    for finding in findings:
        matching = [index for index, entry in enumerate(entries) if entry.matches(finding)]
        used.update(matching)
        (allowed if matching else red).append(finding)
    for index, entry in enumerate(entries):
        if index not in used:
            stale = misses(entry)
            about = f"{entry.where} {entry.what}" if entry.table == "drift" else f"exit {entry.exit}"
            red.append(
                Finding(
                    "gate" if stale else "note",
                    "allow_entry_stale" if stale else "allow_entry_unused",
                    f"The allow list's [[{entry.table}]] for {entry.workflow} ({about}) matches nothing.",
                    "the next change in this place would pass unseen under an old reason"
                    if stale
                    else "not all was checked that it may excuse",
                    "Delete the entry, or correct its names." if stale else "Nothing.",
                    file=str(path),
                    workflow_type=entry.workflow,
                )
            )
    return red, allowed
