"""The worker's side of the process that opens a document: starts it, limits it and interprets its exit."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from temporalio import activity

from photo_worker.adapters.documents.samples import SAMPLES
from photo_worker.adapters.ocr.library_errors import product_errors
from photo_worker.errors import (
    DecoderMissing,
    DecoderUnavailable,
    DocumentProtected,
    DocumentTooCostly,
    DocumentTooLarge,
    ImageTooLarge,
    PhotoWorkerError,
    UnreadableDocument,
    UnsupportedDocument,
)
from textract_local.child_environment import child_environment
from textract_local.child_processes import (
    EXTERNAL_SIGNALS,
    LOOK_SECONDS,
    LimitedProcess,
    ThreadedCall,
    describe_exit,
    max_processes,
    read_tail,
)

# Within an activity the adapter adds the job's id to each record.
logger = activity.LoggerAdapter(logging.getLogger(__name__), None)

# -P: modules must not be imported from the worker's current directory.
PROGRAM = (sys.executable, "-P", "-m", "photo_worker.adapters.documents.child")

_ERRORS: dict[str, type[PhotoWorkerError]] = {
    kind.code: kind
    for kind in (
        DecoderMissing,
        DocumentProtected,
        DocumentTooCostly,
        DocumentTooLarge,
        ImageTooLarge,
        UnreadableDocument,
        UnsupportedDocument,
    )
}


@dataclass(frozen=True)
class OpeningLimits:
    """Limits of opening a document: processor seconds, elapsed seconds, and bytes of memory.

    With the library code that is mapped in addition, a process stays below 1 GB. The largest ordinary photos take
    870 MB (``tests/unit/documents/test_memory.py``); rare forms, such as 10 bits without chroma subsampling, take more
    per pixel.
    """

    cpu_seconds: int = 60
    wall_seconds: int = 180
    memory_bytes: int = 950_000_000


def _go_on() -> None:
    """Do nothing, so that the process goes on."""


class ProcessDecoder:
    """``ports.DocumentDecoder`` that starts one process per document. Thread-safe.

    The number of concurrent processes is limited by the processors and the memory that this process may use: each one
    may take as much memory as a large photo needs.
    """

    def __init__(
        self,
        *,
        look: Callable[[], None] = _go_on,
        bounds: OpeningLimits | None = None,
        program: Sequence[str] = PROGRAM,
        parallel: int | None = None,
    ) -> None:
        """``look`` is called twice per second while a process works; if it raises, the process is ended."""
        self._look = look
        self._bounds = bounds or OpeningLimits()
        self._program = tuple(program)
        self._slots = threading.BoundedSemaphore(parallel or max_processes(self._bounds.memory_bytes))

    def check(self, content: bytes, kind: str, name: str) -> None:
        """Refuse a PDF or TIFF that OCR refuses."""
        with product_errors():
            self._run("check", content, kind, name)

    def convert(self, content: bytes, kind: str, name: str) -> bytes:
        """Return the first image of a HEIC or WebP as an upright JPEG within the limits of OCR."""
        with product_errors():
            return self._run("convert", content, kind, name)

    def _run(self, operation: str, content: bytes, kind: str, name: str) -> bytes:
        while not self._slots.acquire(timeout=LOOK_SECONDS):
            self._look()
        try:
            ended = self._talk([operation, kind], content)
            if ended.responded:
                if ended.header.get("error") == DocumentTooCostly.code:
                    self._require_memory(kind)
                return _result(ended, name)
            # The output of a library may contain text of the document, so it is logged at DEBUG only.
            logger.debug("a process broke on a document: %s", ended.how, extra={"photo": {"stderr": ended.said}})
            if ended.from_outside:
                raise DecoderUnavailable(reason=f"the process that opens documents was {ended.how}")
            self._require_sound(operation, kind)
            if ended.filled:
                self._require_memory(kind)
        finally:
            self._slots.release()
        if ended.status > 0:
            raise DecoderUnavailable(reason=f"the process that opens documents was {ended.how}")
        if ended.status == -signal.SIGXCPU:
            raise DocumentTooCostly(name=name, what="processor time")
        if ended.filled:
            raise DocumentTooCostly(name=name, what="memory")
        if ended.defect:
            logger.error("opening a document failed unexpectedly", extra={"photo": {"trace": ended.header["trace"]}})
        raise UnreadableDocument(name=name, reason=ended.defect or f"the program that opens it was {ended.how}")

    def _require_sound(self, operation: str, kind: str) -> None:
        """Raise ``DecoderUnavailable`` or ``DecoderMissing`` if this worker cannot open a valid document either."""
        sample = self._talk([operation, kind], SAMPLES[kind])
        if sample.responded and not sample.header:
            return
        how = sample.defect or sample.header.get("error") or sample.how
        # The output is about the sample, so it contains no text of a job's document.
        logger.error(
            "the worker cannot open documents: %s",
            how,
            extra={"photo": {"type": kind, "stderr": sample.said, "trace": sample.header.get("trace")}},
        )
        if sample.header.get("error") == DecoderMissing.code:
            _result(sample, "")
        last = sample.said.splitlines()[-1:]
        raise DecoderUnavailable(reason="; ".join([f"a sound document is not opened either: {how}", *last]))

    def _require_memory(self, kind: str) -> None:
        """Raise ``DecoderUnavailable`` if the machine does not provide the memory that a document may take."""
        measured = self._talk(["measure", kind], b"")
        if measured.header.get("has_memory") is False or not measured.responded:
            raise DecoderUnavailable(
                reason=f"a process that opens a document does not get the {self._bounds.memory_bytes} bytes of memory "
                "that it may take"
            )

    def _talk(self, arguments: Sequence[str], content: bytes) -> _Exit:
        """Open a document in a new process and return how the process ended. It never outlives this call."""
        bounds = self._bounds
        limits = (os.getpid(), bounds.cpu_seconds, bounds.wall_seconds, bounds.memory_bytes)
        reads, writes = os.pipe()
        try:
            process = LimitedProcess(
                [*self._program, *arguments, *map(str, limits)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=writes,
                # Ctrl-C in a terminal must reach the worker alone.
                start_new_session=True,
                env=child_environment(),
            )
        except OSError as error:
            os.close(reads)
            raise DecoderUnavailable(reason=f"no process can be started: {error.strerror}") from error
        finally:
            os.close(writes)
        deadline = time.monotonic() + bounds.wall_seconds
        response = ThreadedCall(lambda: process.communicate(content)[0], "opens")
        said = ThreadedCall(lambda: read_tail(reads), "opens")
        try:
            # communicate runs in a thread: in Python 3.11 a second call after a timeout loses input that was not sent.
            response.start()
            said.start()
            look_seconds = process.look_seconds(bounds.memory_bytes, LOOK_SECONDS)
            while True:
                response.join(look_seconds)
                process.look()
                if not response.is_alive():
                    output = response.result()
                    said.join()
                    filled = process.has_filled(bounds.memory_bytes)
                    return _Exit(process.returncode, output, said.result().decode(errors="replace"), filled)
                if time.monotonic() > deadline:
                    raise DecoderUnavailable(
                        reason=f"a document was not opened within {bounds.wall_seconds} s, and took little of them"
                    )
                self._look()
        finally:
            process.kill()
            process.wait()
            # If the system had no thread left, one or both were never started.
            if response.ident is not None:
                response.join()
            if said.ident is not None:
                said.join()
            else:
                os.close(reads)
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]


@dataclass(frozen=True)
class _Exit:
    """A process's exit status, its response, and the last part of its standard error."""

    status: int
    output: bytes
    said: str
    filled: bool
    """Whether it used all the memory that it may have."""

    @cached_property
    def _line(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self.output.partition(b"\n")[0])
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    @property
    def header(self) -> dict[str, Any]:
        """The response's first line as an object; empty if there is none or if the document was opened."""
        return self._line or {}

    @property
    def body(self) -> bytes:
        """The bytes after the response's first line: the converted image."""
        return self.output.partition(b"\n")[2]

    @property
    def defect(self) -> str:
        """Class and text of an exception that no parser should raise; otherwise empty."""
        return str(self.header.get("defect", ""))

    @property
    def responded(self) -> bool:
        """Whether the process reported an outcome: the document was opened, or refused with an error code."""
        return self.status == 0 and self._line is not None and not self.defect

    @property
    def from_outside(self) -> bool:
        """Whether the system or a person ended the process."""
        return -self.status in EXTERNAL_SIGNALS

    @property
    def how(self) -> str:
        """How the process ended, worded to follow "was"."""
        return describe_exit(self.status)


def _result(ended: _Exit, name: str) -> bytes:
    if "error" in ended.header:
        raise _ERRORS[ended.header["error"]](**ended.header["context"] | {"name": name})
    return ended.body
