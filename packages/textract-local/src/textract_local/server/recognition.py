"""Reads pages of documents in separate processes, each page once, and caches the results."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable, Mapping
from contextlib import asynccontextmanager
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any, TypeVar

from textract_local.errors import EngineUnavailable
from textract_local.reader.analysis.request import Analysis
from textract_local.server.counters import Counters
from textract_local.server.documents import Document, DocumentLimits
from textract_local.server.failures import (
    BAD_DOCUMENT,
    INTERNAL_ERROR,
    PROVISIONED_THROUGHPUT_EXCEEDED,
    DiskFails,
    ServiceError,
)
from textract_local.server.pool import ReadingPool
from textract_local.server.reading_failures import defect_error, refusal_error, unavailable_error
from textract_local.server.reading_memory import REMEMBERED_BYTES, ReadingMemory, SharedReading, SizedCache
from textract_local.server.reading_parent import ProcessEnded, ReaderUnavailable
from textract_local.server.spawning import OWN_READER, ReadingLimits
from textract_local.server.spool import Readings, Spool, private_directory

logger = logging.getLogger(__name__)

# Larger responses are parsed in a thread, to not block the event loop.
_LOADED_INLINE_BYTES = 64 * 1024

# How many processes a page may end, and how many all pages of a document together.
_ENDS = 2
_ENDS_OF_DOCUMENT = 20

Check = Callable[[list[dict[str, Any]]], None]
T = TypeVar("T")


class PageRecogniser:
    """Reads pages. Its methods must be called in one event loop.

    Blocks are cached in memory as JSON, and readings of pages on disk, so that a page is recognised only once
    for all analyses. Requests for a page that is being read wait for that reading.
    """

    def __init__(
        self,
        pool: ReadingPool,
        spool: Spool,
        readings: Readings,
        *,
        check: Check | None = None,
        most_ends: int = _ENDS_OF_DOCUMENT,
    ) -> None:
        """``check`` raises ``ValueError`` or ``TypeError`` if blocks do not fit the service's model.

        ``most_ends`` is how many processes all pages of a document together may end.
        """
        self._most_ends = most_ends
        self.pool, self.spool = pool, spool
        self._readings = readings
        self.check = check
        self._memory = ReadingMemory(SizedCache(REMEMBERED_BYTES))

    @property
    def identity(self) -> tuple[str, str]:
        """The engine's name and version; empty until the first process has reported them."""
        return self.pool.identity.get("engine", ""), self.pool.identity.get("version", "")

    @property
    def ready(self) -> bool:
        """Whether a process can read a page."""
        return self.pool.ready

    @property
    def problem(self) -> str:
        """Why no page can be read; empty if no problem is known."""
        return "" if self.pool.problem is None else self.pool.problem.problem

    async def start(self) -> None:
        """Start the pool, without waiting until the engine is loaded."""
        self.pool.start()

    async def warm(self) -> None:
        """Wait until a page can be read. Raises ``EngineUnavailable``."""
        try:
            await self.pool.wait_until_ready()
        except ReaderUnavailable as error:
            raise EngineUnavailable(engine=self.identity[0] or "the reader's", reason=error.problem) from error

    async def close(self) -> None:
        """End the processes and delete their documents."""
        running = [reading.task for reading in self._memory.running.values() if reading.task is not None]
        await self.pool.close()
        if running:
            await asyncio.wait(running)
        self.spool.close()

    def forget(self) -> None:
        """Clear all caches; documents that are being read now will be read again as well."""
        self._memory = ReadingMemory(SizedCache(int(self._memory.responses.maxsize)))
        self._readings.clear()

    def remember(self, limit_bytes: int) -> None:
        """Empty the cache of responses and set its size."""
        self._memory.responses = SizedCache(limit_bytes)

    async def pages(self, document: Document, limits: DocumentLimits) -> int:
        """Return how many pages a document has. Raises ``ServiceError`` if it cannot be read.

        A reading is cancelled when no caller waits for it any more, here and in ``page``.
        """
        memory, key = self._memory, (document.sha256, limits)
        known = memory.pages.get(key)
        if known is not None:
            return known

        async def count(reading: SharedReading[int]) -> int:
            async with self._file(document) as path:
                request = {"do": "pages", "path": str(path), **_of(document, limits)}
                header, _ = await self._ask(memory, document, request, reading)
            pages = header.get("pages")
            if type(pages) is not int or pages < 1:
                raise defect_error("ValueError", f"the reader counted {pages!r} pages")
            memory.pages[key] = pages
            return pages

        return await self._shared(memory, ("pages", *key), count, urgent=True)

    async def page(
        self,
        document: Document,
        number: int,
        analysis: Analysis | None,
        *,
        limits: DocumentLimits,
        counters: Counters,
        urgent: bool,
    ) -> list[dict[str, Any]]:
        """Return the blocks of page ``number`` (from 1) in the form of synchronous responses. Raises ``ServiceError``.

        The list is a copy for the caller. Ids are the same for the same document, page, engine, version and
        analysis. ``analysis`` None requests text alone. Pages that are not urgent alternate between documents.
        """
        text = await self.page_json(document, number, analysis, limits=limits, counters=counters, urgent=urgent)
        if len(text) > _LOADED_INLINE_BYTES:
            return await asyncio.to_thread(_loaded, text)
        return _loaded(text)

    async def page_json(
        self,
        document: Document,
        number: int,
        analysis: Analysis | None,
        *,
        limits: DocumentLimits,
        counters: Counters,
        urgent: bool,
        deadline: float | None = None,
    ) -> bytes:
        """Return the blocks of ``page`` as JSON bytes, as they are cached.

        After ``deadline``, by the event loop's clock, it raises BadDocumentException if reading used so much CPU time
        that the page itself is slow, and otherwise, if the page waited or the machine was busy,
        ProvisionedThroughputExceededException, after which clients retry.
        """
        memory = self._memory
        if not self.pool.identity:
            await self._identified(deadline)
        key = (document.sha256, number, analysis, limits, *self.pool.identity.values())
        known = memory.responses.get(key)
        if known is not None:
            return known
        # The key has no analysis: a slow page is slow for each of them.
        page_key = (document.sha256, number)
        times, problem = memory.slowness(page_key, self.pool.bounds.slow_page_memory_seconds)
        if deadline is not None and times >= _ENDS:
            raise ServiceError(BAD_DOCUMENT, f"not tried again after {times} calls without a response", problem=problem)

        async def read(reading: SharedReading[bytes]) -> bytes:
            text = await self._read(memory, document, number, analysis, limits, counters, reading)
            memory.responses.put(key, text)
            return text

        return await self._shared(memory, key, read, urgent=urgent, deadline=deadline, page_key=page_key)

    async def _shared(
        self,
        memory: ReadingMemory,
        key: Hashable,
        read: Callable[[SharedReading[T]], Coroutine[Any, Any, T]],
        *,
        urgent: bool,
        deadline: float | None = None,
        page_key: Hashable = None,
    ) -> T:
        """Wait for the reading of this key, and start it if there is none."""
        known: SharedReading[T] | None = memory.running.get(key)
        reading = SharedReading[T](urgent) if known is None else known
        if known is None:
            memory.running[key] = reading
            reading.task = asyncio.create_task(read(reading))
            reading.task.add_done_callback(lambda task: _ended(memory, key, reading, task))
        elif urgent and not reading.urgent:
            reading.urgent = True
            if reading.work is not None:
                self.pool.make_urgent(reading.work)
        reading.callers += 1
        try:
            async with asyncio.timeout_at(deadline) as time_left:
                # Cancelling one caller must not cancel the reading for the others.
                return await asyncio.shield(_task_of(reading))
        except TimeoutError as error:
            if not time_left.expired():
                raise
            raise _too_late(memory, page_key, reading, self.pool.bounds) from error
        finally:
            reading.callers -= 1
            if not reading.callers and reading.task is not None and not reading.task.done():
                if memory.running.get(key) is reading:
                    del memory.running[key]
                reading.task.cancel()

    async def _read(
        self,
        memory: ReadingMemory,
        document: Document,
        number: int,
        analysis: Analysis | None,
        limits: DocumentLimits,
        counters: Counters,
        reading: SharedReading[bytes],
    ) -> bytes:
        page_key = (document.sha256, number)
        async with _alone(memory, page_key):
            kept = self._readings.get(*page_key, *self.pool.identity.values())
            if kept is None:
                counters.recognised(document.sha256)
            known = (document.sha256, limits)
            request = {
                "do": "page",
                "number": number,
                "seed": " ".join((document.sha256, *self.identity, _shown(analysis))),
                "analysis": None if analysis is None else _asked(analysis),
                "kept": None if kept is None else str(kept),
                "checked": known in memory.pages,
                **_of(document, limits),
            }
            async with self._file(document) as path:
                header, body = await self._ask(memory, document, {**request, "path": str(path)}, reading)
            if kept is not None and header["recognised"]:
                counters.recognised(document.sha256)
            size = header["blocks"]
            text, found = body[:size], body[size:]
            await asyncio.to_thread(self._accept, text)
            # The page count was not requested, but the document is known to be within limits.
            memory.pages.setdefault(known, None)
            if found and memory is self._memory:
                self._keep(found, *page_key, *self.pool.identity.values())
            return text

    async def _ask(
        self, memory: ReadingMemory, document: Document, request: Mapping[str, Any], reading: SharedReading[Any]
    ) -> tuple[dict[str, Any], bytes]:
        whole, page = document.sha256, (document.sha256, request.get("number"))
        for page_key, most in ((page, _ENDS), (whole, self._most_ends)):
            ends, problem = memory.ends.get(page_key, (0, ""))
            if ends >= most:
                raise ServiceError(BAD_DOCUMENT, f"not tried again after {ends} lost processes", problem=problem)
        work = self.pool.submit(request, turn=document.sha256, urgent=reading.urgent)
        reading.work = work
        try:
            header, body = await work.done
        except asyncio.CancelledError:
            self.pool.drop(work)
            raise
        except ProcessEnded as error:
            problem = f"Reading the document {error}"
            for page_key in (page, whole):
                memory.ends[page_key] = memory.ends.get(page_key, (0, ""))[0] + 1, problem
            raise ServiceError(BAD_DOCUMENT, f"the process that read it is gone: {error}", problem=problem) from error
        except ReaderUnavailable as error:
            raise unavailable_error(error) from error
        if "error" in header:
            raise refusal_error(header["error"], header["context"])
        if "defect" in header:
            raise defect_error(header["defect"], header["trace"])
        return header, body

    async def _identified(self, deadline: float | None) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self.pool.wait_until_ready()
        except ReaderUnavailable as error:
            raise unavailable_error(error) from error
        except TimeoutError as error:
            raise ServiceError(INTERNAL_ERROR, problem="The emulator's reader is not ready yet") from error

    @asynccontextmanager
    async def _file(self, document: Document) -> AsyncIterator[Path]:
        file = document.file(self.spool)
        writing = asyncio.ensure_future(asyncio.to_thread(file.__enter__))
        try:
            # Cancelling the caller does not cancel the thread: its file would remain.
            path = await asyncio.shield(writing)
        except OSError as error:
            raise DiskFails(error.strerror or str(error)) from error
        except asyncio.CancelledError:
            await asyncio.wait({writing})
            if writing.exception() is None:
                file.__exit__(None, None, None)
            raise
        try:
            yield path
        finally:
            file.__exit__(None, None, None)

    def _accept(self, text: bytes) -> None:
        if self.check is None:
            return
        try:
            self.check(_loaded(text))
        except (ValueError, TypeError) as error:
            raise defect_error(type(error).__name__, str(error)) from error

    def _keep(self, found: bytes, *key: object) -> None:
        try:
            self._readings.put(found, *key)
        except OSError as error:
            # The page has been read: without the file it only has to be read again next time.
            logger.warning("a reading cannot be kept: %s", error)


