"""Patch markers, timers, signals and queries, and their cancellation."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from tests.crash.contract.scenario import Ask, Family, Scenario


@workflow.defn
class Patched:
    """Takes the branch of a patch, twice, and later of another that is deprecated."""

    @workflow.run
    async def run(self) -> list[bool]:
        """Return what each call of ``patched`` returned."""
        found = [workflow.patched("first"), workflow.patched("first")]
        await workflow.sleep(0.1)
        workflow.deprecate_patch("second")
        return [*found, workflow.patched("third")]


@workflow.defn
class Sleeper:
    """Sleeps for as long as it is told."""

    @workflow.run
    async def run(self, seconds: float) -> str:
        """Return a word if it could sleep to the end."""
        await workflow.sleep(seconds)
        return "awake"


@workflow.defn
class Impatient:
    """Waits for something that does not happen, for a time, and then does not wait for something else."""

    @workflow.run
    async def run(self) -> list[str]:
        """Return what happened."""
        found: list[str] = []
        try:
            await workflow.wait_condition(lambda: False, timeout=timedelta(seconds=0.2))
        except TimeoutError:
            found.append("too late")
        # Started and cancelled within one task: the server learns of neither.
        with_timer = asyncio.create_task(asyncio.sleep(100))
        await asyncio.sleep(0)
        with_timer.cancel()
        # Started now, cancelled when the other has fired.
        long = asyncio.create_task(asyncio.sleep(100))
        await asyncio.sleep(0.1)
        long.cancel()
        return [*found, str((await asyncio.gather(long, return_exceptions=True))[0].__class__.__name__)]


@workflow.defn
class Stubborn:
    """Cleans up when it is cancelled, and says so, or goes on."""

    @workflow.run
    async def run(self, goes_on: bool) -> str:
        """Return a word if it goes on."""
        try:
            await workflow.sleep(1000)
        except asyncio.CancelledError:
            await workflow.sleep(0.1)
            if not goes_on:
                raise
        return "went on"


@workflow.defn
class Listener:
    """Collects signals until it has enough, and responds to queries on them."""

    def __init__(self) -> None:
        self._heard: list[str] = []

    @workflow.run
    async def run(self, enough: int) -> list[str]:
        """Return what it heard."""
        await workflow.wait_condition(lambda: len(self._heard) >= enough)
        return self._heard

    @workflow.signal
    async def hear(self, word: str) -> None:
        """Take a word after a moment."""
        if word == "slow":
            await workflow.sleep(0.1)
        self._heard.append(word)

    @workflow.query
    def heard(self) -> list[str]:
        """Return what it heard so far."""
        return self._heard

    @workflow.query
    def broken(self, reason: str) -> str:
        """Fail for a reason."""
        raise ApplicationError(reason)


_DONE = "WorkflowTaskCompleted"

BASICS = Family(
    [
        Scenario("patched", Patched),
        Scenario("a timer fires", Sleeper, (0.2,)),
        Scenario("timers are cancelled", Impatient),
        Scenario("cancelled while a timer runs", Sleeper, (1000,), (Ask("TimerStarted", "cancel"),)),
        Scenario("terminated while a timer runs", Sleeper, (1000,), (Ask("TimerStarted", "terminate", "enough"),)),
        Scenario("cleans up when cancelled", Stubborn, (False,), (Ask("TimerStarted", "cancel"),)),
        Scenario("goes on when cancelled", Stubborn, (True,), (Ask("TimerStarted", "cancel"),)),
        Scenario(
            "signals and queries",
            Listener,
            (2,),
            (
                Ask(_DONE, "query", "heard"),
                Ask(_DONE, "signal", "hear", ("slow",)),
                Ask("TimerFired", "query", "heard"),
                Ask("TimerFired", "query", "broken", ("of no use",)),
                Ask("TimerFired", "query", "missing"),
                Ask("TimerFired", "signal", "unknown", ("lost",)),
                Ask(_DONE, "signal", "hear", ("fast",), times=4),
                Ask("WorkflowExecutionCompleted", "query", "heard"),
            ),
        ),
        Scenario("started by a signal", Listener, (1,), first_signal=("hear", ("early",))),
    ],
    [Patched, Sleeper, Impatient, Stubborn, Listener],
)
