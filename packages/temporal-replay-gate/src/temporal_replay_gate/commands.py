"""Recorded events and issued commands in one form, so that they can be compared field by field.

Temporal's server fills in the fields that a command leaves out, and caps timeouts at the run's. The rules
are those of its command validation (temporalio/temporal, ``command_attr_validator`` and
``retrypolicy``); they are applied to the issued command before the comparison.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.duration_pb2 import Duration
from temporalio.api.common.v1 import Payload, RetryPolicy
from temporalio.api.enums.v1 import ApplicationErrorCategory, EventType, ParentClosePolicy, WorkflowIdReusePolicy
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent, WorkflowExecutionStartedEventAttributes
from temporalio.bridge.proto.workflow_commands import WorkflowCommand

from temporal_replay_gate.payloads import payload_value
from temporal_replay_gate.trace import IssuedCommand, Trace, is_machinery

END_KINDS = frozenset({"complete", "fail", "cancel", "continue_as_new"})

# The server's defaults for fields that a command leaves out (temporalio/temporal common/dynamicconfig/constants.go).
_RETRY_INITIAL = 1.0
_RETRY_BACKOFF = 2.0
_RETRY_MAXIMUM_FACTOR = 100.0
_TASK_TIMEOUT = 10.0

# Seconds. If a run of a chain was shorter, the server delays the next run by the difference.
_LEAST_RUN = 1.0

_TERMINATE = ParentClosePolicy.PARENT_CLOSE_POLICY_TERMINATE
_ALLOW_DUPLICATE = WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE

# The search attribute that the SDK's core writes beside a patch marker.
_PATCH_ATTRIBUTE = "TemporalChangeVersion"


@dataclass(frozen=True)
class Command:
    """One command of a workflow, recorded or issued.

    ``key`` distinguishes commands of one kind (activity id, timer id, child workflow id); ``label`` is
    the readable name (activity type, workflow type, signal name). ``task`` is the id of the event that
    completed the workflow task which issued the command; None if no task of the history did.
    """

    kind: str
    key: str
    label: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    event_id: int | None = None
    event_type: str | None = None
    source: str | None = None
    task: int | None = None

    @property
    def title(self) -> str:
        """Return a short description for messages: ``activity 'ocr_textract'``."""
        name = _TITLES.get(self.kind, self.kind)
        return f"{name} {self.label!r}" if self.label else name


_TITLES = {
    "activity": "activity",
    "local_activity": "local activity",
    "timer": "timer",
    "child": "child workflow",
    "signal": "signal to another workflow",
    "external_cancel": "cancellation of another workflow",
    "patch": "patch",
    "search_attributes": "search attributes",
    "memo": "memo",
    "nexus": "Nexus operation",
    "complete": "end of the workflow with a result",
    "fail": "end of the workflow with a failure",
    "cancel": "end of the workflow as cancelled",
    "continue_as_new": "continue-as-new",
    "update": "update",
}


def seconds(duration: Duration) -> float:
    """Return a protobuf duration in seconds."""
    return duration.seconds + duration.nanos / 1e9


def _values(payloads: Iterable[Payload]) -> list[Any]:
    return [payload_value(payload) for payload in payloads]


def _map(payloads: Mapping[str, Payload]) -> dict[str, Any]:
    return {name: payload_value(payload) for name, payload in payloads.items()}


def failure_value(failure: Failure) -> dict[str, Any]:
    """Return a failure as a JSON value, without stack traces: these change with every edit of a file."""
    kind = failure.WhichOneof("failure_info") or ""
    found: dict[str, Any] = {"kind": kind.removesuffix("_failure_info"), "message": failure.message}
    if kind == "application_failure_info":
        info = failure.application_failure_info
        found |= {"type": info.type, "non_retryable": info.non_retryable, "details": _values(info.details.payloads)}
    if failure.HasField("encoded_attributes"):
        said = payload_value(failure.encoded_attributes)
        if isinstance(said, dict) and "stack_trace" in said:
            said = {name: value for name, value in said.items() if name != "stack_trace"}
        found["encoded_attributes"] = said
    if failure.HasField("cause"):
        found["cause"] = failure_value(failure.cause)
    return found


def _retry(policy: RetryPolicy, *, filled: bool) -> dict[str, Any]:
    initial, coefficient, maximum = (
        seconds(policy.initial_interval),
        policy.backoff_coefficient,
        seconds(policy.maximum_interval),
    )
    if filled:
        initial = initial or _RETRY_INITIAL
        coefficient = coefficient or _RETRY_BACKOFF
        maximum = maximum or initial * _RETRY_MAXIMUM_FACTOR
    return {
        "initial_interval": initial,
        "backoff_coefficient": coefficient,
        "maximum_interval": maximum,
        "maximum_attempts": policy.maximum_attempts,
        "non_retryable_error_types": sorted(policy.non_retryable_error_types),
    }


def _flat_retry(policy: RetryPolicy, *, filled: bool) -> dict[str, Any]:
    return {f"retry_policy.{name}": value for name, value in _retry(policy, filled=filled).items()}


def commands_from_history(events: Sequence[HistoryEvent]) -> list[Command]:
    """Return the commands that the events record, in order."""
    steps = []
    task = None
    for event in events:
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            task = event.event_id
        found = _recorded(event)
        if found is not None:
            kind, key, label, values = found
            name = "".join(
                word.capitalize() for word in EventType.Name(event.event_type).removeprefix("EVENT_TYPE_").split("_")
            )
            steps.append(Command(kind, key, label, values, event.event_id, name, task=task))
    return steps


_Found = tuple[str, str, str, dict[str, Any]]


def _recorded(event: HistoryEvent) -> _Found | None:
    which = event.WhichOneof("attributes") or ""
    reader = _RECORDED.get(which)
    return None if reader is None else reader(getattr(event, which))


def _activity_scheduled(event: Any) -> _Found:
    values = {
        "task_queue": event.task_queue.name,
        "arguments": _values(event.input.payloads),
        "schedule_to_close_timeout": seconds(event.schedule_to_close_timeout),
        "schedule_to_start_timeout": seconds(event.schedule_to_start_timeout),
        "start_to_close_timeout": seconds(event.start_to_close_timeout),
        "heartbeat_timeout": seconds(event.heartbeat_timeout),
        **_flat_retry(event.retry_policy, filled=True),
    }
    return "activity", event.activity_id, event.activity_type.name, values


def _timer_started(event: Any) -> _Found:
    return "timer", event.timer_id, "", {"duration": seconds(event.start_to_fire_timeout)}


def _child_initiated(event: Any) -> _Found:
    values = {
        "task_queue": event.task_queue.name,
        "arguments": _values(event.input.payloads),
        "execution_timeout": seconds(event.workflow_execution_timeout),
        "run_timeout": seconds(event.workflow_run_timeout),
        "task_timeout": seconds(event.workflow_task_timeout),
        "parent_close_policy": _enum(ParentClosePolicy.Name(event.parent_close_policy)),
        "id_reuse_policy": _enum(WorkflowIdReusePolicy.Name(event.workflow_id_reuse_policy)),
        "cron_schedule": event.cron_schedule,
        "memo": _map(event.memo.fields),
    }
    if event.HasField("retry_policy"):
        values |= _flat_retry(event.retry_policy, filled=True)
    return "child", event.workflow_id, event.workflow_type.name, values


def _signal_initiated(event: Any) -> _Found:
    values = {
        "arguments": _values(event.input.payloads),
        "run_id": event.workflow_execution.run_id,
        "child_only": event.child_workflow_only,
    }
    return "signal", event.workflow_execution.workflow_id, event.signal_name, values


def _cancel_initiated(event: Any) -> _Found | None:
    if event.child_workflow_only:
        # The SDK decides whether and how a child is cancelled.
        return None
    about = event.workflow_execution
    return "external_cancel", about.workflow_id, "", {"run_id": about.run_id, "reason": event.reason}


def _marker(event: Any) -> _Found | None:
    names = {"core_patch": "patch-data", "core_local_activity": "data"}
    data = event.details[names[event.marker_name]].payloads if event.marker_name in names else []
    about = payload_value(data[0]) if data else None
    if not isinstance(about, dict):
        return None
    if event.marker_name == "core_patch":
        return "patch", str(about.get("id")), str(about.get("id")), {}
    return "local_activity", str(about.get("activity_id")), str(about.get("activity_type")), {}


def _attributes_upserted(event: Any) -> _Found | None:
    found = _map(event.search_attributes.indexed_fields)
    own = {name: value for name, value in found.items() if name != _PATCH_ATTRIBUTE}
    return ("search_attributes", "", "", {"values": own}) if own else None


def _continued(event: Any) -> _Found:
    values = {
        "task_queue": event.task_queue.name,
        "arguments": _values(event.input.payloads),
        "run_timeout": seconds(event.workflow_run_timeout),
        "task_timeout": seconds(event.workflow_task_timeout),
        "backoff_start_interval": _own_backoff(seconds(event.backoff_start_interval)),
    }
    return "continue_as_new", "", event.workflow_type.name, values


def _own_backoff(backoff: float) -> float:
    # If a run took less than a second, the server sets a backoff up to one second.
    return backoff if backoff > _LEAST_RUN else 0.0


def _failed(failure: Failure) -> _Found:
    about = failure.application_failure_info
    values = {
        "failure": failure_value(failure),
        "next_retry_delay": seconds(about.next_retry_delay),
        "category": _enum(ApplicationErrorCategory.Name(about.category)),
    }
    return "fail", "", "", values


def _update_completed(event: Any) -> _Found:
    outcome = event.outcome
    if outcome.HasField("failure"):
        return "update", event.meta.update_id, "", {"failure": failure_value(outcome.failure)}
    return "update", event.meta.update_id, "", {"result": _values(outcome.success.payloads)}


def _nexus_scheduled(event: Any) -> _Found:
    values = {"endpoint": event.endpoint, "service": event.service, "input": payload_value(event.input)}
    values["schedule_to_close_timeout"] = seconds(event.schedule_to_close_timeout)
    return "nexus", "", event.operation, values


_RECORDED: dict[str, Any] = {
    "activity_task_scheduled_event_attributes": _activity_scheduled,
    "timer_started_event_attributes": _timer_started,
    "start_child_workflow_execution_initiated_event_attributes": _child_initiated,
    "signal_external_workflow_execution_initiated_event_attributes": _signal_initiated,
    "request_cancel_external_workflow_execution_initiated_event_attributes": _cancel_initiated,
    "marker_recorded_event_attributes": _marker,
    "upsert_workflow_search_attributes_event_attributes": _attributes_upserted,
    "workflow_properties_modified_event_attributes": lambda event: (
        "memo",
        "",
        "",
        {"values": _map(event.upserted_memo.fields)},
    ),
    "workflow_execution_continued_as_new_event_attributes": _continued,
    "workflow_execution_update_completed_event_attributes": _update_completed,
    "nexus_operation_scheduled_event_attributes": _nexus_scheduled,
    "workflow_execution_completed_event_attributes": lambda event: (
        "complete",
        "",
        "",
        {"result": _values(event.result.payloads)},
    ),
    "workflow_execution_failed_event_attributes": lambda event: _failed(event.failure),
    "workflow_execution_canceled_event_attributes": lambda event: (
        "cancel",
        "",
        "",
        {"details": _values(event.details.payloads)},
    ),
}


def _enum(name: str) -> str:
    for prefix in ("PARENT_CLOSE_POLICY_", "WORKFLOW_ID_REUSE_POLICY_", "APPLICATION_ERROR_CATEGORY_"):
        name = name.removeprefix(prefix)
    return name


class IssuedCommands:
    """Converts a trace's commands, by the server's rules for the run whose first event is ``started``.

    ``completed`` holds the ids of the events that completed workflow tasks, in order.
    """

    def __init__(
        self, trace: Trace, started: WorkflowExecutionStartedEventAttributes, completed: Sequence[int] = ()
    ) -> None:
        self._trace = trace
        self._started = started
        self._completed = completed

    def commands(self) -> list[Command]:
        """Return the commands of today's code in order, without those that it cancels in the same workflow task."""
        taken_back = {
            (issued.reached, *target) for issued in self._trace.commands for target in _cancelled(issued.command)
        }
        steps = []
        for issued in self._trace.commands:
            which = issued.command.WhichOneof("variant") or ""
            reader = getattr(self, f"_{which}", None)
            if reader is None:
                continue
            command = getattr(issued.command, which)
            if (issued.reached, which, getattr(command, "seq", None)) in taken_back:
                continue
            found: _Found | None = reader(command)
            if found is not None:
                kind, key, label, values = found
                steps.append(Command(kind, key, label, values, source=_source(issued), task=self._task(issued.reached)))
        return steps

    def _task(self, reached: int) -> int | None:
        # For a completed task the SDK reports the id of its start, or of its completion if no event follows.
        # Commands after the last completed task belong to a task that is not completed yet.
        index = bisect_left(self._completed, reached)
        return self._completed[index] if index < len(self._completed) else None

    def _queue(self, name: str) -> str:
        # During a replay, the workflow's own task queue has a name that the Replayer made up.
        return self._started.task_queue.name if name in {"", self._trace.task_queue} else name

    def _schedule_activity(self, command: Any) -> _Found:
        run = seconds(self._started.workflow_run_timeout)
        close, start, attempt = (
            seconds(command.schedule_to_close_timeout),
            seconds(command.schedule_to_start_timeout),
            seconds(command.start_to_close_timeout),
        )
        if close:
            start = min(start or close, close)
            attempt = min(attempt or close, close)
        else:
            close = run
            start = start or run
        if run:
            close, start, attempt = min(close, run), min(start, run), min(attempt, run)
        values = {
            "task_queue": self._queue(command.task_queue),
            "arguments": _values(command.arguments),
            "schedule_to_close_timeout": close,
            "schedule_to_start_timeout": start,
            "start_to_close_timeout": attempt,
            "heartbeat_timeout": min(seconds(command.heartbeat_timeout), attempt),
            **_flat_retry(command.retry_policy, filled=True),
        }
        return "activity", command.activity_id, command.activity_type, values

    def _schedule_local_activity(self, command: Any) -> _Found:
        return "local_activity", command.activity_id, command.activity_type, {}

    def _start_timer(self, command: Any) -> _Found:
        # The server stores whole milliseconds.
        return "timer", str(command.seq), "", {"duration": round(seconds(command.start_to_fire_timeout), 9)}

    def _start_child_workflow_execution(self, command: Any) -> _Found:
        execution = seconds(command.workflow_execution_timeout)
        run = seconds(command.workflow_run_timeout) or execution
        run = min(run, execution) if execution else run
        task = seconds(command.workflow_task_timeout) or _TASK_TIMEOUT
        values = {
            "task_queue": self._queue(command.task_queue),
            "arguments": _values(command.input),
            "execution_timeout": execution,
            "run_timeout": run,
            "task_timeout": min(task, run) if run else task,
            "parent_close_policy": _enum(ParentClosePolicy.Name(command.parent_close_policy or _TERMINATE)),
            "id_reuse_policy": _enum(WorkflowIdReusePolicy.Name(command.workflow_id_reuse_policy or _ALLOW_DUPLICATE)),
            "cron_schedule": command.cron_schedule,
            "memo": _map(command.memo),
        }
        if command.HasField("retry_policy"):
            values |= _flat_retry(command.retry_policy, filled=True)
        return "child", command.workflow_id, command.workflow_type, values

    def _signal_external_workflow_execution(self, command: Any) -> _Found:
        target = command.child_workflow_id or command.workflow_execution.workflow_id
        values = {
            "arguments": _values(command.args),
            "run_id": command.workflow_execution.run_id,
            "child_only": bool(command.child_workflow_id),
        }
        return "signal", target, command.signal_name, values

    def _request_cancel_external_workflow_execution(self, command: Any) -> _Found:
        about = command.workflow_execution
        return "external_cancel", about.workflow_id, "", {"run_id": about.run_id, "reason": command.reason}

    def _set_patch_marker(self, command: Any) -> _Found:
        return "patch", command.patch_id, command.patch_id, {}

    def _upsert_workflow_search_attributes(self, command: Any) -> _Found:
        return "search_attributes", "", "", {"values": _map(command.search_attributes.indexed_fields)}

    def _modify_workflow_properties(self, command: Any) -> _Found:
        return "memo", "", "", {"values": _map(command.upserted_memo.fields)}

    def _continue_as_new_workflow_execution(self, command: Any) -> _Found:
        task = seconds(command.workflow_task_timeout) or seconds(self._started.workflow_task_timeout)
        values = {
            "task_queue": self._queue(command.task_queue),
            "arguments": _values(command.arguments),
            "run_timeout": seconds(command.workflow_run_timeout) or seconds(self._started.workflow_run_timeout),
            "task_timeout": task,
            "backoff_start_interval": _own_backoff(seconds(command.backoff_start_interval)),
        }
        return "continue_as_new", "", command.workflow_type or self._started.workflow_type.name, values

    def _update_response(self, command: Any) -> _Found | None:
        outcome = command.WhichOneof("response")
        if outcome == "completed":
            return "update", command.protocol_instance_id, "", {"result": [payload_value(command.completed)]}
        if outcome == "rejected":
            return "update", command.protocol_instance_id, "", {"failure": failure_value(command.rejected)}
        return None

    def _schedule_nexus_operation(self, command: Any) -> _Found:
        values = {"endpoint": command.endpoint, "service": command.service, "input": payload_value(command.input)}
        values["schedule_to_close_timeout"] = seconds(command.schedule_to_close_timeout)
        return "nexus", "", command.operation, values

    def _complete_workflow_execution(self, command: Any) -> _Found:
        result = [payload_value(command.result)] if command.HasField("result") else []
        return "complete", "", "", {"result": result}

    def _fail_workflow_execution(self, command: Any) -> _Found:
        return _failed(command.failure)

    def _cancel_workflow_execution(self, command: Any) -> _Found:
        return "cancel", "", "", {"details": _values(command.details.payloads)}


def _cancelled(command: WorkflowCommand) -> list[tuple[str, int]]:
    which = command.WhichOneof("variant")
    if which == "cancel_timer":
        return [("start_timer", command.cancel_timer.seq)]
    if which == "request_cancel_activity":
        return [("schedule_activity", command.request_cancel_activity.seq)]
    if which == "cancel_child_workflow_execution":
        return [("start_child_workflow_execution", command.cancel_child_workflow_execution.child_workflow_seq)]
    if which == "cancel_signal_workflow":
        return [("signal_external_workflow_execution", command.cancel_signal_workflow.seq)]
    return []


def _source(issued: IssuedCommand) -> str | None:
    if issued.source or issued.command.WhichOneof("variant") != "fail_workflow_execution":
        return issued.source
    return failure_source(issued.command.fail_workflow_execution.failure)


def failure_source(failure: Failure) -> str | None:
    """Return ``FILE:LINE`` of the innermost workflow code in a failure's stack trace; None if there is none."""
    found = None
    for line in failure.stack_trace.splitlines():
        head, _, rest = line.strip().partition('File "')
        name, _, where = rest.partition('", line ')
        if not head and where and not is_machinery(name):
            found = f"{name}:{where.partition(',')[0]}"
    return found
