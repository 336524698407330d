"""The simulated Temporal server: what clients and workers ask of it, and virtual time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta

from temporalio.api.common.v1 import Payload
from temporalio.bridge.proto.workflow_activation.workflow_activation_pb2 import (
    FireTimer,
    WorkflowActivationJob,
)
from temporalio.bridge.proto.workflow_commands.workflow_commands_pb2 import (
    ContinueAsNewWorkflowExecution,
    QueryResult,
    WorkflowCommand,
)

from tests.crash.simulation.core import TASK_TIMEOUT, cancelled
from tests.crash.simulation.execution import Activation, DoneTask, Execution, Query, Stale, Task
from tests.crash.simulation.refusals import Unknown
from tests.crash.simulation.updates import UpdateLedger


class Service(UpdateLedger):
    """Executions by workflow id. ``now`` returns the time; the state changes only by calls."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        super().__init__(now)
        self.deleted: list[str] = []
        self.task_attempts_lost = 0
        self._queries: list[tuple[Execution, Query]] = []
        """The queries without a response, each with the run that was the latest when it was asked."""

    # -- what clients do ------------------------------------------------------

    def start(
        self, workflow_id: str, kind: str, arguments: Sequence[Payload], *, task_timeout: timedelta = TASK_TIMEOUT
    ) -> tuple[Execution, bool]:
        """Start an execution, or return the one with this id, running or closed; and whether it is new."""
        known = self.executions.get(workflow_id)
        if known is not None:
            return known, False
        found = self._open(workflow_id, kind, arguments)
        found.task_timeout = task_timeout
        return found, True

    def start_again(self, workflow_id: str) -> tuple[Execution, bool]:
        """Restart a workflow that ended without a result; return the running execution, and whether it is new.

        Raises ``KeyError``.
        """
        known = self.executions[workflow_id]
        if known.status in {"running", "completed"}:
            return known, False
        return self._open(workflow_id, known.kind, known.arguments), True

    def cancel(self, workflow_id: str) -> None:
        """Request the cancellation of a running workflow once. Raises ``KeyError`` and ``Stale``."""
        self._request_cancel(self._running(workflow_id))

    def terminate(self, workflow_id: str, reason: str = "") -> None:
        """Close a running workflow at once. Raises ``KeyError`` and ``Stale``."""
        self._terminate(self._running(workflow_id), reason)
        self._settle()

    def delete(self, workflow_id: str) -> bool:
        """Delete a workflow; return whether there was one."""
        return self.executions.pop(workflow_id, None) is not None

    def signal(self, workflow_id: str, name: str, arguments: Sequence[Payload] = (), request_id: str = "") -> None:
        """Signal a running workflow. Raises ``KeyError`` and ``Stale``.

        A request is repeated with the same id, and has one effect.
        """
        self._signal_once(self._running(workflow_id), name, arguments, request_id)

    def signal_with_start(
        self,
        workflow_id: str,
        kind: str,
        arguments: Sequence[Payload],
        name: str,
        signal_arguments: Sequence[Payload] = (),
        request_id: str = "",
    ) -> Execution:
        """Signal a workflow, which is started if it does not run; return the run."""
        known = self.executions.get(workflow_id)
        found = known if known is not None and known.running else self._open(workflow_id, kind, arguments)
        self._signal_once(found, name, signal_arguments, request_id)
        return found

    def _signal_once(self, found: Execution, name: str, arguments: Sequence[Payload], request_id: str) -> None:
        if not request_id or request_id not in found.requests:
            found.requests.add(request_id)
            self._signal(found, name, arguments)

    def query(self, workflow_id: str, name: str, arguments: Sequence[Payload] = ()) -> Query:
        """Ask a workflow, running or closed; a worker responds. Raises ``KeyError``."""
        found = Query(name, tuple(arguments))
        self._queries.append((self.executions[workflow_id], found))
        return found

    def _running(self, workflow_id: str) -> Execution:
        found = self.executions[workflow_id]
        if not found.running:
            raise Stale(f"{workflow_id} is closed")
        return found

    # -- what workers do: workflow tasks -------------------------------------------

    def tasks(self) -> list[Execution]:
        """Return the executions with a workflow task for a worker."""
        return [
            found
            for found in self.executions.values()
            if (found.waiting or found.wanted or found.undelivered)
            and found.task is None
            and found.running
            and (found.not_before is None or found.not_before <= self._now())
        ]

    def give_task(self, execution: Execution) -> Task:
        """Start a workflow task on a worker."""
        speculative = bool(execution.done) and not (execution.waiting or execution.wanted)
        execution.wanted = False
        jobs = (*execution.waiting, *self._deliver(execution))
        updates = tuple(execution.undelivered)
        task = Task(self._token(), self._now() + execution.task_timeout, jobs, updates, speculative)
        execution.task = task
        execution.note("WorkflowTaskScheduled")
        execution.note("WorkflowTaskStarted")
        return task

    def complete_task(
        self,
        execution: Execution,
        token: int,
        commands: Sequence[WorkflowCommand],
        flags: Collection[int] = (),
        later: Sequence[Activation] = (),
    ) -> bool:
        """Apply a task's commands; return whether the history shows the task.

        Raises ``Stale`` if the task has timed out or the execution has closed.
        """
        task = self._task(execution, token)
        closes = any(_closes(command) for command in commands)
        if closes and execution.buffered:
            # New events arrived: the server refuses to close, and the task runs again with all events.
            self._lose_task(execution, "WorkflowTaskFailed", "UNHANDLED_COMMAND")
            # The commands are not in the history, so that the worker must drop its state.
            raise Stale("something came in between")
        jobs, kept = self._responses(execution, task, commands)
        execution.task = None
        if task.speculative and not kept and not later:
            # The task existed for updates alone, and all were rejected.
            del execution.history[-2:]
            execution.flush()
            return False
        execution.waiting = []
        # A workflow's time is the start of its task, in a replay too.
        at = task.until - execution.task_timeout
        execution.done.append(DoneTask(jobs, at, kept, frozenset(flags), tuple(later)))
        execution.lost_tasks = 0
        execution.note("WorkflowTaskCompleted")
        for command in kept:
            self._obey(execution, command)
        # An activity that has not started ends at once, in the history after the task's commands.
        for activity in list(execution.activities.values()):
            if activity.cancel_requested and activity.attempt is None:
                self._end(execution, activity, "ActivityTaskCanceled", cancelled(activity.about.seq))
        execution.flush()
        self._settle()
        return True

    def heartbeat_task(
        self,
        execution: Execution,
        token: int,
        commands: Sequence[WorkflowCommand],
        flags: Collection[int] = (),
        later: Sequence[Activation] = (),
    ) -> Task:
        """Complete a task whose local activities still run, and start the next one. Raises ``Stale``."""
        self.complete_task(execution, token, commands, flags, later)
        return self.give_task(execution)

    def fail_task(self, execution: Execution, token: int) -> None:
        """Record a failed workflow task: a worker gets it again after a wait, and the job continues.

        Raises ``Stale``.
        """
        self._task(execution, token)
        execution.failed_tasks += 1
        execution.not_before = self._now() + TASK_TIMEOUT
        self._lose_task(execution, "WorkflowTaskFailed", "NON_DETERMINISTIC_ERROR")

    def _task(self, execution: Execution, token: int) -> Task:
        if not self.current(execution) or not execution.running or execution.task is None:
            raise Stale("the workflow is closed, or the task has timed out")
        if execution.task.token != token:
            raise Stale("the task was given to another worker")
        return execution.task

    def _lose_task(self, execution: Execution, event: str, about: str = "") -> None:
        """End a task without effect. Like the server, keep only the first attempt of several in the history."""
        execution.task = None
        execution.wanted = True
        if execution.lost_tasks:
            del execution.history[-2:]
        else:
            execution.note(event, about)
        execution.lost_tasks = 0 if execution.flush() else execution.lost_tasks + 1

    def _obey(self, execution: Execution, command: WorkflowCommand) -> None:
        match command.WhichOneof("variant"):
            case "schedule_activity":
                self._schedule_activity(execution, command.schedule_activity)
            case "request_cancel_activity":
                self._cancel_activity(execution, command.request_cancel_activity.seq)
            case "start_timer":
                wait = command.start_timer.start_to_fire_timeout.ToTimedelta()
                execution.timers[command.start_timer.seq] = self._now() + wait
                execution.note("TimerStarted", str(wait.total_seconds()))
            case "cancel_timer":
                self._cancel_timer(execution, command.cancel_timer.seq)
            case "set_patch_marker":
                execution.note("MarkerRecorded", f"core_patch {command.set_patch_marker.patch_id}")
                execution.note("UpsertWorkflowSearchAttributes")
            case "schedule_local_activity":
                # The core sends its result as a marker.
                execution.note("MarkerRecorded", f"core_local_activity {command.schedule_local_activity.activity_type}")
            case "update_response":
                self._respond(execution, command.update_response)
            case other:
                if not self._obey_relation(execution, command) and not self._obey_end(execution, command):
                    raise Unknown(f"the simulation does not know the command {other}")

    def _obey_end(self, execution: Execution, command: WorkflowCommand) -> bool:
        """Apply a command that closes the run; return whether it is one."""
        match command.WhichOneof("variant"):
            case "complete_workflow_execution":
                execution.result = command.complete_workflow_execution.result
                self._close(execution, "completed", "WorkflowExecutionCompleted")
            case "fail_workflow_execution":
                execution.failure = command.fail_workflow_execution.failure
                self._close(execution, "failed", "WorkflowExecutionFailed", execution.failure.message)
            case "cancel_workflow_execution":
                self._close(execution, "cancelled", "WorkflowExecutionCanceled")
            case "continue_as_new_workflow_execution":
                self._continue(execution, command.continue_as_new_workflow_execution)
            case _:
                return False
        return True

    def _continue(self, execution: Execution, about: ContinueAsNewWorkflowExecution) -> None:
        kind = about.workflow_type or execution.kind
        self._close(execution, "continued", "WorkflowExecutionContinuedAsNew", kind)
        heir = self._open(
            execution.workflow_id, kind, about.arguments, parent=execution.parent, continued_from=execution
        )
        heir.task_timeout = execution.task_timeout
        self._abandon_updates(execution, heir)

    def _cancel_timer(self, execution: Execution, seq: int) -> None:
        if execution.timers.pop(seq, None) is None:
            # It fired while the task ran: the server takes that back.
            fired = WorkflowActivationJob(fire_timer=FireTimer(seq=seq))
            execution.buffered = [each for each in execution.buffered if each[1] != fired]
        execution.note("TimerCanceled")

    # -- what workers do: queries ----------------------------------------------------

    def queries(self) -> list[tuple[Execution, Query]]:
        """Return the queries for a worker: after the first task, while no other task is due."""
        return [
            (execution, query)
            for execution, query in self._queries
            if query.until is None
            if execution.done and execution.task is None and not (execution.waiting or execution.wanted)
        ]

    def give_query(self, query: Query) -> int:
        """Start a query on a worker; return its token."""
        query.token, query.until = self._token(), self._now() + TASK_TIMEOUT
        return query.token

    def respond_to_query(self, execution: Execution, query: Query, token: int, response: QueryResult) -> None:
        """Record the response. Raises ``Stale``."""
        if query.token != token or (execution, query) not in self._queries:
            raise Stale("the query was given to another worker")
        self._queries.remove((execution, query))
        if response.HasField("failed"):
            query.failure = response.failed
        else:
            query.result = response.succeeded.response

    # -- time ---------------------------------------------------------------------

    def next_deadline(self) -> datetime | None:
        """Return the time of the next timeout, retry or timer."""
        now = self._now()
        found: list[datetime] = []
        for execution in self.executions.values():
            found += execution.timers.values()
            if execution.not_before is not None and execution.not_before > now and execution.running:
                found.append(execution.not_before)
            if execution.task is not None:
                found.append(execution.task.until)
            found += self._activity_deadlines(execution)
        found += [query.until for _, query in self._queries if query.until is not None]
        return min(found, default=None)

    def expire(self) -> None:
        """Time out tasks and attempts that are over their limits, and fire timers."""
        now = self._now()
        for execution in list(self.executions.values()):
            if execution.task is not None and execution.task.until <= now:
                self.task_attempts_lost += 1
                self._lose_task(execution, "WorkflowTaskTimedOut")
            for seq, due in sorted(execution.timers.items(), key=lambda each: each[1]):
                if due <= now:
                    del execution.timers[seq]
                    execution.record("TimerFired", job=WorkflowActivationJob(fire_timer=FireTimer(seq=seq)))
            self._expire_activities(execution)
        for _, query in self._queries:
            if query.until is not None and query.until <= now:
                query.token, query.until = 0, None


def _closes(command: WorkflowCommand) -> bool:
    name = command.WhichOneof("variant") or ""
    return name.endswith("_workflow_execution") and name.split("_")[0] in {"complete", "fail", "cancel", "continue"}
