"""Explains a failed replay: which recorded event today's code no longer leads to, and what it does instead."""

from __future__ import annotations

import re
from collections.abc import Sequence

from temporal_replay_gate.commands import END_KINDS, Command
from temporal_replay_gate.findings import Finding

_EVENT_IN_MESSAGE = re.compile(r"HistoryEvent\(id: (\d+), (\w+)\)")

# These are recorded when they end, not when they were issued, so that their order is irrelevant.
_UNORDERED = frozenset({"local_activity", "update"})

_ENDS = {
    "complete": "completes",
    "fail": "fails",
    "cancel": "ends as cancelled",
    "continue_as_new": "continues as new",
}

_WHY = (
    "every running workflow that has passed this point would fail its next workflow task, and be stuck until the code "
    "is put right"
)

FIX = (
    "Keep the old way for running workflows: "
    'if workflow.patched("{patch}"): NEW else: OLD; then record the new branch: replay-gate record. '
    "Never change the recorded history."
)


def diagnose(
    message: str, recorded: Sequence[Command], issued: Sequence[Command], workflow_type: str, *, closed: bool
) -> Finding:
    """Return the finding for a replay that the SDK stopped with ``message`` as nondeterministic."""
    old = [step for step in recorded if step.kind not in _UNORDERED]
    new = [step for step in issued if step.kind not in _UNORDERED]
    # The replay of a patch marker's event issues the marker again, so both lists have it at the same position.
    position = 0
    while position < min(len(old), len(new)) and _same(old[position], new[position]):
        position += 1
    was = old[position] if position < len(old) else None
    now = new[position] if position < len(new) else None
    lost = _lost(recorded, issued, was)
    if lost is not None and now is None:
        was = lost
    subject = was or now
    code, what = _difference(was, now, old[position:], new[position:], closed)
    found = _EVENT_IN_MESSAGE.search(message)
    event_id, event_type = (int(found[1]), found[2]) if found else (None, None)
    if was is not None and code != "replay_diverged":
        event_id, event_type = was.event_id, was.event_type
    if code == "replay_diverged":
        what = f"{what} The SDK says: {message}"
    return Finding(
        "replay",
        code,
        what,
        _WHY,
        FIX.format(patch=f"{subject.label or subject.kind}-changed" if subject else "what-changes"),
        workflow_type=workflow_type,
        event_id=event_id,
        event_type=event_type,
        source=now.source if now else None,
        recorded=was.title if was else None,
        issued=now.title if now else None,
    )


def _lost(recorded: Sequence[Command], issued: Sequence[Command], was: Command | None) -> Command | None:
    """Return a local activity that was recorded before ``was`` and is not among the issued commands."""
    asked = {(step.kind, step.label) for step in issued}
    for step in recorded:
        if was is not None and (step.event_id or 0) >= (was.event_id or 0):
            return None
        if step.kind == "local_activity" and (step.kind, step.label) not in asked:
            return step
    return None


def _same(old: Command, new: Command) -> bool:
    if old.kind != new.kind or old.label != new.label:
        return False
    return old.kind not in {"activity", "child", "timer"} or old.key == new.key


def _difference(  # noqa: PLR0911 - one return a kind
    was: Command | None, now: Command | None, old: Sequence[Command], new: Sequence[Command], closed: bool
) -> tuple[str, str]:
    if was is None and now is None:
        return "replay_diverged", "The code asks for what was recorded, but not when it was recorded."
    if was is None:
        return "command_added", f"The code goes on with {_a(now)} where the recorded run {_ended(closed)}."
    if now is None:
        return "command_removed", f"The recorded {was.title} is not asked for any more; the code waits or is done."
    if was.kind == "patch" and not any(step.kind == "patch" and step.key == was.key for step in new):
        if len(new) == 1 and now.kind not in END_KINDS:
            # The code waits for the command's result, so its next command is unknown.
            what = f"The code asks for {_a(now)} where {_a(was)} is recorded: it is new, or the patch is gone."
            return "command_added", what
        return "patch_removed", f"The run took the new branch of patch {was.label!r}, which the code does not know."
    if now.kind in END_KINDS and was.kind not in END_KINDS:
        verb = {
            "complete": "completes",
            "fail": "fails",
            "cancel": "ends as cancelled",
            "continue_as_new": "continues as new",
        }
        return f"ends_early_{now.kind}", f"The workflow now {verb[now.kind]} where it recorded {_a(was)}."
    if was.kind in END_KINDS:
        if now.kind in END_KINDS:
            return "end_changed", f"The workflow now comes to the {now.title}; recorded is the {was.title}."
        return "command_added", f"The code asks for {_a(now)} before the recorded {was.title}."
    return _replaced(was, now, old, new)


def _replaced(  # noqa: PLR0911 - one return a kind
    was: Command, now: Command, old: Sequence[Command], new: Sequence[Command]
) -> tuple[str, str]:
    later_old = any(_alike(step, now) for step in old[1:])
    later_new = any(_alike(step, was) for step in new[1:])
    if later_old and later_new:
        return "command_reordered", f"The code asks for {_a(now)} first; recorded is {_a(was)} before it."
    if later_new:
        return "command_added", f"The code asks for {_a(now)} before the recorded {was.title}."
    if later_old and was.kind != now.kind:
        return "command_removed", f"The recorded {was.title} is left out or moved: the code goes on with {_a(now)}."
    if was.kind == now.kind:
        if was.label == now.label:
            return "command_id_changed", f"The id of the {was.title} was {was.key!r} and is now {now.key!r}."
        if later_old:
            return "command_removed", f"The recorded {was.title} is left out or moved: the code goes on with {_a(now)}."
        return (
            "command_replaced",
            f"The code asks for {_a(now)} in the place of the recorded {was.title}: "
            "it was renamed, or another was put before it.",
        )
    return "command_added", f"The code asks for {_a(now)} where {_a(was)} is recorded."


def _alike(one: Command, other: Command) -> bool:
    return one.kind == other.kind and one.label == other.label


def _a(step: Command | None) -> str:
    if step is None:
        return "nothing"
    if step.kind in END_KINDS:
        return f"the {step.title}"
    return f"{'an' if step.title[0] in 'aeiou' else 'a'} {step.title}"


def _ended(closed: bool) -> str:
    return "ended" if closed else "asked for nothing"
