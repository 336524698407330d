"""Registers ``response_schema.validate`` for every response of every Textract client in a test process."""

from __future__ import annotations

import pytest
from botocore import handlers

from tests.support.response_schema import validate

# Before they are imported: the checks are plain assertions in modules that are no tests.
pytest.register_assert_rewrite("tests.conformance")

_HANDLER = ("after-call.textract", validate)


def pytest_configure(config: pytest.Config) -> None:
    # botocore registers these in each new session, wherever it is created.
    if _HANDLER not in handlers.BUILTIN_HANDLERS:
        handlers.BUILTIN_HANDLERS.append(_HANDLER)


def pytest_unconfigure(config: pytest.Config) -> None:
    if _HANDLER in handlers.BUILTIN_HANDLERS:
        handlers.BUILTIN_HANDLERS.remove(_HANDLER)
