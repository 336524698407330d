"""Small workflows for features of Temporal that the product does not use yet; the gate must check them all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.common import RetryPolicy, SearchAttributeKey
from temporalio.exceptions import ActivityError, ApplicationError, ChildWorkflowError, is_cancelled_exception

DISH = SearchAttributeKey.for_keyword("FeatureDish")
_STEP = timedelta(seconds=30)
_TRIES = RetryPolicy(initial_interval=timedelta(milliseconds=50), maximum_attempts=3)


@dataclass(frozen=True)
class Order:
    """The input of a feature workflow."""

    dish: str
    portions: int = 1
    done: int = 0


@activity.defn
async def feature_cook(order: Order) -> str:
    """Return what was cooked; an order of no portions cannot be."""
    if order.portions < 1:
        raise ApplicationError("nothing to cook", type="NoPortions", non_retryable=True)
    return f"{order.portions} x {order.dish}"


@activity.defn
async def feature_wash(dish: str) -> str:
    """Clean up after a dish."""
    return dish


ACTIVITIES: list[Callable[..., Any]] = [feature_cook, feature_wash]


async def cook(order: Order) -> str:
    """Cook as every workflow here does."""
    return await workflow.execute_activity(feature_cook, order, start_to_close_timeout=_STEP, retry_policy=_TRIES)


@workflow.defn(name="feature_signals")
class SignalsWorkflow:
    """Waits for a signal or a timeout; a query returns the state."""

    def __init__(self) -> None:
        self._extras: list[str] = []
        self._served = False

    @workflow.run
    async def run(self, order: Order) -> str:
        """Return the dish with its extras, or without them if no signal to serve came."""
        try:
            await workflow.wait_condition(lambda: self._served, timeout=timedelta(seconds=order.portions))
        except TimeoutError:
            return order.dish
        if "poison" in self._extras:
            raise ApplicationError("refused", type="Refused", non_retryable=True)
        return await cook(Order(", ".join([order.dish, *self._extras]), order.portions))

    @workflow.signal
    def extra(self, name: str) -> None:
        """Add an extra."""
        self._extras.append(name)

    @workflow.signal
    def serve(self) -> None:
        """End the waiting."""
        self._served = True

    @workflow.query
    def extras(self) -> list[str]:
        """Return the extras so far."""
        return self._extras


@workflow.defn(name="feature_updates")
class UpdatesWorkflow:
    """Counts by updates that a validator may refuse, one of which runs an activity."""

    def __init__(self) -> None:
        self._portions = 0
        self._closed = False

    @workflow.run
    async def run(self, order: Order) -> int:
        """Return how many portions there were at closing time."""
        await workflow.wait_condition(lambda: self._closed)
        await workflow.wait_condition(workflow.all_handlers_finished)
        if not self._portions:
            raise ApplicationError("nobody ate", type="Empty", non_retryable=True)
        return self._portions

    @workflow.update
    async def add(self, portions: int) -> int:
        """Cook more portions and return how many there are."""
        await cook(Order("soup", portions))
        self._portions += portions
        return self._portions

    @add.validator
    def _check(self, portions: int) -> None:
        if portions < 1:
            raise ValueError("at least one")

    @workflow.update
    def close(self) -> None:
        """Close."""
        self._closed = True


@workflow.defn(name="feature_course")
class CourseWorkflow:
    """A child workflow: one course, which waits for the signal to serve."""

    def __init__(self) -> None:
        self._served = False

    @workflow.run
    async def run(self, order: Order) -> str:
        """Return what was cooked."""
        made = await cook(order)
        await workflow.wait_condition(lambda: self._served)
        return made

    @workflow.signal
    def serve(self) -> None:
        """Let the course end."""
        self._served = True


@workflow.defn(name="feature_menu")
class MenuWorkflow:
    """A parent: two children side by side, with ids that follow from its own, each sent a signal."""

    @workflow.run
    async def run(self, order: Order) -> list[str]:
        """Return what the courses were, or fail as the first of them did."""
        parent = workflow.info().workflow_id
        names = ["starter", "main"]
        try:
            children = [
                await workflow.start_child_workflow(
                    CourseWorkflow.run, Order(f"{order.dish} {name}", order.portions), id=f"{parent}-{name}"
                )
                for name in names
            ]
            if order.dish != "slow":
                await workflow.get_external_workflow_handle_for(CourseWorkflow.run, f"{parent}-starter").signal(
                    CourseWorkflow.serve
                )
                await children[1].signal(CourseWorkflow.serve)
            return list(await asyncio.gather(*children))
        except ChildWorkflowError as error:
            if is_cancelled_exception(error):
                raise
            raise ApplicationError("a course failed", type="CourseFailed", non_retryable=True) from error


@workflow.defn(name="feature_batch")
class BatchWorkflow:
    """A chain of runs: one portion each, then it goes on as new."""

    @workflow.run
    async def run(self, order: Order) -> int:
        """Return how many portions all runs together made."""
        await cook(Order(order.dish))
        order = replace(order, done=order.done + 1)
        if order.dish == "burnt" and order.done == order.portions:
            raise ApplicationError("burnt", type="Burnt", non_retryable=True)
        if order.done < order.portions:
            workflow.continue_as_new(order)
        if order.dish == "slow":
            await asyncio.sleep(3600)
        return order.done


async def _patched_end(order: Order) -> str:
    if order.dish == "slow":
        await asyncio.sleep(3600)
    if order.dish == "burnt":
        raise ApplicationError("burnt", type="Burnt", non_retryable=True)
    return order.dish


@workflow.defn(name="feature_patched")
class PatchedWorkflow:
    """Today's code: it washes up after cooking, which its first release did not."""

    @workflow.run
    async def run(self, order: Order) -> str:
        """Return what was cooked."""
        await cook(order)
        if workflow.patched("wash-up"):
            await workflow.execute_activity(feature_wash, order.dish, start_to_close_timeout=_STEP)
        return await _patched_end(order)


