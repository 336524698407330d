"""Small workflows of the kind that Temporal's samples show, and the scenarios that recorded their histories.

With a Temporal server at TEMPORAL_ADDRESS, in this directory:

    replay-gate record --scenarios greetings:SUITE --to histories --missing
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from temporal_replay_gate.scenarios import (
        ActivityOutcome,
        Cancel,
        Expected,
        FaultInjection,
        RestartWorker,
        Scenario,
        ScenarioSuite,
        Signal,
        WaitForEvent,
        WaitUntilBlocked,
    )


@dataclass
class Guest:
    """Who is greeted, and in what language."""

    name: str
    language: str = "en"


@dataclass
class Book:
    """What one run of the waiting room hands to the next."""

    greeted: int = 0
    closed: bool = False


@activity.defn
def compose(guest: Guest) -> str:
    """Return a greeting."""
    return f"Hello, {guest.name}!" if guest.language == "en" else f"Bonjour, {guest.name} !"


@workflow.defn(name="greeting")
class Greeting:
    """One activity with a retry policy; a patch adds a pause before it."""

    @workflow.run
    async def run(self, guest: Guest) -> str:
        """Return the greeting."""
        if workflow.patched("pause"):
            await workflow.sleep(0.05)
        return await workflow.execute_activity(
            compose,
            guest,
            start_to_close_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=10), maximum_attempts=3),
        )


@workflow.defn(name="greeting")
class GreetingBeforePause:
    """The workflow ``greeting`` of the release before the patch."""

    @workflow.run
    async def run(self, guest: Guest) -> str:
        """Return the greeting."""
        return await workflow.execute_activity(
            compose,
            guest,
            start_to_close_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=10), maximum_attempts=3),
        )


@workflow.defn(name="waiting_room")
class WaitingRoom:
    """Collects signals until it is closed, greets each guest at once, and continues as new every second guest."""

    def __init__(self) -> None:
        self._waiting: list[Guest] = []
        self._closed = False

    @workflow.run
    async def run(self, book: Book) -> int:
        """Return the number of guests."""
        greeted = book.greeted
        self._closed = self._closed or book.closed
        while greeted < book.greeted + 2:
            await workflow.wait_condition(lambda: bool(self._waiting) or self._closed)
            if not self._waiting:
                break
            guest = self._waiting.pop(0)
            if guest.name == "nobody":
                raise ApplicationError("a guest without a name", type="nameless")
            async with asyncio.timeout(30):
                await workflow.execute_activity(compose, guest, start_to_close_timeout=timedelta(seconds=10))
            greeted += 1
        if greeted == book.greeted + 2:
            workflow.continue_as_new(Book(greeted, self._closed))
        return greeted

    @workflow.signal
    def enter(self, guest: Guest) -> None:
        """Let a guest wait."""
        self._waiting.append(guest)

    @workflow.signal
    def close(self) -> None:
        """Refuse all further guests."""
        self._closed = True


WORKFLOWS = [Greeting, WaitingRoom]

_ADA, _LOUIS = Guest("Ada"), Guest("Louis", "fr")
_COMPOSED = ActivityOutcome("compose", "completed")


def _away() -> Exception:
    return ApplicationError("the printer is away", type="printer_away")


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "success",
        "greeting",
        "A guest is greeted.",
        Expected("success", (_COMPOSED,), patches=("pause",)),
        request=_ADA,
    ),
    Scenario(
        "success-before-pause",
        "greeting",
        "A guest is greeted, before there was a pause.",
        Expected("success", (_COMPOSED,)),
        request=_LOUIS,
        workflows=(GreetingBeforePause,),
    ),
    Scenario(
        "failure",
        "greeting",
        "The activity fails at every attempt.",
        Expected("failure", (ActivityOutcome("compose", "failed", 3),), patches=("pause",)),
        request=_ADA,
        injections=(FaultInjection("compose", "fail", _away),),
    ),
    Scenario(
        "cancelled",
        "greeting",
        "Cancelled while the activity runs.",
        Expected("cancellation", (ActivityOutcome("compose", "cancel_requested", None),), patches=("pause",)),
        request=_ADA,
        injections=(FaultInjection("compose", "hold"),),
        actions=(WaitUntilBlocked("compose"), Cancel()),
    ),
    Scenario(
        "closed",
        "waiting_room",
        "Two guests are greeted in the first of two runs.",
        Expected("success", runs=2),
        request=Book(),
        actions=(Signal("enter", (_ADA,)), Signal("enter", (_LOUIS,)), Signal("close")),
    ),
    Scenario(
        "nameless",
        "waiting_room",
        "A guest without a name.",
        Expected("failure", (), failure="nameless"),
        request=Book(),
        actions=(Signal("enter", (Guest("nobody"),)),),
        keep=("nobody", "a guest without a name"),
    ),
    Scenario(
        "left",
        "waiting_room",
        "Cancelled while nobody waits, after a restart of the worker.",
        Expected("cancellation"),
        request=Book(),
        actions=(WaitForEvent("WorkflowTaskCompleted"), RestartWorker(), Cancel()),
    ),
)


def _activities(scenario: Scenario, application: Any) -> Sequence[Any]:
    return [compose]


async def _prepare(scenario: Scenario, application: Any, workflow_id: str) -> Any:
    return scenario.request


SUITE = ScenarioSuite(
    scenarios=SCENARIOS,
    workflows=lambda: WORKFLOWS,
    activities=_activities,
    prepare=_prepare,
    code="greetings:WORKFLOWS",
)
