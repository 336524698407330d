"""The negative control: divergences that the gate makes on purpose and must detect in the same run.

A gate that is wired wrongly is green whatever happens. For each workflow type the gate replays a good
history again under two mutations. One adds a command: the SDK must refuse it or, if the run only waits,
the comparison of the completed tasks must find it. The other changes a detail that only the comparison finds.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import takewhile
from typing import Any, Literal

from temporalio import workflow
from temporalio.exceptions import ApplicationError, is_cancelled_exception
from temporalio.worker import (
    ContinueAsNewInput,
    ExecuteWorkflowInput,
    HandleSignalInput,
    HandleUpdateInput,
    Interceptor,
    SignalChildWorkflowInput,
    SignalExternalWorkflowInput,
    StartActivityInput,
    StartChildWorkflowInput,
    StartNexusOperationInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from temporal_replay_gate.findings import Finding
from temporal_replay_gate.histories import HistoryFile, attributes, event_name
from temporal_replay_gate.preflight import identity

Mutation = Literal["command", "drift"]
MUTATIONS: tuple[Mutation, ...] = ("command", "drift")

_MARK = "replay-gate-control"

# By how much a mutation lengthens a timer; the server stores durations in milliseconds.
_LONGER_SECONDS = 1.0


def candidates(histories: Sequence[HistoryFile], mutation: Mutation) -> dict[str, deque[HistoryFile]]:
    """Return for each workflow type the histories that can reveal ``mutation``, the most useful first."""
    found: dict[str, deque[HistoryFile]] = {}
    for history in sorted(histories, key=_usefulness, reverse=True):
        of_type = found.setdefault(history.workflow_type, deque())
        if can_reveal(history, mutation):
            of_type.append(history)
    return found


def _usefulness(history: HistoryFile) -> tuple[int, int]:
    names = {event_name(event) for event in history.events}
    detail = ("WorkflowExecutionCompleted" in names) + 2 * bool(
        names & {"ActivityTaskScheduled", "StartChildWorkflowExecutionInitiated"}
    )
    return (history.exit != "open") + detail, -len(history.events)


def can_reveal(history: HistoryFile, mutation: Mutation) -> bool:
    """Tell whether ``mutation`` would change a command of the history, or would not fit the history."""
    if mutation == "command":
        return _is_settled(history.events)
    return any(_has_detail(event) for event in history.events)


def _is_settled(events: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether the history settles what the first completed task asked for, so that an added command shows.

    A later command settles it, and so does the task's completion. If the next task follows without an event
    between, the SDK replays both as one; then the next task must be completed too.
    """
    names = [event_name(event) for event in events]
    later = names[names.index("WorkflowTaskCompleted") + 1 :]
    next_to_it = list(takewhile(lambda name: name.startswith("WorkflowTask"), later))
    return not _COMMANDS.isdisjoint(later) or not next_to_it or next_to_it[-1] == "WorkflowTaskCompleted"


# Events that record a detail which the mutation "drift" changes.
_DETAILED = {
    "ActivityTaskScheduled",
    "NexusOperationScheduled",
    "SignalExternalWorkflowExecutionInitiated",
    "StartChildWorkflowExecutionInitiated",
    "TimerStarted",
    "WorkflowExecutionCompleted",
    "WorkflowExecutionContinuedAsNew",
    "WorkflowPropertiesModified",
}


# Events that record a command of the workflow's code: an additional command before one of them does not fit.
_COMMANDS = _DETAILED | {
    "MarkerRecorded",
    "RequestCancelExternalWorkflowExecutionInitiated",
    "UpsertWorkflowSearchAttributes",
    "WorkflowExecutionCanceled",
    "WorkflowExecutionFailed",
}


def _has_detail(event: Mapping[str, Any]) -> bool:
    name, about = event_name(event), attributes(event)
    if name == "WorkflowExecutionFailed":
        return not _of_a_cancellation(about.get("failure"))
    if name == "WorkflowExecutionUpdateCompleted":
        outcome = about.get("outcome")
        return isinstance(outcome, Mapping) and "success" in outcome
    return name in _DETAILED


def _of_a_cancellation(failure: Any) -> bool:
    while isinstance(failure, Mapping):
        if "canceledFailureInfo" in failure:
            return True
        failure = failure.get("cause")
    return False


def mutation_left_out(workflow_type: str, mutation: Mutation, histories: Iterable[HistoryFile]) -> Finding:
    """Return the note that ``mutation`` was skipped because none of the type's ``histories`` can reveal it."""
    runs = [str(each.path) for each in histories if each.workflow_type == workflow_type]
    more = f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else ""
    return Finding(
        "note",
        f"control_left_out_{mutation}",
        f"No {'command too many' if mutation == 'command' else 'changed detail'} was planted: it could show in no run "
        f"of it that was checked: {', '.join(runs[:_NAMED])}{more}.",
        "they ended before their code began, or their first task is still to be completed"
        if mutation == "command"
        else "they asked for nothing with a detail that could be another",
        "Record a run of it that ends, or that calls an activity.",
        workflow_type=workflow_type,
    )


# How many runs a note names; it counts the rest.
_NAMED = 10


def no_mutation_possible() -> Finding:
    """Return the finding for a run of the gate in which no history could be mutated."""
    return Finding(
        "control",
        "control_impossible",
        "No fault could be planted in any history: each ended before its code began, or is in its first task.",
        "whether the gate sees anything is not known, so that its green result would count for nothing",
        "Check a run beside them whose code has begun: a recorded one, or wait until an open one has.",
    )


