"""Child workflows: their starts and ends, each parent close policy, each way to cancel them, and signals to others."""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.exceptions import ApplicationError, CancelledError, ChildWorkflowError, WorkflowAlreadyStartedError
from temporalio.workflow import ChildWorkflowCancellationType, ParentClosePolicy

from tests.crash.contract.scenario import Ask, Family, Scenario


def _here(name: str) -> str:
    return f"{workflow.info().workflow_id}-{name}"


@workflow.defn
class Kid:
    """Waits for a word, and ends as it says; if it is cancelled, it waits all the same, and then ends or carries on."""

    def __init__(self) -> None:
        self._word = ""

    @workflow.run
    async def run(self, carries_on: bool) -> str:
        """Return the word."""
        try:
            await workflow.wait_condition(lambda: bool(self._word))
        except asyncio.CancelledError:
            await workflow.wait_condition(lambda: bool(self._word))
            if not carries_on:
                raise
        if self._word == "fail":
            raise ApplicationError("told to fail")
        return self._word

    @workflow.signal
    def say(self, word: str) -> None:
        """Take the word."""
        self._word = word


class Stepwise:
    """Takes each further step when it is told to, so that nothing else happens meanwhile."""

    def __init__(self) -> None:
        self._steps = 0
        self._taken = 0

    @workflow.signal
    def go(self) -> None:
        """Take a step."""
        self._steps += 1

    async def _step(self) -> None:
        self._taken += 1
        await workflow.wait_condition(lambda: self._steps >= self._taken)


@workflow.defn
class Mother:
    """Waits for a child, and says how it ended."""

    @workflow.run
    async def run(self, policy: int, cancellation: int, carries_on: bool) -> str:
        """Return how the child ended."""
        try:
            return "kid says " + await workflow.execute_child_workflow(
                Kid.run,
                carries_on,
                id=_here("kid"),
                parent_close_policy=ParentClosePolicy(policy),
                cancellation_type=ChildWorkflowCancellationType(cancellation),
            )
        except ChildWorkflowError as error:
            return f"{error}: {type(error.cause).__name__} {error.cause}"


@workflow.defn
class Patient(Stepwise):
    """Is cancelled while it waits for a child, and goes on for a moment."""

    @workflow.run
    async def run(self, cancellation: int) -> str:
        """Return how it knows the child to have ended."""
        try:
            return await workflow.execute_child_workflow(
                Kid.run,
                False,
                id=_here("kid"),
                cancellation_type=ChildWorkflowCancellationType(cancellation),
            )
        except ChildWorkflowError as error:
            await self._step()
            return str(error)


@workflow.defn
class Leaver(Stepwise):
    """Starts a child and, once it is told to, leaves it behind."""

    @workflow.run
    async def run(self, policy: int) -> None:
        """Start the child."""
        await workflow.start_child_workflow(
            Kid.run, False, id=_here("kid"), parent_close_policy=ParentClosePolicy(policy)
        )
        await self._step()


@workflow.defn
class Namesakes(Stepwise):
    """Starts the same child twice, and another that it cancels before the server learns of it."""

    @workflow.run
    async def run(self) -> list[str]:
        """Return what happened to the second and the third."""
        found: list[str] = []
        await workflow.start_child_workflow(Kid.run, False, id=_here("kid"))
        await self._step()
        try:
            await workflow.start_child_workflow(Kid.run, False, id=_here("kid"))
        except WorkflowAlreadyStartedError as error:
            found.append(error.message)
        unsent = asyncio.create_task(workflow.execute_child_workflow(Kid.run, False, id=_here("none")))
        await asyncio.sleep(0)
        unsent.cancel()
        (outcome,) = await asyncio.gather(unsent, return_exceptions=True)
        found.append(type(outcome).__name__)
        return found


@workflow.defn
class Guardian(Stepwise):
    """Starts a child and talks to it by its handle."""

    @workflow.run
    async def run(self) -> str:
        """Return what the child says."""
        kid = await workflow.start_child_workflow(Kid.run, False, id=_here("kid"))
        await self._step()
        await kid.signal(Kid.say, "")
        return await kid


