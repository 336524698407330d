"""Ends an asynchronous test that takes too long from inside its event loop, unlike pytest-timeout.

pytest-timeout raises in the event loop's own code: the test's blocks are not exited, and closing the loop then waits
for tasks that the blocks would have ended, such as a polling worker.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

# Reserved for exiting the test's blocks and fixtures, each of which may hold a worker.
LEAVING_SECONDS = 90.0

_LIMIT = pytest.StashKey[float]()
_DEADLINE = pytest.StashKey[float]()


def limit_of(item: pytest.Item) -> float:
    """Return pytest-timeout's limit of a test with its fixtures in seconds; 0 is no limit."""
    mark = item.get_closest_marker("timeout")
    if mark is None:
        return float(item.config.getini("timeout") or 0)
    return float(mark.args[0] if mark.args else mark.kwargs.get("timeout") or 0)


def ends_in_time(item: pytest.Item, test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Any]:
    """Return ``test`` with the time that its fixtures have left as its limit."""

    @functools.wraps(test)
    async def limited(*arguments: Any, **named: Any) -> None:
        async with asyncio.timeout(max(item.stash[_DEADLINE] - time.monotonic(), 0)):
            await test(*arguments, **named)

    return limited


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj) and limit_of(item):
            item.stash[_LIMIT] = limit_of(item)
            # The closest marker takes precedence.
            item.add_marker(pytest.mark.timeout(limit_of(item) + LEAVING_SECONDS), append=False)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if _LIMIT in item.stash and isinstance(item, pytest.Function):
        item.stash[_DEADLINE] = time.monotonic() + item.stash[_LIMIT]
        item.obj = ends_in_time(item, item.obj)
