"""Updates that are accepted, rejected, failed, and overtaken by the end of their workflow; and continue-as-new."""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ApplicationError
from temporalio.workflow import ParentClosePolicy

from tests.crash.contract.scenario import Ask, Family, Scenario


@workflow.defn
class Account:
    """Keeps a sum until it is closed."""

    def __init__(self) -> None:
        self._sum = 0
        self._closed = False
        self._paid = False

    @workflow.run
    async def run(self, waits: bool) -> int:
        """Return the sum, once all updates are done if it waits for them."""
        await workflow.wait_condition(lambda: self._closed)
        if waits:
            await workflow.wait_condition(workflow.all_handlers_finished)
        return self._sum

    @workflow.update
    async def add(self, amount: int) -> int:
        """Add an amount, after a moment if it is large."""
        if amount > 10:
            await workflow.sleep(0.1)
        if amount > 100:
            raise ApplicationError("too much")
        self._sum += amount
        return self._sum

    @add.validator
    def positive(self, amount: int) -> None:
        """Refuse amounts below zero."""
        if amount < 0:
            raise ApplicationError("below zero")

    @workflow.update(unfinished_policy=workflow.HandlerUnfinishedPolicy.ABANDON)
    async def wait(self) -> str:
        """Wait until it is paid."""
        await workflow.wait_condition(lambda: self._paid)
        return "paid"

    @workflow.signal
    def pay(self) -> None:
        """End the waiting updates."""
        self._paid = True

    @workflow.signal
    def close(self) -> None:
        """End the account."""
        self._closed = True


@workflow.defn
class Relay:
    """Hears words; after each second one it continues as new, with what it heard."""

    def __init__(self) -> None:
        self._heard: list[str] = []
        self._over = False

    @workflow.run
    async def run(self, heard: list[str], as_kind: str) -> list[str]:
        """Return all words."""
        self._heard = [*heard, *self._heard]
        before = len(heard)
        await workflow.wait_condition(lambda: len(self._heard) >= before + 2 or self._over)
        if not self._over:
            workflow.continue_as_new(args=[self._heard, as_kind], workflow=as_kind or "Relay")
        return self._heard

    @workflow.signal
    def hear(self, word: str) -> None:
        """Take a word."""
        self._over = word == "over"
        self._heard.append(word)

    @workflow.query
    def heard(self) -> list[str]:
        """Return what it heard."""
        return self._heard

    @workflow.update
    def count(self) -> int:
        """Return how much it heard."""
        return len(self._heard)


@workflow.defn
class Finale:
    """Ends what another type began."""

    @workflow.run
    async def run(self, heard: list[str], as_kind: str) -> list[str]:
        """Return what the other heard, and its own type."""
        return [*heard, as_kind]


@workflow.defn
class Renewed:
    """Starts a child, which continues as new, or continues as new itself."""

    def __init__(self) -> None:
        self._goes = False

    @workflow.run
    async def run(self, policy: int, again: bool) -> str:
        """Return what the child returns."""
        here = workflow.info().workflow_id
        if again:
            return f"again {workflow.info().continued_run_id is not None}"
        child = await workflow.start_child_workflow(
            Relay.run,
            args=[[], ""],
            id=f"{here}-kid",
            parent_close_policy=ParentClosePolicy(policy),
        )
        if not policy:
            return " ".join(await child)
        await workflow.wait_condition(lambda: self._goes)
        return workflow.continue_as_new(args=[policy, True])

    @workflow.signal
    def go(self) -> None:
        """Continue as new."""
        self._goes = True


_TASK = "WorkflowTaskCompleted"
_CLOSE = Ask(_TASK, "signal", "close")
_WAIT = Ask(_TASK, "update", "wait")
_ACCEPTED, _COMPLETED = "WorkflowExecutionUpdateAccepted", "WorkflowExecutionUpdateCompleted"
_CLOSE_AFTER = Ask(_COMPLETED, "signal", "close")


def _add(amount: int, *, waits: bool = False) -> Ask:
    return Ask(_TASK, "update", "add", (amount,), waits=waits)


def _account(name: str, *asks: Ask, waits: bool = True) -> Scenario:
    return Scenario(name, Account, (waits,), asks)


UPDATES = Family(
    [
        _account("accepted and completed at once", _add(1), _CLOSE_AFTER),
        _account("completed later", _add(50), _CLOSE_AFTER),
        _account("fails after it was accepted", _add(500), _CLOSE_AFTER),
        _account("rejected", _add(-1, waits=True), _add(2), _CLOSE_AFTER),
        _account("unknown", Ask(_TASK, "update", "missing", waits=True), _CLOSE),
        _account("a signal ends it", _WAIT, Ask(_ACCEPTED, "signal", "pay"), _CLOSE_AFTER),
        _account(
            "the workflow waits for it",
            _WAIT,
            Ask(_ACCEPTED, "signal", "close"),
            Ask("WorkflowExecutionSignaled", "signal", "pay"),
        ),
        _account("the workflow ends before it", _WAIT, Ask(_ACCEPTED, "signal", "close"), waits=False),
        _account("too late", _CLOSE, Ask("WorkflowExecutionCompleted", "update", "add", (1,))),
    ],
    [Account],
)


def _hear(*words: tuple[str, int], to: str = "") -> tuple[Ask, ...]:
    """Return signals with words, each after so many tasks of the present run."""
    return tuple(Ask(_TASK, "signal", "hear", (word,), to, times=times) for word, times in words)


def _renewed(policy: ParentClosePolicy, end: str) -> Scenario:
    go = Ask(_TASK, "signal", "go", of="-kid")
    name = f"parent continues, {policy.name.lower()}"
    return Scenario(name, Renewed, (int(policy), False), (go,), others={"-kid": end})


_TWO = (("one", 1), ("two", 2))

CONTINUED = Family(
    [
        Scenario("twice, with signals", Relay, ([], ""), _hear(*_TWO, ("three", 1), ("four", 2), ("over", 1))),
        Scenario("as another type", Relay, ([], "Finale"), _hear(*_TWO)),
        Scenario(
            "with a query and an update",
            Relay,
            ([], ""),
            (
                *_hear(*_TWO),
                Ask(_TASK, "query", "heard"),
                Ask(_TASK, "update", "count", waits=True),
                *_hear(("over", 2)),
            ),
        ),
        Scenario(
            "as a child",
            Renewed,
            (0, False),
            _hear(*_TWO, ("over", 1), to="-kid"),
            others={"-kid": "completed"},
        ),
        _renewed(ParentClosePolicy.TERMINATE, "terminated"),
        _renewed(ParentClosePolicy.ABANDON, "running"),
        _renewed(ParentClosePolicy.REQUEST_CANCEL, "cancelled"),
    ],
    [Relay, Finale, Renewed],
)
