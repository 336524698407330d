"""The negative control: divergences planted on purpose, which the same run must catch.

A gate that is wired wrongly is green whatever happens. For each workflow type one good history is
replayed again with two deliberate faults: a command too many, which the SDK must refuse, and a
changed detail, which only the drift check can see.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal

from temporalio import workflow
from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    ContinueAsNewInput,
    ExecuteWorkflowInput,
    Interceptor,
    StartActivityInput,
    StartChildWorkflowInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from photo_worker.replay.findings import Finding
from photo_worker.replay.histories import HistoryFile, event_name
from photo_worker.replay.preflight import identity

Plant = Literal["command", "drift"]
PLANTS: tuple[Plant, ...] = ("command", "drift")

_MARK = "photo-worker-replay-control"


def choose(histories: Sequence[HistoryFile]) -> dict[str, HistoryFile]:
    """Return for each workflow type the history that lets a plant show best: one that ended, with an activity."""
    chosen: dict[str, HistoryFile] = {}
    for history in sorted(histories, key=_usefulness, reverse=True):
        chosen.setdefault(history.workflow_type, history)
    return chosen


def _usefulness(history: HistoryFile) -> tuple[int, int]:
    names = {event_name(event) for event in history.events}
    detail = ("WorkflowExecutionCompleted" in names) + 2 * bool(
        names & {"ActivityTaskScheduled", "StartChildWorkflowExecutionInitiated"}
    )
    return (history.exit != "open") + detail, -len(history.events)


def can_show(history: HistoryFile, plant: Plant) -> bool:
    """Tell whether a history holds anything that a plant would change.

    A run that waits for ever in its first turn records no command: the SDK refuses none there, and no detail is
    there to be another.
    """
    names = {event_name(event) for event in history.events}
    if history.exit in {"success", "failure", "continued"}:
        return True
    if names & {"ActivityTaskScheduled", "StartChildWorkflowExecutionInitiated"}:
        return True
    return plant == "command" and bool(names & _COMMANDS)


# Any of these is recorded because code asked for it, so that one command more before it does not fit.
_COMMANDS = {
    "TimerStarted",
    "MarkerRecorded",
    "SignalExternalWorkflowExecutionInitiated",
    "RequestCancelExternalWorkflowExecutionInitiated",
    "UpsertWorkflowSearchAttributes",
    "WorkflowPropertiesModified",
    "NexusOperationScheduled",
    "WorkflowExecutionCanceled",
}


def not_planted(history: HistoryFile, plant: Plant) -> Finding:
    """Return the note on a plant that was left out."""
    return Finding(
        "note",
        f"control_left_out_{plant}",
        "No command too many was planted: in no run of it that was checked would the SDK refuse one."
        if plant == "command"
        else "No changed detail was planted: in no run of it that was checked could one show.",
        "all its runs wait, and asked for nothing that a plant could change",
        "Record a run of it that ends, or that calls an activity.",
        file=str(history.path),
        **identity(history),
    )


def missed(history: HistoryFile, plant: Plant, outcome: str) -> Finding:
    """Return the finding for a plant that was not caught."""
    planted = "an activity too many" if plant == "command" else "another task queue or another end"
    return Finding(
        "control",
        f"control_missed_{plant}",
        f"The gate replayed {history.workflow_type} with {planted} on purpose, and did not see it: {outcome}.",
        "a gate that misses a planted fault proves nothing about the real ones; no green result of this run counts",
        "Look whether the replay's data converter, runner and workflow classes are production's; where the run has "
        "too little in it, record one with an activity.",
        file=str(history.path),
        **identity(history),
    )


class Planted(Interceptor):
    """Plants one fault in every workflow that it sees."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        """Return the class that plants the fault."""
        return _OneCommandMore if self._plant == "command" else _OtherDetails


class _OneCommandMore(WorkflowInboundInterceptor):
    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        workflow.start_activity(_MARK, activity_id=_MARK, start_to_close_timeout=timedelta(seconds=1))
        return await super().execute_workflow(input)


class _OtherDetails(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_OtherQueue(outbound))

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        try:
            await super().execute_workflow(input)
        except ApplicationError as error:
            raise ApplicationError(_MARK, type=_MARK) from error
        return _MARK


class _OtherQueue(WorkflowOutboundInterceptor):
    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        return super().start_activity(dataclasses.replace(input, task_queue=_MARK))

    async def start_child_workflow(self, input: StartChildWorkflowInput) -> workflow.ChildWorkflowHandle[Any, Any]:
        return await super().start_child_workflow(dataclasses.replace(input, task_queue=_MARK))

    def continue_as_new(self, input: ContinueAsNewInput) -> Any:
        return super().continue_as_new(dataclasses.replace(input, task_queue=_MARK))
