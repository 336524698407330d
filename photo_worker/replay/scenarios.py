"""Scenarios as data: what happens to one workflow execution, and how it must end.

The same scenario drives ``photo-worker replay record`` and the tests. Recording is not automated:
a history says what the code of its day did, and one that is made again with every run says only
that today's code agrees with itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from photo_worker.replay.target_names import PRODUCT_WORKFLOWS

if TYPE_CHECKING:
    from temporalio.client import Client

    from photo_worker.bootstrap import Application
    from photo_worker.replay.histories import Exit

Outcome = Literal["completed", "failed", "timed_out", "canceled", "cancel_requested"]


@dataclass(frozen=True)
class FaultInjection:
    """What happens to an activity's attempts where no service can be made to do it on the spot.

    ``fail`` raises ``error`` in place of the activity; ``lose_reply`` runs it and then raises, as
    when a worker dies between its commit and its answer; ``hold`` waits for ``Release`` and then runs
    it; ``hang`` never comes back. ``attempts`` are counted from 1; empty means every one. ``times`` bounds how often
    it happens in all, where an activity is scheduled more than once.
    """

    activity: str
    kind: Literal["fail", "lose_reply", "hold", "hang"]
    error: Callable[[], Exception] | None = None
    attempts: tuple[int, ...] = ()
    times: int | None = None

    def matches(self, activity: str, attempt: int) -> bool:
        """Tell whether this interferes with an attempt."""
        return activity == self.activity and (not self.attempts or attempt in self.attempts)


@dataclass(frozen=True)
class WaitUntilBlocked:
    """Wait until an attempt of the activity is held or hangs."""

    activity: str


@dataclass(frozen=True)
class Unblock:
    """Let held attempts of the activity go on."""

    activity: str


@dataclass(frozen=True)
class Cancel:
    """Ask the workflow to stop, and wait until that stands in its history."""


@dataclass(frozen=True)
class Terminate:
    """End the workflow without asking it."""


@dataclass(frozen=True)
class Signal:
    """Send a signal."""

    name: str
    args: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Update:
    """Send an update and wait for its result; ``refused`` says that it must fail."""

    name: str
    args: tuple[Any, ...] = ()
    refused: bool = False


@dataclass(frozen=True)
class Query:
    """Ask a query and compare its answer."""

    name: str
    answer: Any


@dataclass(frozen=True)
class WaitForEvent:
    """Wait until the history holds ``count`` events of a type, such as ``TimerStarted``."""

    event: str
    count: int = 1


@dataclass(frozen=True)
class RestartWorker:
    """Stop the worker, its sticky cache with it, and run another one."""


Action = WaitUntilBlocked | Unblock | Cancel | Terminate | Signal | Update | Query | WaitForEvent | RestartWorker


@dataclass(frozen=True)
class ActivityOutcome:
    """One activity of the expected course. ``attempts`` is None where the history does not tell, or it matters not."""

    activity: str
    outcome: Outcome
    attempts: int | None = 1


@dataclass(frozen=True)
class Expected:
    """How a scenario must end. ``failure`` is the type of the failure that closes it."""

    exit: Exit
    activities: tuple[ActivityOutcome, ...] = ()
    failure: str | None = None
    patches: tuple[str, ...] = ()
    events: Mapping[str, int] = field(default_factory=dict)
    """How many events of a type there must be, for what matters beside activities."""
    runs: int = 1
    """How many runs a continue-as-new chain has; ``exit`` and the rest are the last one's."""


@dataclass(frozen=True)
class Scenario:
    """One named course of events of one workflow type."""

    name: str
    workflow: str
    about: str
    expected: Expected
    request: Any = None
    """What the playbook makes the workflow's input from."""
    injections: tuple[FaultInjection, ...] = ()
    actions: tuple[Action, ...] = ()
    worker_after_actions: bool = False
    """Run the first worker only when the steps are done."""
    workflows: tuple[type, ...] = ()
    """Workflow classes of an earlier release, in place of the playbook's."""
    keep: tuple[str, ...] = ()
    """Constants of the workflow that scrubbing leaves as they are."""
    limit: timedelta = timedelta(seconds=90)
    skips_time: bool = False
    """Waits in which nothing happens pass at once; the server has to allow it, as Temporal's dev server can."""


@dataclass(frozen=True)
class ScenarioSuite:
    """Scenarios with what runs them.

    ``prepare`` makes a workflow's input from a scenario and the workflow id. ``application`` says
    whether the services of the product are needed; without it activities get None.
    """

    scenarios: Sequence[Scenario]
    workflows: Callable[[], Sequence[type]]
    activities: Callable[[Scenario, Application | None], Sequence[Callable[..., Any]]]
    prepare: Callable[[Scenario, Application | None, str], Awaitable[Any]]
    code: str = PRODUCT_WORKFLOWS
    """Where the replay finds the workflow classes of today: ``module:attribute``."""
    application: bool = True
    workflow_id: Callable[[Scenario], str] | None = None
    """Makes a workflow id; a random UUID without it."""
    setup: Callable[[Client], Awaitable[None]] | None = None
    """Prepares the namespace, for example its search attributes."""
