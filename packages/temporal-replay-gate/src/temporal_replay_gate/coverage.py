"""Coverage: which exits of each workflow type the histories show, and which are missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from temporal_replay_gate.allow import as_toml
from temporal_replay_gate.findings import Finding
from temporal_replay_gate.histories import HistoryFile, attributes

REQUIRED_EXITS = ("success", "failure", "cancellation")

_WHY = "a change that breaks running workflows on this way would go unseen"
_FIX = "Record it: replay-gate record. If the workflow cannot have it, add to the allow list, with your reason:\n\n"


@dataclass
class Coverage:
    """What the histories of one workflow type cover: files by exit and by patch branch, and continue-as-new chains."""

    workflow_type: str
    exits: dict[str, int] = field(default_factory=dict)
    patched: dict[str, int] = field(default_factory=dict)
    unpatched: dict[str, int] = field(default_factory=dict)
    chains: int = 0

    @property
    def histories(self) -> int:
        """How many histories there are of this type."""
        return sum(self.exits.values())

    def as_dict(self) -> dict[str, object]:
        """Return the row in the form of the JSON report."""
        return {
            "workflow_type": self.workflow_type,
            "histories": self.histories,
            "exits": dict(sorted(self.exits.items())),
            "patched": dict(sorted(self.patched.items())),
            "unpatched": dict(sorted(self.unpatched.items())),
            "chains": self.chains,
        }


def measure(
    histories: Sequence[HistoryFile],
    patches: Mapping[str, Iterable[tuple[str, bool]]],
    types: Mapping[str, Mapping[str, str]],
) -> list[Coverage]:
    """Return the coverage of each workflow type in the code or in a history, sorted by type.

    ``patches`` maps a history's path to (patch id, new branch taken) for each ``workflow.patched`` call of its
    replay; ``types`` maps each type of the code to the patch ids in its class.
    """
    rows = {
        name: Coverage(name, patched=dict.fromkeys(ids, 0), unpatched=dict.fromkeys(ids, 0))
        for name, ids in types.items()
    }
    for history in histories:
        row = rows.setdefault(history.workflow_type, Coverage(history.workflow_type))
        row.exits[history.exit] = row.exits.get(history.exit, 0) + 1
        for patch, taken in patches.get(str(history.path), ()):
            row.patched.setdefault(patch, 0)
            row.unpatched.setdefault(patch, 0)
            branch = row.patched if taken else row.unpatched
            branch[patch] += 1
    for members in _chains(histories).values():
        if len(members) > 1:
            rows[members[0].workflow_type].chains += 1
    return [rows[name] for name in sorted(rows)]


def gaps(rows: Sequence[Coverage], histories: Sequence[HistoryFile]) -> list[Finding]:
    """Return a finding for each missing exit, patch branch and run of a continue-as-new chain."""
    findings = []
    for row in rows:
        if not row.histories:
            findings.append(_gap(row.workflow_type, "any", "There is no history of it at all."))
            continue
        for wanted in REQUIRED_EXITS:
            if not row.exits.get(wanted):
                findings.append(_gap(row.workflow_type, wanted, f"No history ends with {wanted}."))
        for branch, counts in (("patched", row.patched), ("unpatched", row.unpatched)):
            for patch, count in sorted(counts.items()):
                if not count:
                    findings.append(
                        _gap(row.workflow_type, f"{branch}:{patch}", f"No history takes the {branch} way of {patch!r}.")
                    )
    return findings + _broken_chains(histories)


def _gap(workflow_type: str, missing: str, what: str) -> Finding:
    return Finding(
        "coverage",
        "coverage_missing",
        f"{workflow_type}: {what}",
        _WHY,
        _FIX + as_toml("coverage", workflow=workflow_type, exit=missing),
        workflow_type=workflow_type,
        where=missing,
    )


def _first_run(history: HistoryFile) -> str:
    return str(attributes(history.events[0]).get("firstExecutionRunId") or history.run_id)


def _chains(histories: Sequence[HistoryFile]) -> dict[str, list[HistoryFile]]:
    chains: dict[str, list[HistoryFile]] = defaultdict(list)
    for history in histories:
        chains[_first_run(history)].append(history)
    return chains


def _broken_chains(histories: Sequence[HistoryFile]) -> list[Finding]:
    known = {history.run_id for history in histories}
    findings = []
    for history in histories:
        before = attributes(history.events[0]).get("continuedExecutionRunId")
        after = attributes(history.events[-1]).get("newExecutionRunId") if history.exit == "continued" else None
        for run, word in ((before, "before"), (after, "after")):
            if run and run not in known:
                findings.append(
                    Finding(
                        "coverage",
                        "chain_incomplete",
                        f"{history.workflow_type}: the run {word} it in its continue-as-new chain, {run}, is missing.",
                        "what one run hands to the next is checked only where both are there",
                        f"Export that run too: temporal workflow show --workflow-id {history.workflow_id} "
                        f"--run-id {run} --output json > FILE",
                        file=str(history.path),
                        workflow_type=history.workflow_type,
                        workflow_id=history.workflow_id,
                        run_id=history.run_id,
                        where=f"chain:{history.scenario}",
                    )
                )
    return findings