@asynccontextmanager
async def _alone(memory: ReadingMemory, page: Hashable) -> AsyncIterator[None]:
    """Let only one task at a time read a page: the next one can use the reading of the one before."""
    while (other := memory.read_now.get(page)) is not None:
        await other.wait()
    memory.read_now[page] = done = asyncio.Event()
    try:
        yield
    finally:
        del memory.read_now[page]
        done.set()


def _task_of(reading: SharedReading[T]) -> asyncio.Task[T]:
    if reading.task is None:
        raise RuntimeError("a reading that is done is among those that go on")
    return reading.task


def _ended(memory: ReadingMemory, key: Hashable, reading: SharedReading[T], task: asyncio.Task[T]) -> None:
    reading.task = None
    if memory.running.get(key) is reading:
        del memory.running[key]
    # Retrieved, so that asyncio does not log a failure for which no caller waits any more.
    if not task.cancelled():
        task.exception()


def _too_late(
    memory: ReadingMemory, page_key: Hashable, reading: SharedReading[Any], bounds: ReadingLimits
) -> ServiceError:
    """Return the error for a call whose deadline has passed."""
    spent = 0.0 if reading.work is None else reading.work.processor_seconds
    if spent < bounds.slow_page_seconds:
        # Even if it was being read all the time: on a busy machine every page is slow.
        reason = f"the page waited for a processor, of which it had {spent:.1f} s, until the call's time was over"
        return ServiceError(PROVISIONED_THROUGHPUT_EXCEEDED, reason)
    problem = f"Reading the document takes more than {spent:.0f} seconds"
    if reading.callers == 1:
        times, _ = memory.slowness(page_key, bounds.slow_page_memory_seconds)
        memory.slow[page_key] = times + 1, problem, time.monotonic()
    return ServiceError(BAD_DOCUMENT, "a synchronous call has no more time; a job has more", problem=problem)


