"""A workflow that issues one command of each kind: the base of the code mutations.

The mutations change its code, so it must stay as small as it is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy


@dataclass
class Order:
    """What is to be cooked; ``bell`` is the id of a workflow that hears of it."""

    dish: str
    bell: str


@activity.defn
def wash(dish: str) -> str:
    """Return the dish, washed."""
    return f"washed {dish}"


@activity.defn
def cut(dish: str, pieces: int) -> str:
    """Return the dish in pieces."""
    return f"{dish} in {pieces}"


@activity.defn
def taste(dish: str) -> int:
    """Return how much salt is missing."""
    return len(dish) % 3


@workflow.defn(name="planted_oven")
class Oven:
    """The child."""

    @workflow.run
    async def run(self, dish: str) -> str:
        """Return the dish, baked."""
        return f"baked {dish}"


@workflow.defn(name="planted_bell")
class Bell:
    """Hears of each dish until it is told to stop."""

    def __init__(self) -> None:
        self._rung: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        """Wait for the first dish."""
        await workflow.wait_condition(lambda: bool(self._rung))
        return self._rung

    @workflow.signal
    def ring(self, dish: str) -> None:
        """Note a dish."""
        self._rung.append(dish)


@workflow.defn(name="planted_kitchen")
class Kitchen:
    """Wash, rest, cut, bake, taste, ring."""

    def __init__(self) -> None:
        self._salt = 0

    @workflow.run
    async def run(self, order: Order) -> str:
        """Cook one order."""
        washed = await workflow.execute_activity(
            wash,
            order.dish,
            start_to_close_timeout=timedelta(minutes=1),
            retry_policy=RetryPolicy(maximum_attempts=3),
        )
        await workflow.sleep(0.05)
        pieces = 2
        if workflow.patched("finer"):
            pieces = 4
        workflow.upsert_memo({"dish": order.dish})
        first, second = await asyncio.gather(
            workflow.execute_activity(cut, args=[washed, pieces], start_to_close_timeout=timedelta(minutes=1)),
            workflow.execute_activity(taste, washed, start_to_close_timeout=timedelta(minutes=1)),
        )
        baked = await workflow.execute_child_workflow(
            Oven.run, first, id=f"{workflow.info().workflow_id}-oven", execution_timeout=timedelta(hours=1)
        )
        spoon = await workflow.execute_local_activity(taste, baked, start_to_close_timeout=timedelta(seconds=10))
        try:
            await workflow.wait_condition(lambda: self._salt > 0, timeout=timedelta(seconds=30))
        except TimeoutError:
            self._salt = 1
        bell: workflow.ExternalWorkflowHandle[Bell] = workflow.get_external_workflow_handle_for(Bell.run, order.bell)
        await bell.signal(Bell.ring, baked)
        return f"{baked} with {self._salt + second + spoon} salt"

    @workflow.signal
    def salt(self, pinches: int) -> None:
        """Add salt."""
        self._salt += pinches
