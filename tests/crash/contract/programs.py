"""Small programs for the enumeration of crash points: right ones, and each with a bug that only a crash shows."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.workflow import ParentClosePolicy

from tests.crash.contract.enumerating import Outside, Program
from tests.crash.simulation.client import SimulatedClient

_LIMIT = timedelta(minutes=10)
_counter = itertools.count(1)


def _activities(outside: Outside) -> Sequence[Callable[..., Any]]:
    @activity.defn(name="happen")
    def happen(name: str) -> None:
        outside.happen(name)

    @activity.defn(name="happen_at_last")
    def happen_at_last(name: str) -> None:
        outside.nap(12)
        if activity.info().attempt < 3:
            raise ApplicationError("not yet")
        outside.happen(name)

    return [happen, happen_at_last]


async def _happen(name: str) -> None:
    await workflow.execute_local_activity("happen", name, start_to_close_timeout=_LIMIT)


# -- signals, updates, queries and continue-as-new ----------------------------------------


@workflow.defn(name="Diary")
class Diary:
    """Writes down each word that it hears, and continues as new after each.

    The server knows a repeated signal only within one run: a word is heard once.
    """

    def __init__(self) -> None:
        self._new: list[str] = []
        self._written: list[str] = []

    @workflow.run
    async def run(self, written: list[str], new: list[str]) -> list[str]:
        """Return all words up to the last one."""
        self._written = written
        self._new = [*new, *(word for word in self._new if word not in [*written, *new])]
        await workflow.wait_condition(lambda: bool(self._new))
        word = self._new.pop(0)
        await _happen(word)
        self._written = [*written, word]
        if word == "end":
            return self._written
        return workflow.continue_as_new(args=self._next())

    def _next(self) -> list[list[str]]:
        return [self._written, self._new]

    @workflow.signal
    def hear(self, word: str) -> None:
        """Take a word."""
        if word not in [*self._written, *self._new]:
            self._new.append(word)

    @workflow.query
    def written(self) -> list[str]:
        """Return what is written down."""
        return self._written


@workflow.defn(name="Diary")
class ForgetfulDiary(Diary):
    """Forgets the words that it heard and has not written down when it continues as new."""

    def _next(self) -> list[list[str]]:
        return [self._written, []]

    @workflow.run
    async def run(self, written: list[str], new: list[str]) -> list[str]:
        """Return all words up to the last one."""
        return await super().run(written, new)


def _dictate(client: SimulatedClient) -> None:
    client.start("diary", "Diary", [], [])
    for word in ("one", "two", "end"):
        client.signal("diary", "hear", word, request_id=word)
        client.sleep(2)
    client.query("diary", "written")


def _diary(code: type) -> Program:
    return Program([code], _dictate, _activities)


# -- updates ----------------------------------------------------------------------------------


@workflow.defn(name="Till")
class Till:
    """Adds amounts until it is closed, each after a moment."""

    def __init__(self) -> None:
        self._sum = 0
        self._closed = False

    @workflow.run
    async def run(self) -> int:
        """Return the sum."""
        await workflow.wait_condition(lambda: self._closed)
        await self._finish()
        return self._sum

    async def _finish(self) -> None:
        await workflow.wait_condition(workflow.all_handlers_finished)

    # The SDK need not warn: the hasty till is a test of what happens then.
    @workflow.update(unfinished_policy=workflow.HandlerUnfinishedPolicy.ABANDON)
    async def add(self, amount: int) -> int:
        """Add an amount."""
        await _happen(f"add {amount}")
        await workflow.sleep(1)
        self._sum += amount
        return self._sum

    @add.validator
    def positive(self, amount: int) -> None:
        """Refuse amounts below zero."""
        if amount < 0:
            raise ApplicationError("below zero")

    @workflow.signal
    def close(self) -> None:
        """End the day."""
        self._closed = True


@workflow.defn(name="Till")
class HastyTill(Till):
    """Does not wait for updates that it has accepted."""

    @workflow.run
    async def run(self) -> int:
        """Return the sum."""
        return await super().run()

    async def _finish(self) -> None:
        return


def _sell(client: SimulatedClient) -> None:
    client.start("till", "Till")
    client.update("till", "add", -1, update_id="refused")
    client.update("till", "add", 2, update_id="sold")
    client.signal("till", "close", request_id="close")


def _shut(client: SimulatedClient) -> None:
    """Close a moment after the last sale, without waiting for its outcome."""
    client.start("till", "Till")
    client.update_later("till", "add", 2, update_id="sold")
    client.sleep(3)
    client.signal("till", "close", request_id="close")


# -- children ------------------------------------------------------------------------------------


@workflow.defn(name="Helper")
class Helper:
    """Helps until it is told to stop, or cancelled, and tidies up."""

    def __init__(self) -> None:
        self._stopped = False

    @workflow.run
    async def run(self) -> str:
        """Return a word if it was told to stop."""
        try:
            await _happen("help")
            await workflow.wait_condition(lambda: self._stopped)
        except asyncio.CancelledError:
            pass
        tidying = asyncio.create_task(_happen("tidy"))
        while not tidying.done():
            # It is cancelled twice at most: by its boss, and by the end of its boss.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(tidying)
        return "stopped"

    @workflow.signal
    def stop(self) -> None:
        """Stop."""
        self._stopped = True


@workflow.defn(name="Boss")
class Boss:
    """Has a helper while it works, and tells it to stop."""

    @workflow.run
    async def run(self) -> str:
        """Return a word if it was not cancelled."""
        helper = await workflow.start_child_workflow("Helper", id="helper", parent_close_policy=self._policy())
        await workflow.sleep(1)
        if workflow.patched("work"):
            await _happen("work")
        await helper.signal("stop")
        return str(await helper)

    def _policy(self) -> ParentClosePolicy:
        return ParentClosePolicy.REQUEST_CANCEL


@workflow.defn(name="Boss")
class CarelessBoss(Boss):
    """Leaves its helper behind if it is cancelled or terminated."""

    @workflow.run
    async def run(self) -> str:
        """Return a word if it was not cancelled."""
        return await super().run()

    def _policy(self) -> ParentClosePolicy:
        return ParentClosePolicy.ABANDON


def _hire(client: SimulatedClient) -> None:
    client.start("boss", "Boss")
    # Usually it has ended long before.
    client.sleep(5)
    client.terminate("boss", "the day is over")


def _dismissed(outcome: Mapping[str, Any]) -> str:
    """Return what is wrong if the boss was terminated in the middle of the day: no child may run, and all is tidy."""
    running = [name for name, (status, _, _) in outcome["workflows"].items() if status == "running"]
    tidy = "helper" not in outcome["workflows"] or "tidy" in outcome["effects"]
    return f"running {running}" if running else "" if tidy else f"effects {outcome['effects']}"


# -- other workflows ------------------------------------------------------------------------


@workflow.defn(name="Inbox")
class Inbox:
    """Confirms what it gets until it is cancelled."""

    @workflow.run
    async def run(self) -> None:
        """Wait for the cancellation."""
        try:
            await workflow.wait_condition(lambda: False)
        except asyncio.CancelledError:
            await _happen("emptied")
            raise

    @workflow.signal
    async def take(self, sender: str) -> None:
        """Confirm a letter."""
        await _happen("taken")
        await workflow.get_external_workflow_handle(sender).signal("confirm")


@workflow.defn(name="Courier")
class Courier:
    """Brings a letter, waits for the confirmation, but not for ever, and closes the inbox."""

    def __init__(self) -> None:
        self._confirmed = 0

    @workflow.run
    async def run(self) -> int:
        """Return how often the letter was confirmed."""
        inbox = workflow.get_external_workflow_handle("inbox")
        await inbox.signal("take", workflow.info().workflow_id)
        await workflow.wait_condition(lambda: self._confirmed > 0, timeout=timedelta(hours=1))
        await inbox.cancel()
        return self._confirmed

    @workflow.signal
    def confirm(self) -> None:
        """Count a confirmation."""
        self._confirmed += 1


def _send(client: SimulatedClient) -> None:
    client.start("inbox", "Inbox")
    client.start("courier", "Courier")


# -- local activities, timers and determinism ---------------------------------------------------


@workflow.defn(name="Chores")
class Chores:
    """Does one thing after the other, the last one slowly and at the third attempt."""

    @workflow.run
    async def run(self) -> str:
        """Return a word at the end."""
        await _happen("first")
        await workflow.sleep(self._moment())
        await workflow.execute_activity(
            "happen", "second", start_to_close_timeout=_LIMIT, retry_policy=RetryPolicy(maximum_attempts=5)
        )
        await workflow.execute_local_activity(
            "happen_at_last",
            "third",
            start_to_close_timeout=_LIMIT,
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), backoff_coefficient=1),
        )
        return "done"

    def _moment(self) -> float:
        return 1.0


@workflow.defn(name="Chores")
class FickleChores(Chores):
    """Waits for another time at each replay."""

    @workflow.run
    async def run(self) -> str:
        """Return a word at the end."""
        return await super().run()

    def _moment(self) -> float:
        return 1.0 + next(_counter)


def _do_chores(client: SimulatedClient) -> None:
    client.start("chores", "Chores")


@dataclass(frozen=True)
class BrokenProgram:
    """A program with a bug: without faults it ends like the right one, and some crash point shows the bug."""

    program: Program
    shows: str
    """What the enumeration says."""


RIGHT: Mapping[str, Program] = {
    "signals and continue-as-new": _diary(Diary),
    "updates": Program([Till], _sell, _activities),
    "an update at the end": Program([Till], _shut, _activities),
    "a child": Program([Boss, Helper], _hire, _activities, ends=_dismissed),
    "signals between workflows": Program([Inbox, Courier], _send, _activities),
    "activities and timers": Program([Chores], _do_chores, _activities),
}

BROKEN: Mapping[str, BrokenProgram] = {
    "signals lost by continue-as-new": BrokenProgram(_diary(ForgetfulDiary), "workflows"),
    "an accepted update that is dropped": BrokenProgram(Program([HastyTill], _shut, _activities), "workflows"),
    "a child that is abandoned": BrokenProgram(
        Program([CarelessBoss, Helper], _hire, _activities, ends=_dismissed), "running ['helper']"
    ),
    "a workflow that is not deterministic": BrokenProgram(
        Program([FickleChores], _do_chores, _activities), "replaying gives other commands"
    ),
    "a local activity that must not run twice": BrokenProgram(
        Program([Chores], _do_chores, _activities, counts_effects=True), "effects"
    ),
}
