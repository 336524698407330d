"""The state of a simulated workflow execution: its history, its tasks, and what it waits for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.bridge.proto.workflow_activation.workflow_activation_pb2 import WorkflowActivationJob
from temporalio.bridge.proto.workflow_commands.workflow_commands_pb2 import WorkflowCommand

from tests.crash.simulation.core import TASK_TIMEOUT

if TYPE_CHECKING:
    from tests.crash.simulation.activities import Activity


class Stale(Exception):
    """The report is about a task, an attempt or an execution that has ended already."""


@dataclass(frozen=True)
class Event:
    """One event of a history: its type, and the attributes that the contract tests compare."""

    name: str
    about: str = ""


@dataclass(frozen=True)
class Activation:
    """A further activation within one workflow task: the resolution of local activities."""

    jobs: tuple[WorkflowActivationJob, ...]
    at: datetime


@dataclass(frozen=True)
class DoneTask:
    """A workflow task that a worker completed."""

    jobs: tuple[WorkflowActivationJob, ...]
    at: datetime
    commands: tuple[WorkflowCommand, ...]
    flags: frozenset[int] = frozenset()
    """The SDK's flags of its behaviour in the task."""
    later: tuple[Activation, ...] = ()
    """The activations after the first one."""


@dataclass(frozen=True)
class Parent:
    """The parent of an execution, and the number by which the parent knows it."""

    execution: Execution
    seq: int


@dataclass
class Child:
    """A child workflow of an execution, from its initiation to its end."""

    seq: int
    workflow_id: str
    close_policy: str
    started: bool = False


@dataclass(eq=False)
class Query:
    """A client's query, to which a worker responds."""

    name: str
    arguments: tuple[Payload, ...]
    token: int = 0
    """The worker's task; 0 if no worker has it."""
    until: datetime | None = None
    """The time at which another worker gets it."""
    result: Payload | None = None
    failure: Failure | None = None

    @property
    def done(self) -> bool:
        """Return whether it has a response."""
        return self.result is not None or self.failure is not None


@dataclass
class Update:
    """A client's update: admitted, then accepted or rejected, then completed."""

    update_id: str
    name: str
    arguments: tuple[Payload, ...]
    accepted: bool = False
    refused: bool = False
    """Whether its workflow closed before it saw the update."""
    result: Payload | None = None
    failure: Failure | None = None

    @property
    def done(self) -> bool:
        """Return whether it has an outcome."""
        return self.refused or self.result is not None or self.failure is not None


@dataclass
class Task:
    """A workflow task that a worker runs."""

    token: int
    until: datetime
    jobs: tuple[WorkflowActivationJob, ...]
    updates: tuple[str, ...] = ()
    """The ids of the updates that are delivered with it."""
    speculative: bool = False
    """Whether it exists for updates alone: if all are rejected, the history does not show it."""


@dataclass(eq=False)
class Execution:
    """One run of a workflow."""

    workflow_id: str
    run_id: str
    kind: str
    arguments: tuple[Payload, ...]
    started: datetime
    first_run_id: str = ""
    continued_from: Execution | None = None
    parent: Parent | None = None
    task_timeout: timedelta = TASK_TIMEOUT
    status: str = "running"
    closed: datetime | None = None
    result: Payload | None = None
    failure: Failure | None = None
    history: list[Event] = field(default_factory=list)
    attempts: list[tuple[str, int]] = field(default_factory=list)
    """Each activity that ended, with the number of its last attempt."""
    unexpected: Counter[str] = field(default_factory=Counter)
    """The number of attempts with an unexpected error, by activity type."""
    done: list[DoneTask] = field(default_factory=list)
    waiting: list[WorkflowActivationJob] = field(default_factory=list)
    wanted: bool = False
    """Whether a workflow task is due although there are no new jobs for the code."""
    buffered: list[tuple[Event, WorkflowActivationJob | None]] = field(default_factory=list)
    """The events that arrived while a worker runs a task; they follow the task's events."""
    reason: str = ""
    """The reason of a termination by an operator."""
    task: Task | None = None
    not_before: datetime | None = None
    """The earliest time of the next attempt of a failed workflow task."""
    failed_tasks: int = 0
    lost_tasks: int = 0
    """The attempts of the present task that ended without effect."""
    activities: dict[int, Activity] = field(default_factory=dict)
    timers: dict[int, datetime] = field(default_factory=dict)
    """The time at which each timer fires, by number."""
    children: dict[int, Child] = field(default_factory=dict)
    updates: dict[str, Update] = field(default_factory=dict)
    undelivered: list[str] = field(default_factory=list)
    """The ids of the updates that no completed task has accepted or rejected."""
    requests: set[str] = field(default_factory=set)
    """The ids of the clients' requests that took effect, so that a repeated request has no further effect."""
    cancel_requested: bool = False

    @property
    def events(self) -> list[str]:
        """The types of the events of its history."""
        return [event.name for event in self.history]

    @property
    def running(self) -> bool:
        """Return whether it is not closed."""
        return self.status == "running"

    def record(
        self, name: str, about: str = "", job: WorkflowActivationJob | None = None, *, task: bool = False
    ) -> None:
        """Record an event from outside, with the job for the code; ``task`` wants a workflow task without a job.

        While a worker runs a task, the event waits until the task has ended.
        """
        self.wanted |= task
        if self.task is not None:
            self.buffered.append((Event(name, about), job))
            return
        self.history.append(Event(name, about))
        if job is not None:
            self.waiting.append(job)

    def note(self, name: str, about: str = "") -> None:
        """Record an event of a task or of its commands, which never waits."""
        self.history.append(Event(name, about))

    def flush(self) -> bool:
        """Record the events that waited for the end of the task; return whether there were any.

        As on the server, ends of activities and of children come last.
        """
        found = sorted(self.buffered, key=lambda each: each[0].name in _LAST)
        self.buffered = []
        for event, job in found:
            self.history.append(event)
            if job is not None:
                self.waiting.append(job)
        return bool(found)


_LAST = frozenset(
    {f"ActivityTask{end}" for end in ("Completed", "Failed", "TimedOut", "Canceled")}
    | {f"ChildWorkflowExecution{end}" for end in ("Completed", "Failed", "TimedOut", "Canceled", "Terminated")}
)
