"""Lets ``shape.judge`` see every answer of every Textract client that a test process makes with botocore."""

from __future__ import annotations

import pytest
from botocore import handlers

from tests.support.response_schema import validate

# Before anything imports them: its checks are plain assertions in modules that are no tests.
pytest.register_assert_rewrite("tests.conformance")

_HANDLER = ("after-call.textract", validate)


def pytest_configure(config: pytest.Config) -> None:
    # botocore gives these to each session that is made, also by those who never heard of this check.
    if _HANDLER not in handlers.BUILTIN_HANDLERS:
        handlers.BUILTIN_HANDLERS.append(_HANDLER)


def pytest_unconfigure(config: pytest.Config) -> None:
    if _HANDLER in handlers.BUILTIN_HANDLERS:
        handlers.BUILTIN_HANDLERS.remove(_HANDLER)
