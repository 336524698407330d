"""The gate: checks every recorded history against today's code, and rules out a green result by accident."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from temporal_replay_gate import allow, coverage, mutations, preflight
from temporal_replay_gate.allow import AllowListEntry
from temporal_replay_gate.clock import DEFAULT_RUN_LIMIT_SECONDS, RunClock, RunOver
from temporal_replay_gate.errors import ReplayTargetBroken, ReportedError, WorkflowUnknown
from temporal_replay_gate.findings import Finding
from temporal_replay_gate.histories import HistoryFile, is_directory, search
from temporal_replay_gate.replay_pool import (
    DEFAULT_LIMIT_SECONDS,
    OTHER_SEED,
    CodeUnderTest,
    ReplayOutcome,
    ReplayPool,
    ReplayTask,
)


@dataclass(frozen=True)
class GateOptions:
    """What is checked, and how strictly.

    If ``coverage`` or ``provenance`` is None, it is required for a directory, which is a corpus, and not for single
    files. ``workflow`` limits the check to one workflow type, ``static`` also reads the code without running it, and
    ``run_limit_seconds`` limits the whole run. ``sample`` means that the histories come from a running service and
    are not a complete corpus. ``extra`` are findings and notes of other checks for the same report.
    """

    paths: tuple[Path, ...]
    code: CodeUnderTest
    limit_seconds: float = DEFAULT_LIMIT_SECONDS
    run_limit_seconds: float = DEFAULT_RUN_LIMIT_SECONDS
    jobs: int | None = None
    allow: Path | None = None
    workflow: str | None = None
    coverage: bool | None = None
    provenance: bool | None = None
    static: bool = True
    sample: bool = False
    extra: tuple[Finding, ...] = ()

    @property
    def corpus(self) -> bool:
        """Whether a directory is checked."""
        return any(is_directory(path) for path in self.paths)

    @property
    def covers(self) -> bool:
        """Whether missing exits are red."""
        return self.corpus if self.coverage is None else self.coverage

    def misses(self, entry: AllowListEntry) -> bool:
        """Tell whether an allow list entry is red if it matches nothing: only if all that it may excuse is checked."""
        return self.covers if entry.table == "coverage" else self.corpus and not self.sample


@dataclass(frozen=True)
class CheckedHistory:
    """One history file: replayed, or refused before its replay. ``seconds`` is the duration of the replay."""

    path: Path
    history: HistoryFile | None
    findings: tuple[Finding, ...]
    allowed: tuple[Finding, ...]
    replayed: bool
    commands: int = 0
    seconds: float = 0.0
    notes: tuple[Finding, ...] = ()

    @property
    def state(self) -> str:
        """``ok``, ``partly checked`` for an open run, or ``failed``."""
        if self.findings or not self.replayed:
            return "failed"
        return "partly checked" if self.history is not None and self.history.exit == "open" else "ok"


@dataclass
class GateReport:
    """The result of one run of the gate.

    ``findings`` make it red, the allow list excuses ``allowed``, and ``notes`` are not red. ``controls`` maps
    a workflow type and a mutation to whether the mutation was caught.
    """

    checked: list[CheckedHistory] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    allowed: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    coverage: list[coverage.Coverage] = field(default_factory=list)
    controls: dict[str, dict[str, bool]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def green(self) -> bool:
        """Whether there are no findings."""
        return not self.findings


def check(
    options: GateOptions,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    clock: RunClock | None = None,
) -> GateReport:
    """Run the gate. If ``clock`` is given, it replaces ``run_limit_seconds``.

    Raises ``ReplayTargetInvalid``, ``ReplayTargetBroken``, ``WorkflowUnknown`` and ``AllowListInvalid``; every other
    problem is a finding.
    """
    began = time.monotonic()
    allowances = allow.read(options.allow) if options.allow is not None else []
    clock = clock or RunClock(options.run_limit_seconds)
    limits: dict[str, Any] = {"limit_seconds": options.limit_seconds, "jobs": options.jobs, "clock": clock}
    with ReplayPool(options.code, **limits) as pool, ReplayPool(options.code, **limits, hash_seed=OTHER_SEED) as other:
        pool.warm_up()
        files = _files(options)
        try:
            types = pool.types()
        except RunOver:
            return ended_early(clock, seconds=time.monotonic() - began)
        if options.workflow not in {None, *types} and not any(history for _, history, _ in files):
            raise WorkflowUnknown(name=options.workflow, known=", ".join(sorted(types)) or "none")
        # The second pool imports the code while the first one replays.
        other.warm_up()
        report = _run(options, clock, pool, other, files, types, on_progress)
    if options.allow is not None:
        _excuse(report, allowances, options)
    report.seconds = time.monotonic() - began
    return report


# What the report says if the run was over before the code was imported.
_IMPORTING = "because the code was still being imported"


def not_run(error: ReportedError) -> GateReport:
    """Return the report of a run that ``error`` prevented from checking anything."""
    why = "no history was replayed, so that nothing is known of the code"
    if isinstance(error, ReplayTargetBroken):
        why = "no history was replayed, and a worker of this code would not start either"
    return GateReport(findings=[Finding("gate", error.code, error.message, why, error.hint)])


def ended_early(clock: RunClock, at: str = _IMPORTING, seconds: float = 0.0) -> GateReport:
    """Return the report of a run that was over before any history was replayed; ``at`` tells why."""
    return GateReport(findings=[_too_long(clock, [f"all of it, {at}"])], seconds=seconds)


_File = tuple[Path, HistoryFile | None, list[Finding]]


def _files(options: GateOptions) -> list[_File]:
    need = options.corpus if options.provenance is None else options.provenance
    there = search(options.paths)
    files: list[_File] = [(path, *preflight.inspect(path, need_provenance=need)) for path in there.histories]
    files += [(Path(str(fault.file)), None, [fault]) for fault in preflight.search_findings(there)]
    files = [
        (path, history, [fault.for_command(options.code.command) for fault in found]) for path, history, found in files
    ]
    if options.workflow is None:
        return files
    return [entry for entry in files if entry[1] is None or entry[1].workflow_type == options.workflow]


def _run(
    options: GateOptions,
    clock: RunClock,
    pool: ReplayPool,
    other: ReplayPool,
    files: Sequence[_File],
    types: dict[str, dict[str, str]],
    on_progress: Callable[[int, int], None],
) -> GateReport:
    faults: dict[Path, list[Finding]] = {path: list(found) for path, _, found in files}
    readable = [history for _, history, _ in files if history is not None]
    for fault in preflight.duplicates(readable):
        faults[Path(str(fault.file))].append(fault)
    for history in readable:
        unknown = preflight.unknown_type(history, list(types))
        if unknown is not None:
            faults[history.path].append(unknown)
    ready = [history for history in readable if history.workflow_type in types]
    total = len(ready)
    done = 0

    def count(outcome: ReplayOutcome) -> None:
        nonlocal done
        done += 1
        on_progress(done, total)

    jobs = [ReplayTask(each.path) for each in ready]
    outcomes = {outcome.task.path: outcome for outcome in pool.run(jobs, count)}
    unreached = [str(path) for path, outcome in outcomes.items() if not outcome.reached]
    # A run that issues no command under one order of sets may issue some under another.
    repeatable = [task for task in jobs if outcomes[task.path].reached and not outcomes[task.path].lost]
    repeated = _repeat(other, repeatable, outcomes, faults, unreached)
    report = GateReport(
        checked=[_checked(path, history, faults[path], outcomes.get(path)) for path, history, _ in files]
    )
    report.findings.extend(repeated)
    for entry in report.checked:
        report.findings.extend(entry.findings)
        report.notes.extend(entry.notes)
    good = [entry.history for entry in report.checked if entry.history is not None and entry.state != "failed"]
    drifted = [history for history in ready if history not in good and not _stopped(outcomes[history.path])]
    drifted = [history for history in drifted if outcomes[history.path].reached]
    report.findings.extend(_control(pool, good + drifted, outcomes, report, unreached))
    _measure(options, report, good, outcomes, types)
    if options.static:
        try:
            report.findings.extend(pool.read_code())
        except RunOver:
            unreached.append("the static check")
    if unreached or clock.ended_by is not None:
        report.findings.append(_too_long(clock, unreached))
    report.findings.extend(finding for finding in options.extra if finding.red)
    report.notes.extend(finding for finding in options.extra if not finding.red)
    missing = _without_histories(options) if files else [_nothing(options.paths, options.workflow)]
    report.findings.extend(finding.for_command(options.code.command) for finding in missing)
    return report


def _repeat(
    other: ReplayPool,
    jobs: Sequence[ReplayTask],
    outcomes: Mapping[Path, ReplayOutcome],
    faults: Mapping[Path, list[Finding]],
    unreached: list[str],
) -> list[Finding]:
    """Replay under the other order of sets.

    Adds a finding to ``faults`` for each history that differs; returns the findings that concern no history.
    """
    try:
        repeated = _again(other, jobs)
    except ReplayTargetBroken as error:
        return [_not_importable(error)]
    for again in repeated:
        once = outcomes[again.task.path]
        if not again.reached:
            unreached.append(f"{again.task.path} (in another order of sets)")
        elif again.issued != once.issued:
            faults[again.task.path].append(_by_order(once, again))
        elif _told(again) != _told(once):
            faults[again.task.path].append(_ends_by_order(once, again))
    return []


def _again(other: ReplayPool, jobs: Sequence[ReplayTask]) -> list[ReplayOutcome]:
    """Replay under the other order of sets; if the run is over before, every outcome is unreached."""
    if not jobs:
        return []
    try:
        other.types()
    except RunOver:
        return [ReplayOutcome(task, reached=False) for task in jobs]
    return other.run(jobs)


def _not_importable(error: ReplayTargetBroken) -> Finding:
    return Finding(
        "gate",
        error.code,
        f"In a second process, with sets in another order (PYTHONHASHSEED {OTHER_SEED}): {error.message}",
        "workers are started again and again, each with an order of its own; some would not come up",
        error.hint,
    )


def _told(outcome: ReplayOutcome) -> list[tuple[str, str]]:
    return sorted((finding.code, finding.where or "") for finding in outcome.findings)


_ORDER_WHY = (
    "every process has an order of its own: a worker that replays the run may ask for something else, and be stuck"
)


def _ends_by_order(one: ReplayOutcome, other: ReplayOutcome) -> Finding:
    first, second = (", ".join(code for code, _ in _told(each)) or "it replays alike" for each in (one, other))
    return Finding(
        "replay",
        "order",
        f"The replay ends otherwise when sets are in another order (PYTHONHASHSEED 0 and {OTHER_SEED}): {first}; and "
        f"{second}.",
        _ORDER_WHY,
        "Sort what comes out of a set before the workflow acts on it or hands it over: sorted(...).",
    )


def _by_order(one: ReplayOutcome, other: ReplayOutcome) -> Finding:
    differing = [pair for pair in zip_longest(one.issued, other.issued, fillvalue="nothing") if pair[0] != pair[1]]
    first, second = (step.rpartition(" ")[0] or step for step in differing[0])
    which = f"the {first}" if first == second else f"the {first}, or the {second},"
    return Finding(
        "replay",
        "order",
        f"The code asks for {which} otherwise when sets are in another order (PYTHONHASHSEED 0 and {OTHER_SEED}).",
        _ORDER_WHY,
        "Sort what comes out of a set before the workflow acts on it or hands it over: sorted(...).",
    )


def _too_long(clock: RunClock, unreached: Sequence[str]) -> Finding:
    listed = ", ".join(unreached) or "nothing"
    if clock.ended_by is not None:
        return Finding(
            "gate",
            "run_interrupted",
            f"{clock.ended_by.name} ended the run; not checked were: {listed}.",
            "what was not reached is not known to replay",
            "Run it again, and let it come to its end.",
        )
    return Finding(
        "gate",
        "run_limit_exceeded",
        f"The run took longer than {clock.limit_seconds:g} s; not checked were: {listed}.",
        "what was not reached is not known to replay",
        "Look at the histories that hang first; on a slow machine, or for many histories, raise --run-limit-seconds.",
    )


def _stopped(outcome: ReplayOutcome) -> bool:
    return any(finding.kind != "drift" for finding in outcome.findings)


def _checked(
    path: Path, history: HistoryFile | None, faults: Sequence[Finding], outcome: ReplayOutcome | None
) -> CheckedHistory:
    found, notes = list(faults), []
    if outcome is not None and history is not None:
        notes = [finding.about(file=str(path), **preflight.identity(history)) for finding in outcome.notes]
        found += [finding.about(file=str(path), **preflight.identity(history)) for finding in outcome.findings]
    return CheckedHistory(
        path,
        history,
        tuple(found),
        (),
        outcome is not None and outcome.reached,
        outcome.commands if outcome else 0,
        outcome.seconds if outcome else 0.0,
        tuple(notes),
    )


def _control(
    pool: ReplayPool,
    histories: Sequence[HistoryFile],
    outcomes: Mapping[Path, ReplayOutcome],
    report: GateReport,
    unreached: list[str],
) -> list[Finding]:
    """Apply each mutation to a history of each type. Returns a finding for each mutation that was not caught.

    If no history could be mutated at all, that is a finding, too.
    """
    waiting = {
        (workflow_type, mutation): found
        for mutation in mutations.MUTATIONS
        for workflow_type, found in mutations.candidates(histories, mutation).items()
    }
    findings: list[Finding] = []
    mutated = False
    while waiting:
        for about in [about for about, found in waiting.items() if not found]:
            report.notes.append(mutations.mutation_left_out(*about, histories))
            del waiting[about]
        asked = {ReplayTask(found.popleft().path, about[1]): about for about, found in waiting.items()}
        for outcome in pool.run(list(asked)):
            workflow_type, mutation = about = asked[outcome.task]
            without = outcomes[outcome.task.path]
            if outcome.reached and not outcome.mutation_applied and without.commands <= 1:
                # The run failed before its code began, for example on an unreadable input. Another may reveal it.
                continue
            del waiting[about]
            mutated = True
            if not outcome.reached:
                unreached.append(f"the planted {mutation} in {workflow_type}")
                continue
            caught = mutations.caught(mutation, outcome.findings, without.findings)
            report.controls.setdefault(workflow_type, {})[mutation] = caught
            if not caught:
                said = "; ".join(finding.code for finding in outcome.findings) or "it was green"
                (history,) = [each for each in histories if each.path == outcome.task.path]
                findings.append(mutations.mutation_survived(history, mutation, said))
    if histories and not mutated:
        findings.append(mutations.no_mutation_possible())
    return findings


def _measure(
    options: GateOptions,
    report: GateReport,
    good: Sequence[HistoryFile],
    outcomes: dict[Path, ReplayOutcome],
    types: dict[str, dict[str, str]],
) -> None:
    asked = {str(path): outcome.patches for path, outcome in outcomes.items()}
    wanted = {name: ids for name, ids in types.items() if options.workflow in {None, name}}
    # A history that fails still covers its exits; only unreadable ones do not count.
    replayed = [entry.history for entry in report.checked if entry.history is not None and entry.replayed]
    report.coverage = coverage.measure(replayed, asked, wanted)
    if options.covers:
        missing = coverage.gaps(report.coverage, replayed)
        report.findings.extend(finding.for_command(options.code.command) for finding in missing)


def _without_histories(options: GateOptions) -> list[Finding]:
    """Return a finding for each directory that holds no file of a history, beside others that do."""
    directories = [path for path in options.paths if is_directory(path)]
    return [_nothing([path]) for path in directories if len(options.paths) > 1 and search([path]).empty]


def _nothing(paths: Sequence[Path], workflow: str | None = None) -> Finding:
    where = ", ".join(str(path) for path in paths) or "no path"
    about = f" of {workflow}" if workflow else ""
    return Finding(
        "gate",
        "no_histories",
        f"There are no histories{about} in {where}.",
        "a gate that replayed nothing would be green whatever the code does",
        "Check the path, or record histories: replay-gate record.",
    )


def _excuse(report: GateReport, entries: Sequence[AllowListEntry], options: GateOptions) -> None:
    wanted = [entry for entry in entries if options.workflow in {None, entry.workflow}]
    path = options.allow or Path()
    left, report.allowed = allow.apply(wanted, report.findings, path, options.misses)
    report.findings = [finding for finding in left if finding.red]
    report.notes.extend(finding for finding in left if not finding.red)
    kept, excused = set(map(id, report.findings)), set(map(id, report.allowed))
    report.checked = [
        CheckedHistory(
            entry.path,
            entry.history,
            tuple(finding for finding in entry.findings if id(finding) in kept),
            tuple(finding for finding in entry.findings if id(finding) in excused),
            entry.replayed,
            entry.commands,
            entry.seconds,
            entry.notes,
        )
        for entry in report.checked
    ]