@workflow.defn
class Teller(Stepwise):
    """Signals other workflows, and requests their cancellation."""

    @workflow.run
    async def run(self) -> list[str]:
        """Return what happened to each request."""
        found: list[str] = []
        other = workflow.get_external_workflow_handle_for(Kid.run, _here("kid"))
        missing = workflow.get_external_workflow_handle(_here("missing"))
        await workflow.start_child_workflow(
            Kid.run, False, id=_here("kid"), parent_close_policy=ParentClosePolicy.ABANDON
        )
        await self._step()
        await other.signal(Kid.say, "")
        await self._step()
        try:
            await missing.signal("say", "two")
        except ApplicationError as error:
            found.append(error.message)
        # Cancelled before it is sent: the server does not learn of it.
        unsent = asyncio.create_task(other.signal(Kid.say, "never"))
        await asyncio.sleep(0)
        unsent.cancel()
        found.append(type((await asyncio.gather(unsent, return_exceptions=True))[0]).__name__)
        await other.cancel()
        await self._step()
        try:
            await missing.cancel()
        except (ApplicationError, CancelledError) as error:
            found.append(error.message)
        return found


_TRY, _WAIT, _ABANDON = (
    int(each)
    for each in (
        ChildWorkflowCancellationType.TRY_CANCEL,
        ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
        ChildWorkflowCancellationType.ABANDON,
    )
)
_TASK = "WorkflowTaskCompleted"
_CANCEL = Ask(_TASK, "cancel", of="-kid")


def _say(word: str, times: int = 1) -> Ask:
    return Ask(_TASK, "signal", "say", (word,), "-kid", times=times)


def _go(times: int = 1, of: str = "-kid") -> Ask:
    return Ask(_TASK, "signal", "go", of=of, times=times)


def _left(policy: ParentClosePolicy, end: str) -> list[Scenario]:
    """Return what becomes of a child whose parent closes."""
    name = policy.name.lower()
    rest = (_say("bye", times=2),) if end == "cancelled" else ()
    terminate = Ask(_TASK, "terminate", "enough", of="-kid")
    return [
        Scenario(f"parent completes, {name}", Leaver, (int(policy),), (_go(), *rest), others={"-kid": end}),
        Scenario(
            f"parent is terminated, {name}",
            Mother,
            (int(policy), _WAIT, False),
            (terminate, *rest),
            others={"-kid": end},
        ),
    ]


def _raised(name: str, end: str, *asks: Ask, carries_on: bool = False) -> Scenario:
    """Return a scenario of a parent that waits for the end of its child, whatever happens."""
    return Scenario(name, Mother, (1, _WAIT, carries_on), asks, others={"-kid": end})


CHILDREN = Family(
    [
        _raised("completes", "completed", _say("hello")),
        _raised("fails", "failed", _say("fail")),
        _raised("is terminated", "terminated", Ask(_TASK, "terminate", "enough", to="-kid")),
        _raised("is cancelled", "cancelled", Ask(_TASK, "cancel", to="-kid"), _say("bye", 2)),
        _raised("is cancelled with its parent", "cancelled", _CANCEL, _say("bye", 2)),
        _raised("completes although it is cancelled", "completed", _CANCEL, _say("still here", 2), carries_on=True),
        # The server drops the request of a parent that has closed.
        Scenario(
            "parent ends without waiting for it",
            Mother,
            (2, _TRY, False),
            (_CANCEL, Ask("WorkflowExecutionCompleted", "signal", "say", ("hello",), "-kid", of="")),
            others={"-kid": "completed"},
        ),
        Scenario(
            "parent goes on without waiting for it",
            Patient,
            (_TRY,),
            (_CANCEL, _say("bye", 2), Ask("ChildWorkflowExecutionCanceled", "signal", "go")),
            others={"-kid": "cancelled"},
        ),
        Scenario("parent abandons it", Mother, (2, _ABANDON, False), (_CANCEL,), others={"-kid": "running"}),
        *_left(ParentClosePolicy.TERMINATE, "terminated"),
        *_left(ParentClosePolicy.ABANDON, "running"),
        *_left(ParentClosePolicy.REQUEST_CANCEL, "cancelled"),
        Scenario("has a namesake", Namesakes, (), (_go(),), others={"-kid": "terminated"}),
        Scenario("is signalled", Guardian, (), (_go(), _say("thanks", 2)), others={"-kid": "completed"}),
        Scenario(
            "others are signalled and cancelled",
            Teller,
            (),
            (_go(), _go(2), _go(3)),
            others={"-kid": "running"},
        ),
    ],
    [Kid, Mother, Patient, Leaver, Namesakes, Guardian, Teller],
)
