from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.worker import Worker

from photo_worker.errors import TemporalNamespaceMissing
from photo_worker.worker import run_until_stopped


class Draining:
    """A worker whose drain the test controls; a real worker is tested on the stack."""

    def __init__(self) -> None:
        self.drained = asyncio.Event()
        self.asked = asyncio.Event()
        self.failure: Exception | None = None

    async def run(self) -> None:
        if self.failure is not None:
            raise self.failure
        await self.drained.wait()

    async def shutdown(self) -> None:
        self.asked.set()
        await self.drained.wait()


def as_worker(draining: Draining) -> Worker:
    return cast(Worker, draining)


async def test_run_until_stopped_drained_in_time_returns() -> None:
    draining, stop = Draining(), asyncio.Event()
    run = asyncio.create_task(run_until_stopped(as_worker(draining), stop=stop, limit_seconds=30))
    stop.set()
    await asyncio.wait_for(draining.asked.wait(), 10)
    assert not run.done()
    draining.drained.set()
    await asyncio.wait_for(run, 10)


async def test_run_until_stopped_hanging_drain_gives_up() -> None:
    draining, stop = Draining(), asyncio.Event()
    codes: list[Any] = []
    stop.set()
    await asyncio.wait_for(
        run_until_stopped(as_worker(draining), stop=stop, limit_seconds=0.05, give_up=codes.append), 10
    )
    assert codes == [1]


def test_run_until_stopped_hanging_activity_ends_process() -> None:
    """A deployment waits for the old worker's process, which ends with ``give_up`` or with its last thread."""
    process_ended, hangs = threading.Event(), threading.Event()

    def give_up(code: int) -> None:
        process_ended.set()
        # The end of a process ends its threads.
        hangs.set()

    async def drains() -> None:
        stop = asyncio.Event()
        stop.set()
        await run_until_stopped(as_worker(Draining()), stop=stop, limit_seconds=0.05, give_up=give_up)

    def serves() -> None:
        with ThreadPoolExecutor(1) as executor:
            executor.submit(hangs.wait)
            asyncio.run(drains())
        process_ended.set()

    thread = threading.Thread(target=serves)
    thread.start()
    try:
        assert process_ended.wait(10), "the worker's process goes on"
    finally:
        hangs.set()
        thread.join()


async def test_run_until_stopped_dead_watch_drains_and_raises() -> None:
    async def watches() -> None:
        raise OSError("no memory")

    draining = Draining()
    watching = asyncio.create_task(watches())
    run = asyncio.create_task(
        run_until_stopped(as_worker(draining), stop=asyncio.Event(), limit_seconds=30, watching=watching)
    )
    await asyncio.wait_for(draining.asked.wait(), 10)
    draining.drained.set()
    with pytest.raises(OSError, match="no memory"):
        await asyncio.wait_for(run, 10)


async def test_run_until_stopped_failed_worker_raises() -> None:
    draining = Draining()
    draining.failure = RuntimeError("namespace not found")
    with pytest.raises(RuntimeError, match="namespace not found"):
        await run_until_stopped(as_worker(draining), stop=asyncio.Event(), limit_seconds=30)


async def test_run_until_stopped_missing_namespace_is_translated() -> None:
    draining: Any = Draining()
    draining.failure = RuntimeError("Worker validation failed: Namespace gone was not found or otherwise")
    draining.client = SimpleNamespace(
        namespace="gone", service_client=SimpleNamespace(config=SimpleNamespace(target_host="here:7233"))
    )
    with pytest.raises(TemporalNamespaceMissing, match="Temporal at here:7233 has no namespace 'gone'"):
        await run_until_stopped(as_worker(draining), stop=asyncio.Event(), limit_seconds=30)
