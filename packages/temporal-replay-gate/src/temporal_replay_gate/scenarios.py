"""Scenarios as data: what happens to one workflow execution, and how it must end.

The same scenario drives ``record`` and the tests. Recording is not automated:
a history shows what the code of its release did, and one that is recorded again in every run only
shows that today's code agrees with itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

if TYPE_CHECKING:
    from temporalio.client import Client

    from temporal_replay_gate.histories import Exit

__all__ = [
    "Action",
    "ActivityOutcome",
    "Cancel",
    "Expected",
    "FaultInjection",
    "Outcome",
    "Query",
    "RestartWorker",
    "Scenario",
    "ScenarioSuite",
    "Signal",
    "Terminate",
    "Unblock",
    "Update",
    "WaitForEvent",
    "WaitUntilBlocked",
    "joined",
]

Outcome = Literal["completed", "failed", "timed_out", "canceled", "cancel_requested"]


@dataclass(frozen=True)
class FaultInjection:
    """A fault in an activity's attempts, for faults that no service can produce at a given moment.

    ``fail`` raises ``error`` in place of the activity; ``lose_reply`` runs the activity and then raises, as
    if the worker died between its commit and its response; ``hold`` waits for ``Unblock`` and then runs the
    activity; ``hang`` never returns. ``attempts`` are counted from 1; empty means every attempt. ``times`` bounds the
    number of injections in all, for an activity that is scheduled more than once.
    """

    activity: str
    kind: Literal["fail", "lose_reply", "hold", "hang"]
    error: Callable[[], Exception] | None = None
    attempts: tuple[int, ...] = ()
    times: int | None = None

    def matches(self, activity: str, attempt: int) -> bool:
        """Tell whether this fault applies to an attempt of the activity."""
        return activity == self.activity and (not self.attempts or attempt in self.attempts)


@dataclass(frozen=True)
class WaitUntilBlocked:
    """Wait until an attempt of the activity is held or hangs."""

    activity: str


@dataclass(frozen=True)
class Unblock:
    """Let held attempts of the activity continue."""

    activity: str


@dataclass(frozen=True)
class Cancel:
    """Request cancellation of the workflow, and wait until the history records the request."""


@dataclass(frozen=True)
class Terminate:
    """Terminate the workflow: its code gets no chance to react."""


@dataclass(frozen=True)
class Signal:
    """Send a signal to the workflow."""

    name: str
    args: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Update:
    """Send an update and wait for its result; with ``refused`` it must fail."""

    name: str
    args: tuple[Any, ...] = ()
    refused: bool = False


@dataclass(frozen=True)
class Query:
    """Send a query and compare its result with ``expected``."""

    name: str
    expected: Any


@dataclass(frozen=True)
class WaitForEvent:
    """Wait until the history has ``count`` events of a type, such as ``TimerStarted``."""

    event: str
    count: int = 1


@dataclass(frozen=True)
class RestartWorker:
    """Stop the worker, which drops its sticky cache, and start another one."""


Action = WaitUntilBlocked | Unblock | Cancel | Terminate | Signal | Update | Query | WaitForEvent | RestartWorker


@dataclass(frozen=True)
class ActivityOutcome:
    """One expected activity. ``attempts`` is None if the history does not record them or their number is irrelevant."""

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
    """Event type to the number of such events, for what the activities do not show."""
    runs: int = 1
    """Number of runs of a continue-as-new chain; ``exit`` and the other fields describe the last run."""


@dataclass(frozen=True)
class Scenario:
    """One named scenario of one workflow type. ``limit`` is the time within which it must end."""

    name: str
    workflow: str
    about: str
    expected: Expected
    request: Any = None
    """What the suite's ``prepare`` makes the workflow's input from."""
    injections: tuple[FaultInjection, ...] = ()
    actions: tuple[Action, ...] = ()
    worker_after_actions: bool = False
    """Start the first worker only after the actions."""
    workflows: tuple[type, ...] = ()
    """Workflow classes of an earlier release, in place of the suite's."""
    keep: tuple[str, ...] = ()
    """String constants of the workflow that scrubbing does not mask."""
    limit: timedelta = timedelta(seconds=90)
    skips_time: bool = False
    """Skip waits in which nothing happens; the server must support time skipping, as Temporal's dev server can."""


@dataclass(frozen=True)
class ScenarioSuite:
    """Scenarios with the code that runs them.

    ``prepare`` makes a workflow's input from a scenario and the workflow id. ``application`` says whether the
    scenarios need the application that the project's hooks make; if not, ``activities`` and ``prepare`` get None.
    """

    scenarios: Sequence[Scenario]
    workflows: Callable[[], Sequence[type]]
    activities: Callable[[Scenario, Any], Sequence[Callable[..., Any]]]
    prepare: Callable[[Scenario, Any, str], Awaitable[Any]]
    code: str = ""
    """Dotted path of today's workflow classes for the replay: ``module:attribute``; empty for the hooks' one."""
    application: bool = False
    workflow_id: Callable[[Scenario], str] | None = None
    """Makes the workflow id; if None, it is a random UUID."""
    setup: Callable[[Client], Awaitable[None]] | None = None
    """Prepares the namespace, for example registers search attributes."""
    raised: Callable[[Exception], Exception] = lambda error: error
    """Converts an injected error as the worker's own interceptors convert an activity's error."""


def joined(suites: Sequence[ScenarioSuite]) -> ScenarioSuite:
    """Return one suite with the scenarios of all, each of which runs as in its own suite.

    Raises ``ValueError`` if two scenarios have the same name, or if suites differ in ``code`` or ``raised``: these hold
    for a whole run.
    """
    if len(suites) == 1:
        return suites[0]
    owners = {scenario.name: suite for suite in suites for scenario in suite.scenarios}
    names = [scenario.name for suite in suites for scenario in suite.scenarios]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two scenarios have the name {twice[0]!r}")
    if len({suite.code for suite in suites}) > 1 or len({suite.raised for suite in suites}) > 1:
        raise ValueError("suites of one run must agree in code and raised")

    async def setup(client: Client) -> None:
        for suite in suites:
            if suite.setup is not None:
                await suite.setup(client)

    def workflow_id(scenario: Scenario) -> str:
        own = owners[scenario.name].workflow_id
        return str(uuid4()) if own is None else own(scenario)

    return ScenarioSuite(
        scenarios=[scenario for suite in suites for scenario in suite.scenarios],
        workflows=lambda: list(dict.fromkeys(kind for suite in suites for kind in suite.workflows())),
        activities=lambda scenario, application: owners[scenario.name].activities(scenario, application),
        prepare=lambda scenario, application, own_id: owners[scenario.name].prepare(scenario, application, own_id),
        code=suites[0].code,
        application=any(suite.application for suite in suites),
        workflow_id=workflow_id,
        setup=setup,
        raised=suites[0].raised,
    )
