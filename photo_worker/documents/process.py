"""The worker's end of the process that opens a document: its start, its limits, and what its end means."""

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
from dataclasses import dataclass
from typing import Any, NoReturn

from photo_worker.child_environment import child_environment
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

logger = logging.getLogger(__name__)

# -P: the folder that a worker was started in is no place to import from.
PROGRAM = (sys.executable, "-P", "-m", "photo_worker.documents.child")

_LOOK_SECONDS = 0.5

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

# The system, or a person, ended the process; it did not end over its document.
_ENDED_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGALRM, signal.SIGHUP, signal.SIGINT})


@dataclass(frozen=True)
class Bounds:
    """What opening a document may cost: seconds of a processor, seconds in all, and bytes of memory.

    Beside these bytes there are the parts of its libraries that it reads: together less than 1 GB. The largest ordinary
    photos take 870 MB (``tests/unit/documents/test_memory.py``); rare forms, such as 10 bits without thinned-out
    colour, take more for each pixel.
    """

    cpu_seconds: int = 60
    wall_seconds: int = 180
    memory_bytes: int = 950_000_000


def _go_on() -> None:
    """Let the process work."""


class ProcessDecoder:
    """``ports.DocumentDecoder`` with a process for each document. Thread-safe.

    As many run at once as the machine has processors: each may take memory for a large photo.
    """

    def __init__(
        self,
        *,
        look: Callable[[], None] = _go_on,
        bounds: Bounds | None = None,
        program: Sequence[str] = PROGRAM,
        parallel: int | None = None,
    ) -> None:
        """``look`` is called twice a second while a process works, and may raise to end it."""
        self._look = look
        self._bounds = bounds or Bounds()
        self._program = tuple(program)
        self._slots = threading.BoundedSemaphore(parallel or os.cpu_count() or 1)

    def check(self, content: bytes, kind: str, name: str) -> None:
        """Refuse a PDF or TIFF that OCR refuses."""
        self._run("check", content, kind, name)

    def convert(self, content: bytes, kind: str, name: str) -> bytes:
        """Return the first image of a HEIC or WebP as an upright JPEG within the limits of OCR."""
        return self._run("convert", content, kind, name)

    def _run(self, operation: str, content: bytes, kind: str, name: str) -> bytes:
        while not self._slots.acquire(timeout=_LOOK_SECONDS):
            self._look()
        try:
            status, output = self._talk([operation, kind], content)
        finally:
            self._slots.release()
        if status:
            _explain(status, name)
        line, _, body = output.partition(b"\n")
        try:
            header: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise UnreadableDocument(name=name, reason="it makes the program that opens it talk nonsense") from error
        if "error" in header:
            raise _ERRORS[header["error"]](**header["context"] | {"name": name})
        if "defect" in header:
            logger.error("opening a document failed unexpectedly", extra={"photo": {"trace": header["trace"]}})
            raise UnreadableDocument(name=name, reason=header["defect"])
        return body

    def _talk(self, arguments: Sequence[str], content: bytes) -> tuple[int, bytes]:
        """Return a process's exit status and all it wrote; it is gone then, whatever happened."""
        bounds = self._bounds
        limits = (bounds.cpu_seconds, bounds.wall_seconds, bounds.memory_bytes)
        try:
            process = subprocess.Popen(
                [*self._program, *arguments, *map(str, limits)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # A terminal's interrupt is the worker's to answer.
                start_new_session=True,
                env=child_environment(),
            )
        except OSError as error:
            raise DecoderUnavailable(reason=f"no process can be started: {error.strerror}") from error
        deadline = time.monotonic() + bounds.wall_seconds
        outputs: list[bytes] = []
        # Python 3.11 forgets what was left to send where communicate is called again after its timeout.
        talk = threading.Thread(target=lambda: outputs.append(process.communicate(content)[0]), daemon=True)
        talk.start()
        try:
            while True:
                talk.join(_LOOK_SECONDS)
                if not talk.is_alive():
                    return process.returncode, b"".join(outputs)
                if time.monotonic() > deadline:
                    raise DecoderUnavailable(
                        reason=f"a document was not opened within {bounds.wall_seconds} s, and took little of them"
                    )
                self._look()
        finally:
            process.kill()
            talk.join()


def _explain(status: int, name: str) -> NoReturn:
    """Raise what it means that a process ended without an answer."""
    if status == -signal.SIGXCPU:
        raise DocumentTooCostly(name=name, what="processor time")
    if status > 0 or -status in _ENDED_FROM_OUTSIDE:
        how = f"with status {status}" if status > 0 else f"by signal {-status}"
        raise DecoderUnavailable(reason=f"the process that opens documents was ended {how}")
    raise UnreadableDocument(name=name, reason="the program that opens it breaks on it")
