"""Fixtures and the option of the tests that kill real processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.crash.real.environment import Environment, open_environment
from tests.crash.real.processes import open_nursery


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a failed cell be run again alone."""
    parser.addoption("--real-cell", metavar="NAME", help="Run only this cell of tests/crash/real.")


@pytest.fixture
def chosen_cell(request: pytest.FixtureRequest) -> str | None:
    """The one cell to run, where one was asked for."""
    # Where the folder was not named, this file is read after the options.
    found: str | None = request.config.getoption("--real-cell", None)
    return found


@pytest.fixture
async def site(stack_env: dict[str, str], template_database: str, tmp_path: Path) -> AsyncIterator[Environment]:
    """The shared stack as the place of worlds, with a nursery."""
    async with (
        open_nursery() as forkserver,
        open_environment(stack_env, template_database, forkserver, tmp_path) as made,
    ):
        yield made