def caught(mutation: Mutation, found: Iterable[Finding], without: Iterable[Finding]) -> bool:
    """Tell whether the gate detected ``mutation``.

    ``found`` are the findings with the mutation, ``without`` those of the same history without it. A replay that
    broke off for another reason does not count as a detection.
    """
    known = {_difference(finding) for finding in without}
    new = [finding for finding in found if _difference(finding) not in known]
    if mutation == "drift":
        return any(finding.kind == "drift" for finding in new)
    return any(
        (finding.kind == "replay" and finding.code not in _BROKEN_OFF)
        or (finding.code == "drift_not_recorded" and _MARK in finding.what)
        for finding in new
    )


_BROKEN_OFF = {"workflow_task_failed", "replay_hang", "replay_crash"}


def _difference(finding: Finding) -> tuple[Any, ...]:
    return finding.code, finding.event_id, finding.where, finding.was, finding.now, finding.what


def mutation_survived(history: HistoryFile, mutation: Mutation, outcome: str) -> Finding:
    """Return the finding for a mutation that the gate did not detect."""
    applied = "an activity too many" if mutation == "command" else "changed details"
    return Finding(
        "control",
        f"control_missed_{mutation}",
        f"The gate replayed {history.workflow_type} with {applied} on purpose, and did not see it: {outcome}.",
        "a gate that misses a planted fault proves nothing about the real ones; no green result of this run counts",
        "Look whether the replay's data converter, runner and workflow classes are production's; where the run has "
        "too little in it, record one with an activity.",
        file=str(history.path),
        **identity(history),
    )


class MutationInterceptor(Interceptor):
    """Applies one mutation to each workflow that it intercepts.

    ``began`` tells whether the code of the last workflow began to run.
    """

    def __init__(self, mutation: Mutation) -> None:
        self._mutation = mutation
        self.began = False

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        """Return the interceptor class that applies the mutation."""
        kind: type[_Planting] = _OneCommandMore if self._mutation == "command" else _OtherDetails
        return type(kind.__name__, (kind,), {"owner": self})


class _Planting(WorkflowInboundInterceptor):
    owner: MutationInterceptor


class _OneCommandMore(_Planting):
    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        self.owner.began = True
        workflow.start_activity(_MARK, activity_id=_MARK, start_to_close_timeout=timedelta(seconds=1))
        return await super().execute_workflow(input)


class _OtherDetails(_Planting):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_OtherCalls(outbound))

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        self.owner.began = True
        _change_what_no_interceptor_sees()
        with _another_failure():
            await super().execute_workflow(input)
        return _MARK

    async def handle_signal(self, input: HandleSignalInput) -> None:
        _change_what_no_interceptor_sees()
        with _another_failure():
            await super().handle_signal(input)

    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:
        _change_what_no_interceptor_sees()
        await super().handle_update_handler(input)
        return _MARK


@contextmanager
def _another_failure() -> Iterator[None]:
    """Replace a failure that would fail the run, in a signal handler too, by another failure."""
    try:
        yield
    except Exception as error:
        if is_cancelled_exception(error) or not workflow.is_failure_exception(error):
            raise
        raise ApplicationError(_MARK, type=_MARK) from error


def _change_what_no_interceptor_sees() -> None:
    # In a workflow the running event loop is the SDK's workflow instance. Timers of all kinds begin in _timer_impl,
    # which is not a public name.
    instance: Any = asyncio.get_running_loop()
    if getattr(instance, _ATTRIBUTE, False):
        return
    setattr(instance, _ATTRIBUTE, True)
    start, upsert = instance._timer_impl, instance.workflow_upsert_memo

    def longer(delay: float, *rest: Any, **options: Any) -> Any:
        return start(delay + _LONGER_SECONDS, *rest, **options)

    def other(updates: Mapping[str, Any], **options: Any) -> None:
        upsert({**updates, _MARK: _MARK}, **options)

    instance._timer_impl, instance.workflow_upsert_memo = longer, other


_ATTRIBUTE = "replay_gate_control"


class _OtherCalls(WorkflowOutboundInterceptor):
    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        return super().start_activity(dataclasses.replace(input, task_queue=_MARK))

    async def start_child_workflow(self, input: StartChildWorkflowInput) -> workflow.ChildWorkflowHandle[Any, Any]:
        return await super().start_child_workflow(dataclasses.replace(input, task_queue=_MARK))

    def continue_as_new(self, input: ContinueAsNewInput) -> Any:
        return super().continue_as_new(dataclasses.replace(input, task_queue=_MARK))

    async def signal_child_workflow(self, input: SignalChildWorkflowInput) -> None:
        await super().signal_child_workflow(dataclasses.replace(input, args=[*input.args, _MARK]))

    async def signal_external_workflow(self, input: SignalExternalWorkflowInput) -> None:
        await super().signal_external_workflow(dataclasses.replace(input, args=[*input.args, _MARK]))

    async def start_nexus_operation(
        self, input: StartNexusOperationInput[Any, Any]
    ) -> workflow.NexusOperationHandle[Any]:
        longer = (input.schedule_to_close_timeout or timedelta()) + timedelta(seconds=_LONGER_SECONDS)
        return await super().start_nexus_operation(dataclasses.replace(input, schedule_to_close_timeout=longer))
