"""The parts of a soak that decide whether it proves anything, without a stack."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from tests.crash.real.processes import Child
from tests.crash.soaking.fleet import Fleet


async def test_a_worker_that_ends_before_it_takes_work_says_why_at_once(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text("no such database", encoding="utf-8")

    async def hire() -> Child:
        return Child(cast(Any, None), 1, log, status=3)

    async with asyncio.timeout(10):
        with pytest.raises(RuntimeError, match="ended with 3 before it took work: no such database"):
            await Fleet(hire, 1).start()
