"""Runs one scenario on a Temporal server: with a worker of its own, fault injections and actions."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias
from uuid import uuid4

from temporalio import activity
from temporalio.api.common.v1 import TimeSkippingConfig
from temporalio.client import (
    Client,
    OutboundInterceptor,
    StartWorkflowInput,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowHistory,
    WorkflowUpdateFailedError,
)
from temporalio.client import Interceptor as ClientInterceptor
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor, Worker

from temporal_replay_gate import scenarios as play
from temporal_replay_gate.errors import ScenarioDeviated
from temporal_replay_gate.histories import event_name

# The client, the task queue, the workflows, the activities, and the executor of synchronous activities.
MakeWorker: TypeAlias = Callable[[Client, str, Sequence[type], Sequence[Callable[..., Any]], Executor], Worker]

# How many activities of one scenario run at the same time.
MAX_ACTIVITIES = 8

# Long enough not to burden a loaded server.
_PROBE_SECONDS = 0.05


class _FaultInjector(ClientInterceptor, Interceptor):
    """Injects faults into the activities of one scenario's worker.

    It is an interceptor of the client, because the worker is created as in production.
    """

    def __init__(self, injections: Sequence[play.FaultInjection], raised: Callable[[Exception], Exception]) -> None:
        self.injections = injections
        self.raised = raised
        self.blocked: dict[str, asyncio.Event] = {}
        self.unblocked: dict[str, asyncio.Event] = {}
        for injection in injections:
            self.blocked[injection.activity] = asyncio.Event()
            self.unblocked[injection.activity] = asyncio.Event()
        self.stopped = asyncio.Event()
        self.injected: Counter[int] = Counter()

    def should_inject(self, number: int, activity_type: str, attempt: int) -> bool:
        """Tell whether the fault injection ``number`` applies to this attempt, and count it if it does."""
        injection = self.injections[number]
        over = injection.times is not None and self.injected[number] >= injection.times
        if over or not injection.matches(activity_type, attempt):
            return False
        self.injected[number] += 1
        return True

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _FaultInjectingActivities(next, self)

    def end(self, *, for_good: bool) -> None:
        """Release the held attempts: they run their activity or, with ``for_good``, fail without running it."""
        if for_good:
            self.stopped.set()
        for event in self.unblocked.values():
            event.set()


class _FaultInjectingActivities(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, owner: _FaultInjector) -> None:
        super().__init__(next)
        self._owner = owner

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info = activity.info()
        for number, injection in enumerate(self._owner.injections):
            if not self._owner.should_inject(number, info.activity_type, info.attempt):
                continue
            if injection.kind in {"hold", "hang"}:
                self._owner.blocked[info.activity_type].set()
            if injection.kind == "hang":
                await self._owner.stopped.wait()
            elif injection.kind == "hold":
                await self._owner.unblocked[info.activity_type].wait()
            else:
                if injection.kind == "lose_reply":
                    await super().execute_activity(input)
                error = injection.error() if injection.error else RuntimeError("an interference of the scenario")
                # This interceptor is outside of the worker's own ones, so it must convert errors as they do.
                raise self._owner.raised(error)
            if self._owner.stopped.is_set():
                raise ApplicationError("nobody waits for this attempt any more", non_retryable=True)
        return await super().execute_activity(input)


@dataclass
class ScenarioRunner:
    """Runs scenarios with a connected client and a function that creates workers.

    ``task_queue`` replaces the names of the runs' task queues in scrubbed histories. ``application`` is what the
    suite's functions get; None if they need nothing.
    """

    client: Client
    make_worker: MakeWorker
    suite: play.ScenarioSuite
    task_queue: str
    application: Any = None
    queues: dict[str, str] = field(default_factory=dict)
    """Maps each task queue created so far to its name in a scrubbed history."""

    async def run(self, scenario: play.Scenario) -> list[WorkflowHistory]:
        """Run ``scenario`` to its end and return the history of every workflow run, first to last.

        Raises ``ScenarioDeviated`` if the scenario does not end within its limit.
        """
        try:
            async with asyncio.timeout(scenario.limit.total_seconds()):
                return await self._run(scenario)
        except TimeoutError as error:
            seconds = scenario.limit.total_seconds()
            raise ScenarioDeviated(name=scenario.name, reason=f"it did not end within {seconds:g} s") from error

    async def _run(self, scenario: play.Scenario) -> list[WorkflowHistory]:
        queue = f"replay-{secrets.token_hex(6)}"
        self.queues[queue] = self.task_queue
        make_id = self.suite.workflow_id
        workflow_id = make_id(scenario) if make_id else str(uuid4())
        request = await self.suite.prepare(scenario, self.application, workflow_id)
        # No workflow timeout: the server would cap the activities' timeouts at it, and record those.
        client = _with_interceptor(self.client, _SkippingTime()) if scenario.skips_time else self.client
        handle = await client.start_workflow(scenario.workflow, request, id=workflow_id, task_queue=queue)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(_terminate_if_open, self.client.get_workflow_handle(workflow_id))
            worker = _ScenarioWorker(self, scenario, queue)
            stack.push_async_callback(worker.stop, for_good=True)
            if not scenario.worker_after_actions:
                await worker.start()
            for step in scenario.actions:
                await self._run_action(step, scenario, handle, worker)
            if scenario.worker_after_actions:
                await worker.start()
            # The history records a failure; the scenario tells whether it was expected.
            with suppress(WorkflowFailureError):
                await handle.result()
        return await self._histories_of_all_runs(handle)

    async def _run_action(
        self, step: play.Action, scenario: play.Scenario, handle: WorkflowHandle[Any, Any], worker: _ScenarioWorker
    ) -> None:
        match step:
            case play.WaitUntilBlocked(activity=name):
                await worker.injector.blocked[name].wait()
            case play.Unblock(activity=name):
                worker.injector.unblocked[name].set()
            case play.Cancel():
                await handle.cancel()
                await self._await(handle, "WorkflowExecutionCancelRequested", 1)
            case play.Terminate():
                await handle.terminate("by the scenario")
            case play.Signal(name=name, args=args):
                await handle.signal(name, args=args)
            case play.Update(name=name, args=args, refused=refused):
                await _update(scenario, handle, name, args, refused=refused)
            case play.Query(name=name, expected=expected):
                given = await handle.query(name)
                if given != expected:
                    raise ScenarioDeviated(name=scenario.name, reason=f"the query {name} answered {given!r}")
            case play.WaitForEvent(event=event, count=count):
                await self._await(handle, event, count)
            case play.RestartWorker():
                await worker.stop(for_good=False)
                await worker.start()

    async def _await(self, handle: WorkflowHandle[Any, Any], event: str, count: int) -> None:
        while True:
            history = (await handle.fetch_history()).to_json_dict()
            if sum(event_name(found) == event for found in history["events"]) >= count:
                return
            await asyncio.sleep(_PROBE_SECONDS)

    async def _histories_of_all_runs(self, handle: WorkflowHandle[Any, Any]) -> list[WorkflowHistory]:
        """Return the histories of all runs, following each continue-as-new to the next."""
        histories = []
        run_id: str | None = handle.first_execution_run_id
        while run_id:
            history = await self.client.get_workflow_handle(handle.id, run_id=run_id).fetch_history()
            histories.append(history)
            last = history.events[-1]
            run_id = last.workflow_execution_continued_as_new_event_attributes.new_execution_run_id or None
        return histories


async def _terminate_if_open(handle: WorkflowHandle[Any, Any]) -> None:
    """Terminate a workflow that is still open because its scenario failed."""
    try:
        await handle.terminate("the scenario is over")
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise


async def _update(
    scenario: play.Scenario, handle: WorkflowHandle[Any, Any], name: str, args: tuple[Any, ...], *, refused: bool
) -> None:
    try:
        await handle.execute_update(name, args=args)
    except WorkflowUpdateFailedError as error:
        if not refused:
            reason = f"the update {name} failed: {error.cause}"
            raise ScenarioDeviated(name=scenario.name, reason=reason) from error
        return
    if refused:
        raise ScenarioDeviated(name=scenario.name, reason=f"the update {name} was not refused")


class _ScenarioWorker:
    """The worker of one scenario, which the scenario may restart."""

    def __init__(self, runner: ScenarioRunner, scenario: play.Scenario, queue: str) -> None:
        self._runner = runner
        self._scenario = scenario
        self._queue = queue
        self._running: AsyncExitStack | None = None
        self.injector = _FaultInjector(scenario.injections, runner.suite.raised)

    async def start(self) -> None:
        runner, scenario = self._runner, self._scenario
        stack = AsyncExitStack()
        executor = stack.enter_context(ThreadPoolExecutor(MAX_ACTIVITIES))
        worker = runner.make_worker(
            _with_interceptor(runner.client, self.injector),
            self._queue,
            scenario.workflows or runner.suite.workflows(),
            runner.suite.activities(scenario, runner.application),
            executor,
        )
        await stack.enter_async_context(worker)
        self._running = stack

    async def stop(self, *, for_good: bool) -> None:
        """Stop the worker. Held attempts are released first, because the shutdown waits for them."""
        self.injector.end(for_good=for_good)
        if self._running is not None:
            running, self._running = self._running, None
            await running.aclose()


class _SkippingTime(ClientInterceptor):
    """Enables the server's time skipping for the workflows that it starts; the client has no option for that."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _SkippingOutbound(next)


class _SkippingOutbound(OutboundInterceptor):
    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        return await super().start_workflow(replace(input, time_skipping_config=TimeSkippingConfig(enabled=True)))


def _with_interceptor(client: Client, interceptor: ClientInterceptor) -> Client:
    """Return a client of the same connection with ``interceptor`` added, which its workers run outside of their own."""
    config = client.config()
    config["interceptors"] = [*config["interceptors"], interceptor]
    return Client(**config)
