"""Compares a history with the outcome that its scenario expects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from temporal_replay_gate.histories import attributes, event_name, exit_of, patch_ids
from temporal_replay_gate.scenarios import ActivityOutcome, Expected, Outcome

_OUTCOMES: dict[str, Outcome] = {
    "ActivityTaskCompleted": "completed",
    "ActivityTaskFailed": "failed",
    "ActivityTaskTimedOut": "timed_out",
    "ActivityTaskCanceled": "canceled",
}


def activity_outcomes(events: Sequence[Mapping[str, Any]]) -> list[ActivityOutcome]:
    """Return the activities in the order of their scheduling, each with its outcome and number of attempts.

    An activity without an end in the history counts as ``cancel_requested`` with attempts of None.
    """
    names: dict[str, str] = {}
    attempts: dict[str, int] = {}
    ends: dict[str, Outcome] = {}
    for event in events:
        name, about = event_name(event), attributes(event)
        if name == "ActivityTaskScheduled":
            names[str(event["eventId"])] = about["activityType"]["name"]
        elif name == "ActivityTaskStarted":
            attempts[str(about["scheduledEventId"])] = int(about.get("attempt", 1))
        elif name in _OUTCOMES:
            ends[str(about["scheduledEventId"])] = _OUTCOMES[name]
    return [
        ActivityOutcome(activity, ends[number], attempts.get(number, 1))
        if number in ends
        else ActivityOutcome(activity, "cancel_requested", None)
        for number, activity in names.items()
    ]


def failure_type(events: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the type of the failure that closed the workflow; None if no failure did."""
    if event_name(events[-1]) != "WorkflowExecutionFailed":
        return None
    failure = attributes(events[-1]).get("failure", {})
    found = failure.get("applicationFailureInfo", {}).get("type")
    return str(found) if found else None


def difference_from_expected(expected: Expected, runs: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the differences between the runs of a workflow and the expectation as text; None if there are none.

    ``runs`` are histories in Temporal's JSON form, a continue-as-new chain first to last.
    """
    if len(runs) != expected.runs:
        return f"it took {len(runs)} runs, not {expected.runs}"
    for number, run in enumerate(runs[:-1], start=1):
        if exit_of(run["events"]) != "continued":
            return f"run {number} ended as {exit_of(run['events'])}, not continued"
    events = runs[-1]["events"]
    counted = Counter(map(event_name, events))
    found = {
        "exit": (exit_of(events), expected.exit),
        "failure": (failure_type(events), expected.failure),
        "activities": (
            _without_ignored_attempts(activity_outcomes(events), expected.activities),
            list(expected.activities),
        ),
        "patches": (patch_ids(events), tuple(sorted(expected.patches))),
        "events": ({name: counted[name] for name in expected.events}, dict(expected.events)),
    }
    differing = [f"{what}: {is_} instead of {wanted}" for what, (is_, wanted) in found.items() if is_ != wanted]
    return "; ".join(differing) or None


def _without_ignored_attempts(
    found: Sequence[ActivityOutcome], expected: Sequence[ActivityOutcome]
) -> list[ActivityOutcome]:
    """Replace the attempts by None for activities whose expected attempts are None."""
    open_ended = {number for number, ran in enumerate(expected) if ran.attempts is None}
    return [replace(ran, attempts=None) if number in open_ended else ran for number, ran in enumerate(found)]
