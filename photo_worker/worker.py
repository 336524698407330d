"""The worker process: polls one task queue until it is told to stop, then drains running activities."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.runtime import Runtime
from temporalio.worker import (
    FixedSizeSlotSupplier,
    Interceptor,
    PollerBehaviorAutoscaling,
    PollerBehaviorSimpleMaximum,
    Worker,
    WorkerDeploymentConfig,
    WorkerTuner,
)

from photo_worker.activities.boundary import ErrorBoundary
from photo_worker.activities.hold_back import HoldBackInterceptor
from photo_worker.activities.overdue import OverdueInterceptor
from photo_worker.adapters.temporal.pollers import announce_waiting
from photo_worker.adapters.temporal.rpc_errors import translate_bridge
from photo_worker.adapters.temporal.telemetry import WaitMetric
from photo_worker.adapters.temporal.worker_versions import watch_version
from photo_worker.admission import Admission, AdmissionTimes, AdmittedSlots, Check
from photo_worker.config import Settings
from photo_worker.workflows.policy_interceptor import PolicyInterceptor

logger = logging.getLogger(__name__)

# The SDK's own default.
_FIXED_POLLERS = PollerBehaviorSimpleMaximum(5)

_VERSIONING = {"auto_upgrade": VersioningBehavior.AUTO_UPGRADE, "pinned": VersioningBehavior.PINNED}

# The beginning of temporalio's message if a worker cannot start to poll.
_REFUSED = "Worker validation failed"


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker does, apart from its settings.

    ``policies`` are those of each workflow type that has others than its default. ``admission`` are the waits while a
    service is away.
    """

    policies: Mapping[str, object] = field(default_factory=dict)
    admission: AdmissionTimes = field(default_factory=AdmissionTimes)
    heartbeat_interval: timedelta = timedelta(seconds=10)
    """By default the SDK throttles heartbeats to one per four fifths of the timeout; one late one costs the attempt."""
    sticky_timeout: timedelta = timedelta(seconds=10)
    """The time after which a dead worker's workflow task is given to another worker."""
    cancellation: timedelta = timedelta(seconds=5)
    """After the grace period activities are cancelled. A thread that does not react within this time probably never
    will; threads cannot be ended, and it must not keep the process alive."""


def build_worker(
    client: Client,
    settings: Settings,
    workflows: Sequence[type],
    activities: Sequence[Callable[..., Any]],
    executor: Executor,
    admission: Admission | None = None,
    options: WorkerOptions = WorkerOptions(),
) -> Worker:
    """Return a worker with the settings' limits, in the sandboxed workflow runner.

    Activities are synchronous functions that run on ``executor``'s threads, because boto3 and psycopg's pool are made
    for threads. The worker polls for activities while ``admission`` is open, or always if it is None.
    """
    slots = FixedSizeSlotSupplier(settings.max_activities)
    passing = PolicyInterceptor(options.policies)
    interceptors: list[Interceptor] = [ErrorBoundary(settings.s3_bucket), OverdueInterceptor(), passing]
    if admission is not None:
        interceptors = [
            ErrorBoundary(settings.s3_bucket, admission.record_outcome),
            HoldBackInterceptor(admission),
            OverdueInterceptor(),
            passing,
        ]
    pollers = PollerBehaviorAutoscaling() if settings.temporal_pollers == "autoscaling" else _FIXED_POLLERS
    return Worker(
        client,
        task_queue=settings.temporal_task_queue,
        workflows=list(workflows),
        activities=list(activities),
        activity_executor=executor,
        tuner=WorkerTuner.create_composite(
            workflow_supplier=FixedSizeSlotSupplier(settings.max_workflow_tasks),
            activity_supplier=AdmittedSlots(admission, settings.max_activities) if admission else slots,
            local_activity_supplier=slots,
            nexus_supplier=slots,
        ),
        max_heartbeat_throttle_interval=options.heartbeat_interval,
        sticky_queue_schedule_to_start_timeout=options.sticky_timeout,
        workflow_task_poller_behavior=pollers,
        activity_task_poller_behavior=pollers,
        deployment_config=_deployment(settings),
        interceptors=interceptors,
        graceful_shutdown_timeout=timedelta(seconds=settings.graceful_shutdown_seconds),
    )


def _deployment(settings: Settings) -> WorkerDeploymentConfig | None:
    """Return the version that the worker polls as, None if it has none."""
    name, build_id = settings.temporal_deployment_name, settings.temporal_worker_build_id
    if name is None or build_id is None:
        return None
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(name, build_id),
        use_worker_versioning=True,
        default_versioning_behavior=_VERSIONING[settings.temporal_versioning_behavior],
    )


