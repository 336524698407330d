"""Drift: the code replays, but issues other commands than those that the history recorded.

The SDK compares the order, types and ids of commands. It ignores timeouts, task queues, retry policies,
arguments, timer durations and results; this module compares them with the recorded events. Nor does the
SDK detect a command of a completed workflow task that recorded none, if no recorded command follows it
or if the following one is equal. Each difference is red unless an entry of the allow list gives a reason.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from temporal_replay_gate.additive import Shapes, alike, canonical
from temporal_replay_gate.allow import as_toml
from temporal_replay_gate.commands import END_KINDS, Command
from temporal_replay_gate.findings import Finding

_SHOWN = 300

_WHY = {
    "arguments": "running workflows hand other arguments to what they call than the code that started them did",
    "result": "whoever waits for the workflow gets another result than the one that was recorded",
    "failure": "whoever waits for the workflow gets another failure than the one that was recorded",
    "task_queue": "work goes to another queue, where perhaps nobody polls",
    "duration": "a timer that is already running keeps its old duration, new ones get the new one",
}
_WHY_TIMEOUT = "work that used to fit may now be timed out, or a hanging attempt may be noticed later"
_WHY_RETRY = "failures are retried at other times, or more or less often, than when this was recorded"
_WHY_ELSE = "Temporal is asked for something else than when this was recorded; the SDK's Replayer lets it pass"

_WHY_UNRECORDED = (
    "a running workflow that has passed this task goes another way under this code than under the code that has run "
    "it so far; the SDK's Replayer lets it pass"
)

# Commands that are recorded as soon as the task that issued them is completed. A local activity is recorded when it
# ends, and a deprecated patch need not be recorded at all.
_AT_ONCE = END_KINDS | {
    "activity",
    "child",
    "timer",
    "nexus",
    "signal",
    "search_attributes",
    "memo",
    "update",
    "external_cancel",
}

# If one of these is recorded and not issued any more, the SDK may let it pass; it refuses the other kinds.
_MISSED = END_KINDS | {"activity", "child", "timer", "local_activity", "nexus", "signal", "external_cancel"}

_KEEP = 'Keep the old way for running workflows: if workflow.patched("what-changes"): NEW else: OLD. '

FIX = (
    "If it is not meant, take the change back. If it is, record the new behaviour (replay-gate record), and add to the "
    "allow list, with your reason:\n\n"
)


def compare(
    recorded: Sequence[Command], issued: Sequence[Command], workflow_type: str, shapes: Shapes | None = None
) -> list[Finding]:
    """Return every difference between the recorded commands and those that today's code issues.

    Commands are matched by kind and key. An issued command without a recorded one is drift if the workflow task that
    issued it is completed in the history; commands after the last completed task are the future of an open run.
    ``shapes`` tells which keys were only added with a default: such a difference is a finding of kind
    ``additive``, which is not red.
    """
    waiting: dict[tuple[str, str], deque[Command]] = defaultdict(deque)
    for step in issued:
        waiting[_belongs(step)].append(step)
    findings = []
    for step in recorded:
        candidates = waiting[_belongs(step)]
        if not candidates:
            if step.kind in _MISSED:
                findings.append(_missing(step, workflow_type))
            continue
        now = candidates.popleft()
        findings.extend(_differences(step, now, workflow_type, shapes or Shapes()))
        if step.kind in _AT_ONCE and step.task != now.task:
            findings.append(_moved(step, now, workflow_type))
    left = {id(step) for steps in waiting.values() for step in steps if step.kind in _AT_ONCE and step.task is not None}
    findings.extend(_unrecorded(step, workflow_type) for step in issued if id(step) in left)
    return findings


def _belongs(step: Command) -> tuple[str, str]:
    # The response to an update has the id of the message that carried it; the history has that id only in the event
    # that accepts the update.
    return step.kind, "" if step.kind == "update" else step.key


def _missing(step: Command, workflow_type: str) -> Finding:
    what = f"The recorded {step.title} ({step.event_type}) is not asked for any more, and the replay did not notice."
    return _finding("drift_not_issued", step, workflow_type, "presence", what, _WHY_ELSE, True, False)


def _unrecorded(step: Command, workflow_type: str) -> Finding:
    what = (
        f"The {step.title} that the code asks for in the workflow task which event {step.task} completed is not "
        "recorded, and the replay did not notice."
    )
    there = replace(step, event_id=step.task, event_type="WorkflowTaskCompleted")
    found = _finding("drift_not_recorded", there, workflow_type, "presence", what, _WHY_UNRECORDED, False, True)
    return found.about(source=step.source, fix=_KEEP + found.fix)


def _moved(recorded: Command, issued: Command, workflow_type: str) -> Finding:
    now = "no completed task" if issued.task is None else f"the workflow task which event {issued.task} completed"
    what = (
        f"The {recorded.title} was asked for in the workflow task which event {recorded.task} completed, and is now "
        f"asked for in {now}; the replay did not notice."
    )
    earlier = issued.task is not None and issued.task < (recorded.task or 0)
    was_now = ("later", "earlier") if earlier else ("earlier", "later")
    found = _finding("drift_task", recorded, workflow_type, "task", what, _WHY_UNRECORDED, *was_now)
    return found.about(source=issued.source, fix=_KEEP + found.fix)


def _differences(recorded: Command, issued: Command, workflow_type: str, shapes: Shapes) -> list[Finding]:
    findings = []
    if recorded.label != issued.label:
        findings.append(_changed(recorded, issued, workflow_type, "type", recorded.label, issued.label))
    names = [*recorded.fields, *(name for name in issued.fields if name not in recorded.fields)]
    for name in names:
        old, new = recorded.fields.get(name), issued.fields.get(name)
        new, passed = alike(old, new, shapes)
        if passed.added:
            findings.append(_added(recorded, issued, workflow_type, name, passed.added))
        if passed.sets:
            findings.append(_unordered(recorded, issued, workflow_type, name, passed.sets))
        if canonical(old) != canonical(new):
            findings.append(_changed(recorded, issued, workflow_type, name, old, new))
    return findings


def _added(recorded: Command, issued: Command, workflow_type: str, name: str, added: dict[str, Any]) -> Finding:
    listed = ", ".join(f"{path} = {_show(value)}" for path, value in added.items())
    return Finding(
        "additive",
        f"additive_{name.split('.', maxsplit=1)[0]}",
        f"{name} of the {recorded.title} have gained {listed}, which is the default of today's code.",
        "fields are added with a default, so that old and new code read each other's payloads",
        "Nothing; let workers that do not know the field go before any job needs another value.",
        workflow_type=workflow_type,
        event_id=recorded.event_id,
        event_type=recorded.event_type,
        source=issued.source,
        issued=added,
        where=f"{where_of(recorded)} {name}",
    )


def _unordered(recorded: Command, issued: Command, workflow_type: str, name: str, sets: Sequence[str]) -> Finding:
    return Finding(
        "note",
        "order",
        f"{name} of the {recorded.title} hold a set ({', '.join(sets)}): it is compared without its order.",
        "the order of a set changes with every process, and so do the bytes of its payload",
        "Hand over a sorted list where whoever reads it looks at the order.",
        workflow_type=workflow_type,
        event_id=recorded.event_id,
        event_type=recorded.event_type,
        source=issued.source,
        where=f"{where_of(recorded)} {name}",
    )


def where_of(step: Command) -> str:
    """Return the name of a command in an allow list: ``activity:ocr_textract``, ``timer``, ``complete``."""
    return f"{step.kind}:{step.label}" if step.label else step.kind


def _changed(recorded: Command, issued: Command, workflow_type: str, name: str, old: Any, new: Any) -> Finding:
    old_part, new_part = _smallest_difference(old, new)
    what = f"{name} of the {recorded.title} was {_show(old_part)} and is now {_show(new_part)}."
    if name.endswith("_timeout"):
        why = _WHY_TIMEOUT
    elif name.startswith("retry_policy"):
        why = _WHY_RETRY
    else:
        why = _WHY.get(name, _WHY_ELSE)
    code = "drift_" + name.split(".", maxsplit=1)[0]
    found = _finding(code, recorded, workflow_type, name, what, why, old, new, (old_part, new_part))
    return found.about(source=issued.source)


def _finding(
    code: str,
    step: Command,
    workflow_type: str,
    name: str,
    what: str,
    why: str,
    recorded: Any,
    issued: Any,
    change: tuple[Any, Any] | None = None,
) -> Finding:
    where = where_of(step)
    was, now = (canonical(value) for value in change or (recorded, issued))
    return Finding(
        "drift",
        code,
        what,
        why,
        FIX + as_toml("drift", workflow=workflow_type, where=where, what=name, was=was, now=now),
        workflow_type=workflow_type,
        event_id=step.event_id,
        event_type=step.event_type,
        recorded=recorded,
        issued=issued,
        where=f"{where} {name}",
        was=was,
        now=now,
    )


def _smallest_difference(old: Any, new: Any) -> tuple[Any, Any]:
    # If one field of a large argument changed, show the field and not the argument.
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new) == 1:
        return _smallest_difference(old[0], new[0])
    if isinstance(old, dict) and isinstance(new, dict):
        names = [*old, *(name for name in new if name not in old)]
        changed = [name for name in names if name not in old or name not in new or old[name] != new[name]]
        if len(changed) < len(names):
            return (
                {name: old[name] for name in changed if name in old},
                {name: new[name] for name in changed if name in new},
            )
    return old, new


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"
