"""When a document is read, and when what was read before is enough."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from photo_worker import errors
from photo_worker.devkit.textract.counters import Counters
from photo_worker.devkit.textract.documents import Document
from photo_worker.devkit.textract.failures import Refusal
from photo_worker.devkit.textract.recognition import Recogniser

DEADLINE_SECONDS = 20


class CountingReader:
    """Answers with the document's text and counts; waits for ``gate``, and says in ``busiest`` how many waited."""

    engine = "counting"
    version = "1"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Semaphore(0)
        self.reads = 0
        self.at_once = 0
        self.busiest = 0
        self.fail: Exception | None = None
        self._lock = threading.Lock()

    def warm(self) -> None:
        pass

    def read(self, document: bytes, name: str, /) -> Mapping[str, Any]:
        with self._lock:
            self.reads += 1
            self.at_once += 1
            self.busiest = max(self.busiest, self.at_once)
        self.begun.release()
        assert self.gate.wait(DEADLINE_SECONDS)
        with self._lock:
            self.at_once -= 1
        if self.fail:
            raise self.fail
        return {"Blocks": [], "Text": document.decode()}


def document(text: str) -> Document:
    return Document.of(text.encode(), "a")


def recogniser(reader: CountingReader, *, threads: int = 2, remembered_bytes: int = 10_000) -> Recogniser:
    return Recogniser(reader, threads=threads, check=lambda _: None, remembered_bytes=remembered_bytes)


async def begun(reader: CountingReader) -> None:
    assert await asyncio.to_thread(reader.begun.acquire, timeout=DEADLINE_SECONDS)


async def test_a_document_is_read_once() -> None:
    reader, counters = CountingReader(), Counters()
    ours = recogniser(reader)
    answers = [await ours.read(document("a"), counters) for _ in range(3)]
    assert answers == [b'{"Blocks":[],"Text":"a"}'] * 3
    assert (reader.reads, counters.shown()["documents"][document("a").sha256]["recognised"]) == (1, 1)


async def test_calls_at_the_same_time_share_a_reading() -> None:
    reader = CountingReader()
    reader.gate.clear()
    ours = recogniser(reader)
    calls = [asyncio.create_task(ours.read(document("a"), Counters())) for _ in range(16)]
    await begun(reader)
    reader.gate.set()
    assert len(set(await asyncio.gather(*calls))) == 1
    assert reader.reads == 1


async def test_a_caller_that_goes_away_takes_nothing_from_the_others() -> None:
    reader = CountingReader()
    reader.gate.clear()
    ours = recogniser(reader)
    first, second = (asyncio.create_task(ours.read(document("a"), Counters())) for _ in range(2))
    await begun(reader)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    reader.gate.set()
    assert await second == b'{"Blocks":[],"Text":"a"}'


async def test_no_more_documents_are_read_at_once_than_there_are_threads() -> None:
    reader = CountingReader()
    reader.gate.clear()
    ours = recogniser(reader, threads=3)
    calls = [asyncio.create_task(ours.read(document(str(number)), Counters())) for number in range(12)]
    for _ in range(3):
        await begun(reader)
    reader.gate.set()
    await asyncio.gather(*calls)
    assert (reader.busiest, reader.reads) == (3, 12)


async def test_another_version_reads_anew() -> None:
    first, second = CountingReader(), CountingReader()
    second.version = "2"
    for reader in (first, second):
        await recogniser(reader).read(document("a"), Counters())
    assert (first.reads, second.reads) == (1, 1)


async def test_what_is_remembered_has_a_limit_and_the_least_used_leaves() -> None:
    reader = CountingReader()
    ours = recogniser(reader, remembered_bytes=60)
    for text in ("a", "b", "a", "c", "a"):
        await ours.read(document(text), Counters())
    assert reader.reads == 3
    await ours.read(document("b"), Counters())
    assert reader.reads == 4


async def test_an_answer_beyond_the_limit_is_given_and_not_kept() -> None:
    reader = CountingReader()
    ours = recogniser(reader, remembered_bytes=10)
    for _ in range(2):
        assert await ours.read(document("a"), Counters())
    assert reader.reads == 2


async def test_a_reset_forgets_also_what_is_being_read() -> None:
    reader = CountingReader()
    reader.gate.clear()
    ours = recogniser(reader)
    before = asyncio.create_task(ours.read(document("a"), Counters()))
    await begun(reader)
    ours.forget()
    after = asyncio.create_task(ours.read(document("a"), Counters()))
    await begun(reader)
    reader.gate.set()
    assert await before == await after
    assert reader.reads == 2


async def test_a_failure_reaches_all_who_wait_and_is_not_kept() -> None:
    reader = CountingReader()
    reader.gate.clear()
    reader.fail = errors.UnreadableDocument(name="a", reason="it is torn")
    ours = recogniser(reader)
    calls = [asyncio.create_task(ours.read(document("a"), Counters())) for _ in range(3)]
    await begun(reader)
    reader.gate.set()
    for call in calls:
        with pytest.raises(Refusal, match="BadDocumentException: it is torn"):
            await call
    reader.fail = None
    assert await ours.read(document("a"), Counters())
    assert reader.reads == 2


async def test_an_engine_that_is_missing_is_the_servers_fault() -> None:
    reader = CountingReader()
    reader.fail = errors.EngineUnavailable(engine="counting", reason="its weights are missing")
    with pytest.raises(Refusal, match="weights are missing") as caught:
        await recogniser(reader).read(document("a"), Counters())
    assert (caught.value.failure.code, caught.value.failure.status) == ("InternalServerError", 500)


async def test_numbers_that_json_does_not_know_never_leave() -> None:
    class Broken(CountingReader):
        def read(self, document: bytes, name: str, /) -> Mapping[str, Any]:
            return {"Blocks": [{"Confidence": float("nan")}]}

    with pytest.raises(ValueError, match="JSON"):
        await recogniser(Broken()).read(document("a"), Counters())