async def _watch_version(client: Client, settings: Settings) -> None:
    name, build_id = settings.temporal_deployment_name, settings.temporal_worker_build_id
    if name is not None and build_id is not None:
        await watch_version(client, name, build_id)


async def run_until_stopped(
    worker: Worker,
    *,
    stop: asyncio.Event,
    limit_seconds: float,
    watching: asyncio.Task[None] | None = None,
    give_up: Callable[[int], Any] = os._exit,
) -> None:
    """Run the worker until ``stop`` is set, then drain it.

    ``watching`` must not end before: if it does, the worker is drained and the task's error raised, so that the process
    is restarted. ``give_up`` ends the process if the drain takes longer than ``limit_seconds``: Temporal gives the
    activities that were running to another worker after their timeout.
    """
    running = asyncio.create_task(worker.run())
    stopping = asyncio.create_task(stop.wait())
    needed = {running, stopping} if watching is None else {running, stopping, watching}
    await asyncio.wait(needed, return_when=asyncio.FIRST_COMPLETED)
    unwatched = watching is not None and watching.done()
    if not stopping.done():
        stopping.cancel()
    if running.done():
        try:
            await running
        except RuntimeError as error:
            # Temporal's core checks the namespace again before it polls, and reports failures as a RuntimeError.
            if not str(error).startswith(_REFUSED):
                raise
            config = worker.client.service_client.config
            raise translate_bridge(error, target=config.target_host, namespace=worker.client.namespace) from error
        return
    if unwatched:
        logger.critical("worker stops: nothing looks at its services any more")
    logger.info("worker stops: running activities may finish", extra={"photo": {"limit_seconds": limit_seconds}})
    shutdown = asyncio.create_task(worker.shutdown())
    done, _ = await asyncio.wait({shutdown}, timeout=limit_seconds)
    if not done:
        logger.error("worker did not drain in time; the work goes to another worker")
        give_up(1)
        return
    await shutdown
    await running
    if unwatched and watching is not None:
        watching.result()
        raise RuntimeError("the watch over the services has ended")


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    # os.read instead of sys.stdin: a thread inside a buffered reader breaks the interpreter's shutdown.
    while os.read(0, 1024):
        pass
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(stop.set)


async def serve(
    client: Client,
    settings: Settings,
    workflows: Sequence[type],
    activities: Sequence[Callable[..., Any]],
    *,
    checks: Sequence[Check] = (),
    stop_on_eof: bool = False,
    options: WorkerOptions = WorkerOptions(),
) -> None:
    """Run a worker until SIGTERM or SIGINT; a second signal ends the process at once.

    It begins to poll when all ``checks`` pass, and takes no new activity while one of them fails.

    ``stop_on_eof`` also stops it at the end of standard input, so that it cannot outlive a parent that holds the other
    end of the pipe, however the parent dies.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if stop_on_eof:
        threading.Thread(target=_watch_stdin, args=(loop, stop), name="stdin", daemon=True).start()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    meter = (client.service_client.config.runtime or Runtime.default()).metric_meter
    admission = Admission(checks, times=options.admission, tell=WaitMetric(meter).tell)
    told = asyncio.create_task(
        announce_waiting(
            client, settings.temporal_task_queue, lambda: admission.away.code if admission.away is not None else None
        )
    )
    try:
        if await _before(admission.wait_until_ready(), stop):
            await _work(client, settings, workflows, activities, admission, options, stop)
    finally:
        told.cancel()
    logger.info("worker stopped")


async def _work(
    client: Client,
    settings: Settings,
    workflows: Sequence[type],
    activities: Sequence[Callable[..., Any]],
    admission: Admission,
    options: WorkerOptions,
    stop: asyncio.Event,
) -> None:
    """Poll until ``stop`` is set, then drain."""
    with ThreadPoolExecutor(settings.max_activities, thread_name_prefix="activity") as executor:
        worker = build_worker(client, settings, workflows, activities, executor, admission, options)
        logger.info(
            "worker polls",
            extra={
                "photo": {
                    "task_queue": settings.temporal_task_queue,
                    "namespace": client.namespace,
                    "max_activities": settings.max_activities,
                }
            },
        )
        watching = asyncio.create_task(admission.watch())
        routing = asyncio.create_task(_watch_version(client, settings))
        try:
            limit = settings.graceful_shutdown_seconds + options.cancellation.total_seconds()
            await run_until_stopped(worker, stop=stop, limit_seconds=limit, watching=watching)
        finally:
            watching.cancel()
            routing.cancel()


async def _before(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> bool:
    """Await ``work`` until ``stop`` is set; tell whether ``work`` was done before."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        working.cancel()
        return False
    working.result()
    return True
