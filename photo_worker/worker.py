"""The worker process: polls one task queue until it is told to stop, then lets running work finish."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.worker import Worker

from photo_worker.activities.boundary import ErrorBoundary
from photo_worker.activities.overdue import OverdueLog
from photo_worker.config import Settings

logger = logging.getLogger(__name__)

# After the grace period activities are cancelled; a thread that does not notice within this
# many seconds more never will (threads cannot be ended), and must not keep the process alive.
_CANCEL_SECONDS = 5.0

# The SDK sends heartbeats at four fifths of their timeout: one that is late then costs the attempt.
_HEARTBEAT_INTERVAL = timedelta(seconds=10)


def build_worker(
    client: Client,
    settings: Settings,
    workflows: Sequence[type],
    activities: Sequence[Callable[..., Any]],
    executor: Executor,
) -> Worker:
    """Return a worker with the settings' limits, in the sandboxed workflow runner.

    Activities are plain functions on ``executor``'s threads, because boto3 and psycopg's pool are
    made for threads.
    """
    return Worker(
        client,
        task_queue=settings.temporal_task_queue,
        workflows=list(workflows),
        activities=list(activities),
        activity_executor=executor,
        max_concurrent_activities=settings.max_activities,
        max_concurrent_workflow_tasks=settings.max_workflow_tasks,
        max_heartbeat_throttle_interval=_HEARTBEAT_INTERVAL,
        interceptors=[ErrorBoundary(), OverdueLog()],
        graceful_shutdown_timeout=timedelta(seconds=settings.graceful_shutdown_seconds),
    )


async def run_until_stopped(
    worker: Worker,
    *,
    stop: asyncio.Event,
    limit_seconds: float,
    give_up: Callable[[int], Any] = os._exit,
) -> None:
    """Run the worker until ``stop`` is set, then drain it.

    ``give_up`` ends the process when the drain takes longer than ``limit_seconds``: Temporal
    gives what was running to another worker when its timeout passes.
    """
    running = asyncio.create_task(worker.run())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        stopping.cancel()
        await running
        return
    logger.info("worker stops: running activities may finish", extra={"photo": {"limit_seconds": limit_seconds}})
    shutdown = asyncio.create_task(worker.shutdown())
    done, _ = await asyncio.wait({shutdown}, timeout=limit_seconds)
    if not done:
        logger.error("worker did not drain in time; the work goes to another worker")
        give_up(1)
        return
    await shutdown
    await running


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    # os.read, not sys.stdin: a thread inside a buffered reader breaks the interpreter's shutdown.
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
    stop_on_eof: bool = False,
) -> None:
    """Run a worker until SIGTERM or SIGINT; a second signal ends the process at once.

    ``stop_on_eof`` also stops it when standard input ends, so that it cannot outlive a parent
    that holds the other end, however that parent dies.
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
    with ThreadPoolExecutor(settings.max_activities, thread_name_prefix="activity") as executor:
        worker = build_worker(client, settings, workflows, activities, executor)
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
        await run_until_stopped(worker, stop=stop, limit_seconds=settings.graceful_shutdown_seconds + _CANCEL_SECONDS)
    logger.info("worker stopped")
