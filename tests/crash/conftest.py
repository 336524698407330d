"""Options and fixtures of the crash tests."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names one cell to run."""
    parser.addoption("--cell", help="run this cell of the enumeration alone: usage/number/phase/mode")


@pytest.fixture
def cell(request: pytest.FixtureRequest) -> str | None:
    """The requested cell; None for all."""
    asked: str | None = request.config.getoption("--cell")
    return asked
