"""What the tests of crash safety have in common."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the name of one cell."""
    parser.addoption("--cell", help="run this cell of the enumeration alone: pipeline/number/phase/mode")


@pytest.fixture
def cell(request: pytest.FixtureRequest) -> str | None:
    """The cell that was asked for; None for all."""
    asked: str | None = request.config.getoption("--cell")
    return asked
