"""Runs the OCR engine: in a few threads, once per document, and remembers what it read."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Protocol

from photo_worker.devkit.textract.counters import Counters
from photo_worker.devkit.textract.documents import Document
from photo_worker.devkit.textract.failures import (
    BAD_DOCUMENT,
    DOCUMENT_TOO_LARGE,
    IMAGE_TOO_LARGE,
    INTERNAL_ERROR,
    UNSUPPORTED_DOCUMENT,
    Refusal,
)
from photo_worker.errors import (
    DocumentTooLarge,
    ImageTooLarge,
    PhotoWorkerError,
    UnreadableDocument,
    UnsupportedDocument,
)

logger = logging.getLogger(__name__)

# An answer for a full page has some 200 kB; this is a few hundred pages.
REMEMBERED_BYTES = 32 * 1024 * 1024


class Reader(Protocol):
    """An OCR engine that answers in Textract's block structure. Called from several threads at once."""

    @property
    def engine(self) -> str:
        """The engine's name."""

    @property
    def version(self) -> str:
        """Its version, which changes whenever the same document may be read differently."""

    def read(self, document: bytes, name: str, /) -> Mapping[str, Any]:
        """Return the DetectDocumentText answer for a document of one page.

        Raises ``UnsupportedDocument``, ``UnreadableDocument``, ``DocumentTooLarge``, ``ImageTooLarge``
        or ``EngineUnavailable``. The name is for their messages.
        """

    def warm(self) -> None:
        """Load what the first call would load. Raises ``EngineUnavailable``."""


class Recogniser:
    """Reads documents with a reader. Its methods belong to the event loop; the reading happens in threads.

    Answers are kept as they go over the wire, keyed by document, engine and version, the least used
    leaving first. Requests for a document that is being read wait for that reading.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        threads: int,
        check: Callable[[Mapping[str, Any]], None],
        remembered_bytes: int = REMEMBERED_BYTES,
    ) -> None:
        """``check`` raises where an answer breaks the service's model."""
        self._reader = reader
        self._check = check
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="recognition")
        self._answers = _Remembered(remembered_bytes)
        self._running: dict[tuple[str, str, str], asyncio.Future[bytes]] = {}

    @cached_property
    def identity(self) -> tuple[str, str]:
        """The reader's name and version; asked for once, since an installed package's version is read from disk."""
        return self._reader.engine, self._reader.version

    async def read(self, document: Document, counters: Counters) -> bytes:
        """Return the answer as JSON. Raises ``Refusal``, or what a defect of the reader raises."""
        key = (document.sha256, *self.identity)
        known = self._answers.get(key)
        if known is not None:
            return known
        running = self._running.get(key)
        if running is None:
            counters.recognised(document.sha256)
            running = asyncio.get_running_loop().run_in_executor(self._threads, self._read, document)
            answers, readings = self._answers, self._running
            readings[key] = running

            def ended(done: asyncio.Future[bytes]) -> None:
                # A reset in between has put others in the place of both.
                readings.pop(key, None)
                if not done.cancelled() and done.exception() is None:
                    answers.put(key, done.result())

            running.add_done_callback(ended)
        # A caller that goes away must not take the reading from those who wait with it.
        return await asyncio.shield(running)

    def warm(self) -> asyncio.Future[None]:
        """Load the engine in one of the threads."""
        return asyncio.get_running_loop().run_in_executor(self._threads, self._reader.warm)

    def forget(self) -> None:
        """Read every document anew from now on, also those that are being read."""
        self._answers = _Remembered(self._answers.limit)
        self._running = {}

    def close(self) -> None:
        """Begin no further reading."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _read(self, document: Document) -> bytes:
        try:
            answer = self._reader.read(document.content, document.name)
        except PhotoWorkerError as error:
            raise _refusal(error) from error
        self._check(answer)
        return json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


class _Remembered:
    """Answers up to a total size in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._size = 0
        self._answers: OrderedDict[tuple[str, str, str], bytes] = OrderedDict()

    def get(self, key: tuple[str, str, str]) -> bytes | None:
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    def put(self, key: tuple[str, str, str], answer: bytes) -> None:
        self._size += len(answer) - len(self._answers.pop(key, b""))
        self._answers[key] = answer
        while self._size > self.limit:
            self._size -= len(self._answers.popitem(last=False)[1])


def _refusal(error: PhotoWorkerError) -> Refusal:
    """Return what the real service would answer where our reader gives up."""
    details = error.context
    match error:
        case UnsupportedDocument():
            return Refusal(UNSUPPORTED_DOCUMENT, error.message)
        case UnreadableDocument():
            return Refusal(BAD_DOCUMENT, error.message, problem=details.get("reason", error.message))
        case DocumentTooLarge():
            size, limit = details["size_bytes"], details["limit_bytes"]
            return Refusal(DOCUMENT_TOO_LARGE, error.message, size=f"{size} bytes", limit_bytes=limit)
        case ImageTooLarge():
            return Refusal(IMAGE_TOO_LARGE, error.message, **details)
    logger.error("the reader failed [%s]: %s", error.code, error.message)
    return Refusal(INTERNAL_ERROR, error.hint, problem=error.message)
