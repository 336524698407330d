"""One reader per test process: loading the models takes longer than reading most pages."""

from __future__ import annotations

import pytest

from textract_local.reader.reader import DocumentReader


@pytest.fixture(scope="session")
def reader() -> DocumentReader:
    return DocumentReader(threads=1)
