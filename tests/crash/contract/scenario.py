"""Scenarios of small workflows, and what can be observed of them on either side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# A workflow that has to be in a state is looked at until then.
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Ask:
    """A client's request, sent once a workflow's history has an event, and no task of it or of the main one is due."""

    after: str
    """The type of the event."""
    kind: str
    """``signal``, ``query``, ``update``, ``cancel`` or ``terminate``."""
    name: str = ""
    args: tuple[Any, ...] = ()
    to: str = ""
    """The end of the id of the workflow that is asked; empty for the main one."""
    of: str | None = None
    """The end of the id of the workflow with the event; that of ``to`` if absent."""
    times: int = 1
    """How often the event is there."""
    busy: bool = False
    """Whether a task may run when it is sent."""
    waits: bool = False
    """Whether the outcome of an update is awaited before the next request."""

    @property
    def awaited(self) -> bool:
        """Return whether the response comes before the next request."""
        return self.waits or self.kind != "update"


@dataclass(frozen=True)
class Scenario:
    """One small workflow and the requests to it."""

    name: str
    workflow: type
    args: tuple[Any, ...] = ()
    asks: tuple[Ask, ...] = ()
    first_signal: tuple[str, tuple[Any, ...]] | None = None
    """The signal with which the workflow is started."""
    task_timeout: float = 10.0
    """The timeout of its workflow tasks in seconds."""
    others: Mapping[str, str] = field(default_factory=dict)
    """The ends of the ids of other workflows to compare, each with the status that it reaches."""


@dataclass(frozen=True)
class Family:
    """The scenarios of one kind of commands, with their workflows and activities."""

    scenarios: Sequence[Scenario]
    workflows: Sequence[type]
    activities: Callable[[Callable[[float], None]], Sequence[Callable[..., Any]]] = lambda nap: ()
    """Returns the activities, which wait by the given function."""


@dataclass(frozen=True)
class Run:
    """One run of a workflow: status, result, and each event with its compared attributes."""

    status: str
    result: Any
    events: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ScenarioOutcome:
    """The observable outcome of a scenario: the runs of each workflow, first to last, and the responses to requests."""

    runs: Mapping[str, tuple[Run, ...]]
    responses: tuple[Any, ...]


def quiet(events: Sequence[str]) -> bool:
    """Return whether no workflow task of a history is due or running, and no further run follows."""
    if "WorkflowExecutionContinuedAsNew" in events:
        return False
    ends = ("WorkflowTaskCompleted", "WorkflowTaskFailed", "WorkflowTaskTimedOut")
    return events.count("WorkflowTaskScheduled") == sum(events.count(end) for end in ends)


def differences(found: ScenarioOutcome, real: ScenarioOutcome) -> list[str]:
    """Return where two outcomes differ, one line each."""
    lines = [] if found.responses == real.responses else [f"responses {found.responses}, really {real.responses}"]
    for name, runs in real.runs.items():
        mine = found.runs[name]
        if len(mine) != len(runs):
            lines.append(f"workflow '{name}': {len(mine)} runs, really {len(runs)}")
        for one, other in zip(mine, runs, strict=False):
            if one != other:
                lines += [f"workflow '{name}': {one.status} {one.result!r}, really {other.status} {other.result!r}"]
                lines += [f"  simulated {' | '.join(map(' '.join, one.events))}"]
                lines += [f"  real      {' | '.join(map(' '.join, other.events))}"]
    return lines
