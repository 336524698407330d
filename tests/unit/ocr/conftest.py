"""One reader per test process: loading the models takes longer than reading most pages."""

from __future__ import annotations

import pytest

from photo_worker.ocr.reader import DocumentReader


@pytest.fixture(scope="session")
def reader() -> DocumentReader:
    return DocumentReader(threads=1)
