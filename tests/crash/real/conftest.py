"""Fixtures and the option of the tests that kill real processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.crash.real.environment import Environment, open_environment
from tests.crash.real.processes import open_forkserver


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that runs one cell alone."""
    parser.addoption("--real-cell", metavar="NAME", help="Run only this cell of tests/crash/real.")


@pytest.fixture
def chosen_cell(request: pytest.FixtureRequest) -> str | None:
    """The name of the only cell to run; None for all."""
    # If the directory is not named on the command line, this file is loaded after the options are parsed.
    found: str | None = request.config.getoption("--real-cell", None)
    return found


@pytest.fixture
async def environment(stack_env: dict[str, str], template_database: str, tmp_path: Path) -> AsyncIterator[Environment]:
    """The environment of worlds on the shared stack, with a fork server."""
    async with (
        open_forkserver() as forkserver,
        open_environment(stack_env, template_database, forkserver, tmp_path) as made,
    ):
        yield made
