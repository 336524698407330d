"""The Temporal service that a command was told to use: the hooks', or the one of Temporal's own variables."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from temporal_replay_gate.dotted import working_directory_importable
from temporal_replay_gate.errors import ConnectionInvalid, ReplayTargetInvalid
from temporal_replay_gate.hooks import Hooks, Options, TemporalService

if TYPE_CHECKING:
    from temporalio.client import Client
    from temporalio.worker import Worker

    from temporal_replay_gate.scenario_runner import MakeWorker, ScenarioRunner
    from temporal_replay_gate.scenarios import ScenarioSuite
    from temporal_replay_gate.target import WorkerOptions

_TASK_QUEUE = "default"


def service_of(ctx: click.Context, hooks: Hooks, options: Options) -> TemporalService:
    """Return the hooks' service; without one, the service of TEMPORAL_ADDRESS and of Temporal's profiles."""
    return hooks.service(ctx, options) if hooks.service else VariablesService(hooks)


class VariablesService:
    """The service that Temporal's TEMPORAL_* variables or its configuration file name, with a plain worker."""

    def __init__(self, hooks: Hooks, worker_class: Callable[..., Worker] | None = None) -> None:
        """``worker_class`` makes the plain workers; by default it is Temporal's."""
        self._hooks = hooks
        self._worker_class = worker_class

    async def connect(self) -> Client:
        """Return a client with the data converter that a replay uses too.

        Raises ``ConnectionInvalid``, ``ReplayTargetInvalid``, or what the hooks name.
        """
        if self._hooks.connect is not None:
            return await self._hooks.connect()
        from temporalio.client import Client
        from temporalio.envconfig import ClientConfigProfile

        try:
            options: dict[str, Any] = dict(ClientConfigProfile.load().to_client_connect_config())
        except (RuntimeError, ValueError, OSError) as error:
            raise ConnectionInvalid(reason=str(error)) from error
        target = options.setdefault("target_host", "localhost:7233")
        converter = _options(self._hooks).converter
        try:
            return await Client.connect(data_converter=converter, **options)
        except RuntimeError as error:
            raise self._hooks.unavailable(target=target, reason=str(error)) from error

    @asynccontextmanager
    async def runner(self, suite: ScenarioSuite) -> AsyncIterator[ScenarioRunner]:
        """Yield a runner with the hooks' workers; without a hook they have the options that a replay has."""
        from temporal_replay_gate.scenario_runner import ScenarioRunner

        make_worker = self._hooks.worker or plain_worker(_options(self._hooks), self._worker_class)
        yield ScenarioRunner(await self.connect(), make_worker, suite, _TASK_QUEUE)


def _options(hooks: Hooks) -> WorkerOptions:
    """Return the options that ``check`` replays with. Raises ``ReplayTargetInvalid``."""
    from temporal_replay_gate.target import TargetInvalid, worker_options

    with working_directory_importable():
        try:
            return worker_options(hooks.converter, hooks.worker_options)
        except TargetInvalid as error:
            raise ReplayTargetInvalid(reason=str(error)) from error
        except SystemExit as error:
            reason = f"{hooks.converter} or {hooks.worker_options} ends the process when it is imported (SystemExit)"
            raise ReplayTargetInvalid(reason=reason) from error


def plain_worker(options: WorkerOptions, worker_class: Callable[..., Worker] | None = None) -> MakeWorker:
    """Return a function that makes workers with these options, which wait a moment for activities when they stop."""
    from temporalio import worker
    from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

    def make(
        client: Client, task_queue: str, workflows: Sequence[type], activities: Sequence[Any], executor: Executor
    ) -> Worker:
        return (worker_class or worker.Worker)(
            client,
            task_queue=task_queue,
            workflows=list(workflows),
            activities=list(activities),
            activity_executor=executor,
            max_concurrent_activities=8,
            graceful_shutdown_timeout=timedelta(seconds=5),
            interceptors=options.interceptors,
            workflow_runner=SandboxedWorkflowRunner(restrictions=options.restrictions),
            workflow_failure_exception_types=options.failure_types,
        )

    return make
