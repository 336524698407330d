"""The scenarios of the feature workflows: every exit of each, and both sides of a patch.

photo-worker replay record --scenarios tests.replay.features.scenarios:SCENARIO_SUITE \\
  --to tests/replay/features/histories
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from temporal_replay_gate.scenarios import (
    Action,
    ActivityOutcome,
    Cancel,
    Expected,
    FaultInjection,
    Query,
    RestartWorker,
    Scenario,
    ScenarioSuite,
    Signal,
    Unblock,
    Update,
    WaitForEvent,
    WaitUntilBlocked,
)
from tests.replay.features.workflows import ACTIVITIES, DISH, WORKFLOWS, BeforePatchWorkflow, Order
from tests.replay.scenarios.images import as_production_raises

COOK, WASH = "feature_cook", "feature_wash"
_COOKED = ActivityOutcome(COOK, "completed")
_WASHED = ActivityOutcome(WASH, "completed")
_UNDER_WAY = ActivityOutcome(COOK, "cancel_requested", None)
_NOT_COOKED = ActivityOutcome(COOK, "failed")

# String constants that the workflows put into payloads.
_CONSTANTS = (
    "soup", "all", "slow", "burnt", "poison", "starter", "main", "refused", "nobody ate",
    "a course failed", "at least one", "soup starter", "soup main", "slow starter", "slow main",
)  # fmt: skip


def _scenario(
    name: str,
    workflow: str,
    about: str,
    expected: Expected,
    *,
    order: Order = Order("soup"),  # noqa: B008 - frozen
    actions: tuple[Action, ...] = (),
    **more: Any,
) -> Scenario:
    return Scenario(
        name, f"feature_{workflow}", about, expected, request=order, actions=actions, keep=_CONSTANTS, **more
    )


def _exits(
    workflow: str, *, done: tuple[ActivityOutcome, ...], failed: Expected, cancelled: Expected, **more: Any
) -> list[Scenario]:
    """Return success, failure by an order that cannot be cooked, and cancellation while cooking or waiting."""
    actions = more.pop("cancel_steps", (WaitForEvent("TimerStarted"), Cancel()))
    events = more.pop("events", {})
    return [
        _scenario(f"{workflow}-success", workflow, "It ends well.", Expected("success", done, events=events)),
        _scenario(f"{workflow}-failure", workflow, "No portions.", failed, order=Order("soup", 0)),
        _scenario(
            f"{workflow}-cancelled", workflow, "Cancelled.", cancelled, order=Order("slow"), actions=actions, **more
        ),
    ]


_SIGNALS = [
    _scenario(
        "signals-success",
        "signals",
        "Two signals, a query, and the work.",
        Expected(
            "success",
            (_COOKED,),
            events={"WorkflowExecutionSignaled": 3, "TimerStarted": 1, "TimerCanceled": 1},
        ),
        order=Order("soup", 3600),
        actions=(
            Signal("extra", ("salt",)),
            Signal("extra", ("pepper",)),
            Query("extras", ["salt", "pepper"]),
            Signal("serve"),
        ),
    ),
    _scenario(
        "signals-timer",
        "signals",
        "Nobody signals: the timer fires.",
        Expected("success", events={"TimerFired": 1, "WorkflowExecutionSignaled": 0}),
    ),
    _scenario(
        "signals-failure",
        "signals",
        "A signal brings what is refused.",
        Expected("failure", failure="Refused"),
        order=Order("soup", 3600),
        actions=(Signal("extra", ("poison",)), Signal("serve")),
    ),
    _scenario(
        "signals-cancelled",
        "signals",
        "Cancelled while it waits.",
        Expected("cancellation", events={"TimerStarted": 1}),
        order=Order("soup", 3600),
        actions=(WaitForEvent("TimerStarted"), Cancel()),
    ),
    _scenario(
        "signals-buffered",
        "signals",
        "All signals are there before the first worker is.",
        Expected("success", (_COOKED,), events={"WorkflowExecutionSignaled": 2}),
        order=Order("soup", 3600),
        actions=(Signal("extra", ("salt",)), Signal("serve")),
        worker_after_actions=True,
    ),
]

_UPDATES = [
    _scenario(
        "updates-success",
        "updates",
        "Two updates are taken, one is refused.",
        Expected("success", (_COOKED, _COOKED), events={"WorkflowExecutionUpdateAccepted": 3}),
        actions=(Update("add", (2,)), Update("add", (0,), refused=True), Update("add", (1,)), Update("close")),
    ),
    _scenario(
        "updates-failure",
        "updates",
        "Closed before anybody ate.",
        Expected("failure", failure="Empty", events={"WorkflowExecutionUpdateCompleted": 1}),
        actions=(Update("close"),),
    ),
    _scenario(
        "updates-cancelled",
        "updates",
        "Cancelled between two updates.",
        Expected("cancellation", (_COOKED,)),
        actions=(Update("add", (2,)), Cancel()),
    ),
]

_CHILDREN = [
    _scenario(
        "menu-success",
        "menu",
        "Two children, each with a signal, one of them as an external workflow.",
        Expected("success", events={"ChildWorkflowExecutionCompleted": 2, "ExternalWorkflowExecutionSignaled": 2}),
    ),
    _scenario(
        "menu-failure",
        "menu",
        "A child fails.",
        Expected("failure", failure="CourseFailed", events={"StartChildWorkflowExecutionInitiated": 2}),
        order=Order("slow", 0),
    ),
    _scenario(
        "menu-cancelled",
        "menu",
        "Cancelled while the children wait.",
        Expected("cancellation", events={"ChildWorkflowExecutionStarted": 2}),
        order=Order("slow"),
        actions=(WaitForEvent("ChildWorkflowExecutionStarted", 2), Cancel()),
    ),
    _scenario(
        "course-success",
        "course",
        "A course is served.",
        Expected("success", (_COOKED,), events={"WorkflowExecutionSignaled": 1}),
        actions=(Signal("serve"),),
    ),
    _scenario(
        "course-failure",
        "course",
        "A course of no portions.",
        Expected("failure", (_NOT_COOKED,), failure=None),
        order=Order("soup", 0),
    ),
    _scenario(
        "course-cancelled",
        "course",
        "Nobody serves the course.",
        Expected("cancellation", (_COOKED,)),
        actions=(WaitForEvent("ActivityTaskCompleted"), Cancel()),
    ),
]

_BATCH = [
    _scenario("batch-success", "batch", "Three runs.", Expected("success", (_COOKED,), runs=3), order=Order("soup", 3)),
    _scenario(
        "batch-failure",
        "batch",
        "The second run fails.",
        Expected("failure", (_COOKED,), failure="Burnt", runs=2),
        order=Order("burnt", 2),
    ),
    _scenario(
        "batch-cancelled",
        "batch",
        "The only run is cancelled while it waits.",
        Expected("cancellation", (_COOKED,)),
        order=Order("slow"),
        actions=(WaitForEvent("TimerStarted"), Cancel()),
    ),
]


def _patched(side: str, washed: tuple[ActivityOutcome, ...], **more: Any) -> list[Scenario]:
    """Return the exits of one side of the patch."""
    ran = (_COOKED, *washed)
    patches = ("wash-up",) if washed else ()
    return [
        _scenario(
            f"{side}-success", "patched", f"{side}: it ends well.", Expected("success", ran, patches=patches), **more
        ),
        _scenario(
            f"{side}-failure",
            "patched",
            f"{side}: it fails.",
            Expected("failure", ran, failure="Burnt", patches=patches),
            order=Order("burnt"),
            **more,
        ),
        _scenario(
            f"{side}-cancelled",
            "patched",
            f"{side}: cancelled while it waits.",
            Expected("cancellation", ran, patches=patches),
            order=Order("slow"),
            actions=(WaitForEvent("TimerStarted"), Cancel()),
            **more,
        ),
    ]


_TIMERS = _exits(
    "timers",
    done=(_COOKED,),
    failed=Expected("failure", (_NOT_COOKED,)),
    cancelled=Expected("cancellation", (_COOKED,), events={"TimerStarted": 3}),
    cancel_steps=(WaitForEvent("TimerStarted", 3), Cancel()),
    events={"TimerStarted": 2, "TimerFired": 1, "TimerCanceled": 1},
)
_LOCAL = [
    *_exits(
        "local",
        done=(),
        failed=Expected("failure", failure="NoPortions", events={"MarkerRecorded": 1}),
        cancelled=Expected("cancellation", events={"MarkerRecorded": 1}),
        events={"MarkerRecorded": 1},
    ),
    _scenario(
        "local-retried",
        "local",
        "The second attempt succeeds.",
        Expected("success", events={"MarkerRecorded": 1}),
        injections=(FaultInjection(COOK, "fail", lambda: ValueError("not yet"), (1,)),),
    ),
]
_ATTRIBUTES = _exits(
    "attributes",
    done=(_COOKED,),
    failed=Expected("failure", (_NOT_COOKED,), events={"UpsertWorkflowSearchAttributes": 1}),
    cancelled=Expected("cancellation", (_COOKED,)),
    events={"UpsertWorkflowSearchAttributes": 2, "WorkflowPropertiesModified": 1},
)
_SCOPES = [
    _scenario(
        "scopes-success",
        "scopes",
        "Work is given up, other work ends.",
        Expected("success", (_WASHED, _COOKED), events={"TimerCanceled": 1}),
    ),
    _scenario(
        "scopes-failure",
        "scopes",
        "Cooking fails; cleaning up comes first.",
        Expected("failure", (_WASHED, _NOT_COOKED, _WASHED)),
        order=Order("soup", 0),
    ),
    _scenario(
        "scopes-cancelled",
        "scopes",
        "Cancelled behind the shield: what is shielded ends, then cleaning up.",
        Expected("cancellation", (_WASHED, _WASHED)),
        injections=(FaultInjection(WASH, "hold"),),
        actions=(WaitUntilBlocked(WASH), Cancel(), WaitForEvent("WorkflowTaskCompleted", 3), Unblock(WASH)),
    ),
    _scenario(
        "scopes-cancelled-late",
        "scopes",
        "Cancelled while cooking.",
        Expected("cancellation", (_WASHED, _UNDER_WAY, _WASHED)),
        injections=(FaultInjection(COOK, "hold"),),
        actions=(WaitUntilBlocked(COOK), Cancel()),
    ),
    _scenario(
        "scopes-worker-restarted",
        "scopes",
        "The worker is replaced while cooking.",
        Expected("success", (_WASHED, _COOKED)),
        injections=(FaultInjection(COOK, "hold"),),
        actions=(WaitUntilBlocked(COOK), RestartWorker()),
    ),
]

SCENARIOS: tuple[Scenario, ...] = (
    *_SIGNALS,
    *_UPDATES,
    *_CHILDREN,
    *_BATCH,
    *_patched("unpatched", (), workflows=(BeforePatchWorkflow,)),
    *_patched("patched", (_WASHED,)),
    *_TIMERS,
    *_LOCAL,
    *_ATTRIBUTES,
    *_SCOPES,
)


def _activities(scenario: Scenario, application: None) -> Sequence[Callable[..., Any]]:
    return ACTIVITIES


async def _prepare(scenario: Scenario, application: None, workflow_id: str) -> Any:
    return scenario.request


async def _register_attributes(client: Client) -> None:
    try:
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                namespace=client.namespace,
                search_attributes={DISH.name: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD},
            )
        )
    except RPCError as error:
        if error.status != RPCStatusCode.ALREADY_EXISTS:
            raise


SCENARIO_SUITE = ScenarioSuite(
    scenarios=SCENARIOS,
    workflows=lambda: WORKFLOWS,
    activities=_activities,
    prepare=_prepare,
    code="tests.replay.features.workflows:WORKFLOWS",
    raised=as_production_raises,
    setup=_register_attributes,
)
