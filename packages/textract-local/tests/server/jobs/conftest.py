"""Fixtures for jobs that are open during a test, and can be closed and opened again in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from textract_support.job_parts import Emulated, Objects, Open


@pytest.fixture
def objects() -> Objects:
    return Objects()


@pytest.fixture
async def opened(tmp_path: Path, objects: Objects) -> AsyncIterator[Open]:
    """Return a function that opens jobs in the test's directory, closing earlier ones first."""
    async with AsyncExitStack() as stack:

        async def open_again(**options: Any) -> Emulated:
            await stack.aclose()
            emulated = Emulated(tmp_path, objects, **options)
            await emulated.jobs.open()
            stack.push_async_callback(emulated.jobs.close)
            stack.callback(emulated.spool.close)
            return emulated

        yield open_again


@pytest.fixture
async def emulated(opened: Open) -> Emulated:
    return await opened()