def _loaded(text: bytes) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = json.loads(text)
    return blocks


def _of(document: Document, limits: DocumentLimits) -> dict[str, Any]:
    return {"name": document.name, "limits": astuple(limits)}


def _asked(analysis: Analysis) -> dict[str, Any]:
    """Return an analysis as the members of a request, for ``Analysis.of``."""
    queries = [query.as_json() for query in analysis.queries]
    return {"FeatureTypes": sorted(analysis.features), "QueriesConfig": {"Queries": queries}}


def _shown(analysis: Analysis | None) -> str:
    return "text" if analysis is None else json.dumps(_asked(analysis))


def make(
    data: Path,
    *,
    processes: int,
    reader: str = OWN_READER,
    check: Check | None = None,
    bounds: ReadingLimits | None = None,
    first: subprocess.Popen[bytes] | None = None,
    most_ends: int = _ENDS_OF_DOCUMENT,
) -> PageRecogniser:
    """Return a recogniser whose first process is already loading. ``start`` it in the event loop.

    ``data`` is a directory, created if it is missing; ``reader`` the factory of a ``reading_process.PageReader`` as
    ``module:factory``; ``bounds`` the limits of reading; ``first`` a process that ``spawn`` has started with this
    reader and these bounds; ``most_ends`` is as for ``PageRecogniser``. Raises ``OSError`` if the directory cannot be
    used.
    """
    private_directory(data)
    spool, readings = Spool(data / "spool"), Readings(data / "readings")
    pool = ReadingPool(reader, replace(bounds or ReadingLimits(), processes=processes), first)
    return PageRecogniser(pool, spool, readings, check=check, most_ends=most_ends)
