"""The reader that the tests share, and the mark of those that read pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from textract_support.shared_reader import reader

__all__ = ["pytest_collection_modifyitems", "reader"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that read pages ``once``: a wheel reads them, alike on every Python, and test_engine.py covers it."""
    for item in items:
        reads = "reader" in getattr(item, "fixturenames", ())
        if reads and Path(__file__).parent in item.path.parents and item.path.name != "test_engine.py":
            item.add_marker("single_python")
