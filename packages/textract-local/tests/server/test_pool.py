"""Work whose process is ended before the work has begun."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from textract_local.server import pool as module
from textract_local.server.pool import ReadingPool, Work
from textract_local.server.reading_parent import ReaderUnavailable
from textract_local.server.spawning import ReadingLimits

DEADLINE_SECONDS = 20


class Child:
    """A fake process that responds when the request's gate is set."""

    identity: Mapping[str, str] = {"engine": "e"}
    alive, grown, idle_since, memory, processor_seconds = True, False, 0.0, 0, 0.0

    def __init__(self, made: list[Child]) -> None:
        made.append(self)
        self.pid = len(made)
        self.ended = False

    async def ready(self) -> None:
        """Return at once."""

    async def ask(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        try:
            await request["gate"].wait()
        except BaseException:
            await self.end()
            raise
        return {"pages": 1}, b""

    async def end(self) -> None:
        self.ended = True


@pytest.fixture
def made() -> list[Child]:
    return []


@pytest.fixture
async def pool(made: list[Child], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ReadingPool]:
    monkeypatch.setattr(module, "ReadingChild", lambda *_: Child(made))
    ours = ReadingPool("none", ReadingLimits(processes=2, idle_seconds=60))
    ours.start()
    await ours.wait_until_ready()
    yield ours
    await ours.close()
    assert all(child.ended for child in made)


def submit(pool: ReadingPool, name: str) -> tuple[Work, asyncio.Event]:
    gate = asyncio.Event()
    return pool.submit({"name": name, "gate": gate}, turn=name, urgent=False), gate


async def with_one_idle(pool: ReadingPool) -> tuple[Work, asyncio.Event]:
    """Make one process busy and the other one idle."""
    slow, held = submit(pool, "slow")
    quick, gate = submit(pool, "quick")
    gate.set()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await quick.done
        while pool.busy > 1:  # noqa: ASYNC110 - of the pool's own callbacks
            await asyncio.sleep(0)
    return slow, held


async def test_pool_make_way_before_start_reads_page_later(pool: ReadingPool) -> None:
    slow, held = await with_one_idle(pool)
    late, gate = submit(pool, "late")
    # The memory check may run in this very iteration of the event loop.
    pool._preempt()
    gate.set()
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert (await late.done)[0] == {"pages": 1}
        held.set()
        assert (await slow.done)[0] == {"pages": 1}


async def test_pool_drop_before_start_leaks_no_process(pool: ReadingPool, made: list[Child]) -> None:
    _, held = await with_one_idle(pool)
    dropped, _ = submit(pool, "dropped")
    pool.drop(dropped)
    following, gate = submit(pool, "following")
    gate.set()
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert (await following.done)[0] == {"pages": 1}
    held.set()

    def left() -> int:
        return len([child for child in made if not child.ended])

    # Each process is busy, idle or ended.
    async with asyncio.timeout(DEADLINE_SECONDS):
        while left() != len(pool.pids):  # noqa: ASYNC110 - of the pool's own callbacks
            await asyncio.sleep(0.01)


async def test_pool_close_fails_pages_that_have_not_begun(pool: ReadingPool) -> None:
    slow, _ = await with_one_idle(pool)
    late, _ = submit(pool, "late")
    await pool.close()
    assert slow.done.exception() is not None
    with pytest.raises(ReaderUnavailable, match="the server ends"):
        await late.done
