"""Validates every response of every Textract client in a test process."""

from __future__ import annotations

import pytest

from textract_support import validation

# Before they are imported: the checks are plain assertions in modules that are no tests.
pytest.register_assert_rewrite("tests.conformance")


def pytest_configure(config: pytest.Config) -> None:
    validation.start()


def pytest_unconfigure(config: pytest.Config) -> None:
    validation.end()