@workflow.defn(name="feature_patched")
class BeforePatchWorkflow:
    """The first release of ``feature_patched``, which recorded the unpatched histories."""

    @workflow.run
    async def run(self, order: Order) -> str:
        """Return what was cooked."""
        await cook(order)
        return await _patched_end(order)


@workflow.defn(name="feature_timers")
class TimersWorkflow:
    """Timers side by side: one fires, one is cancelled because the work beside it was faster."""

    @workflow.run
    async def run(self, order: Order) -> str:
        """Return what was cooked, and fail an order of no portions."""
        alarm: asyncio.Future[Any] = asyncio.ensure_future(asyncio.sleep(3600))
        await workflow.sleep(timedelta(milliseconds=200), summary="warm up")
        try:
            work: asyncio.Future[Any] = asyncio.ensure_future(cook(order))
            done, _ = await workflow.wait([work, alarm], return_when=asyncio.FIRST_COMPLETED)
            assert work in done
            made = str(work.result())
        finally:
            alarm.cancel()
        if order.dish == "slow":
            await asyncio.sleep(3600)
        return made


@workflow.defn(name="feature_local")
class LocalActivitiesWorkflow:
    """Local activities: their results stand in markers."""

    @workflow.run
    async def run(self, order: Order) -> str:
        """Return what was cooked on the worker itself."""
        made: str = await workflow.execute_local_activity(
            feature_cook, order, start_to_close_timeout=_STEP, retry_policy=_TRIES
        )
        if order.dish == "slow":
            await asyncio.sleep(3600)
        return made


@workflow.defn(name="feature_attributes")
class AttributesWorkflow:
    """Search attributes and a memo, changed on the way."""

    @workflow.run
    async def run(self, order: Order) -> str:
        """Return what was cooked."""
        workflow.upsert_search_attributes([DISH.value_set(order.dish)])
        workflow.upsert_memo({"portions": order.portions})
        made = await cook(order)
        workflow.upsert_search_attributes([DISH.value_unset()])
        if order.dish == "slow":
            await asyncio.sleep(3600)
        return made


@workflow.defn(name="feature_scopes")
class ScopesWorkflow:
    """Cancellation scopes: work that is given up, work that is shielded, and cleaning up after a cancellation."""

    @workflow.run
    async def run(self, order: Order) -> str:
        """Return what was cooked; a cancellation lets the washing end first."""
        given_up = asyncio.ensure_future(self._wait_for_ever())
        # The loop runs it up to its first wait, so that there is a timer to cancel.
        await asyncio.sleep(0.1)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        washing: asyncio.Future[Any] = asyncio.ensure_future(
            workflow.execute_activity(feature_wash, order.dish, start_to_close_timeout=_STEP, retry_policy=_TRIES)
        )
        try:
            await asyncio.shield(washing)
            return await cook(order)
        except (ActivityError, asyncio.CancelledError):
            await washing
            await workflow.execute_activity(feature_wash, "all", start_to_close_timeout=_STEP, retry_policy=_TRIES)
            raise

    async def _wait_for_ever(self) -> None:
        await asyncio.sleep(3600)


WORKFLOWS: list[type] = [
    SignalsWorkflow,
    UpdatesWorkflow,
    CourseWorkflow,
    MenuWorkflow,
    BatchWorkflow,
    PatchedWorkflow,
    TimersWorkflow,
    LocalActivitiesWorkflow,
    AttributesWorkflow,
    ScopesWorkflow,
]
