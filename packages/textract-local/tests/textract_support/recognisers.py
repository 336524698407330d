"""Recognisers with real reading processes, whose reader obeys its documents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from textract_local.reader.analysis.request import Analysis
from textract_local.server.counters import Counters
from textract_local.server.documents import SYNC, Document, DocumentLimits
from textract_local.server.failures import ServiceError
from textract_local.server.recognition import PageRecogniser, make
from textract_local.server.spawning import ReadingLimits
from textract_support.emulator import ROOT
from textract_support.scripted_reader import DEADLINE_SECONDS, FACTORY, document

Make = Callable[..., PageRecogniser]


@pytest.fixture
async def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    """Return a function that starts recognisers with the obedient reader; at the end all processes must be gone."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    begun: list[PageRecogniser] = []

    def of(
        *, processes: int = 1, data: str = "data", reader: str = FACTORY, most_ends: int = 20, **bounds: float
    ) -> PageRecogniser:
        limits = ReadingLimits(**bounds)  # type: ignore[arg-type]
        recogniser = make(tmp_path / data, processes=processes, reader=reader, bounds=limits, most_ends=most_ends)
        begun.append(recogniser)
        recogniser.pool.start()
        return recogniser

    yield of
    before = [pid for recogniser in begun for pid in recogniser.pool.pids]
    for recogniser in begun:
        await recogniser.close()
    assert not [pid for pid in before if alive(pid)]


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 - the condition depends on other processes
            await asyncio.sleep(0.02)


def doc(text: str = "a", **told: Any) -> Document:
    return Document.of(document(text, **told), text)


async def read(
    ours: PageRecogniser,
    given: Document,
    number: int = 1,
    analysis: Analysis | None = None,
    *,
    limits: DocumentLimits = SYNC,
    counters: Counters | None = None,
    urgent: bool = True,
) -> str:
    """Return a page's words."""
    blocks = await ours.page(given, number, analysis, limits=limits, counters=counters or Counters(), urgent=urgent)
    return " ".join(block["Text"] for block in blocks if block["BlockType"] == "WORD")


def lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines() if path.exists() else []


async def refused(call: Any) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await call
    return caught.value
