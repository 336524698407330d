"""Parent side of the processes that read documents: starts and limits them, and maps their ends to errors."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from textract_local import media
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
from textract_local.errors import (
    DecoderUnavailable,
    DocumentProtected,
    DocumentTooCostly,
    DocumentTooLarge,
    EngineFailed,
    EngineUnavailable,
    ImageTooLarge,
    OcrThrottled,
    TextractLocalError,
    UnreadableDocument,
    UnsupportedDocument,
)
from textract_local.limits import OCR_RESULT_LIMIT_BYTES
from textract_local.reader.reading_child import MessageTooLong, receive, send

logger = logging.getLogger(__name__)

T = TypeVar("T")

# -P: nothing may be imported from the directory that the program was started in.
PROGRAM = (sys.executable, "-P", "-m", "textract_local.reader.reading_child")

# After so many processes that ended before they began to read, the machine has no resources for one.
_MOST_LOSSES = 3

_ERRORS: dict[str, type[TextractLocalError]] = {
    kind.code: kind
    for kind in (
        DocumentProtected,
        DocumentTooCostly,
        DocumentTooLarge,
        EngineUnavailable,
        ImageTooLarge,
        UnreadableDocument,
        UnsupportedDocument,
    )
}

_ENGINE = "local"


@dataclass(frozen=True)
class ReadingBounds:
    """What reading a document may cost. Times are seconds; an attempt has two minutes for all of them together.

    An ordinary photo takes 2 s of a processor, the densest page some 20.
    """

    cpu_seconds: int = 60
    wall_seconds: int = 80
    memory_bytes: int = 930 * 1024**2
    start_seconds: float = 60.0
    slot_seconds: float = 30.0
    """How long to wait for a slot."""
    idle_seconds: float = 60.0
    """How long a process waits for a request before it ends."""
    kept_bytes: int = 512 * 1024**2
    """A process that holds more than this after a document is replaced."""


class ReadingProcesses:
    """Reads documents as ``DocumentReader.read`` does, in child processes. Thread-safe.

    A process keeps its engine for the next document. The processors and the memory that this process may use limit how
    many run at once, and so does ``parallel``.
    """

    def __init__(
        self,
        *,
        look: Callable[[], None] = lambda: None,
        bounds: ReadingBounds | None = None,
        program: Sequence[str] = PROGRAM,
        parallel: int | None = None,
    ) -> None:
        """``look`` is called twice a second while a process works, and may raise to end it."""
        self._look = look
        self._bounds = bounds or ReadingBounds()
        self._program = tuple(program)
        most = max_processes(self._bounds.memory_bytes)
        self._slots = threading.BoundedSemaphore(min(most, parallel or most))
        self._idle: list[_Process] = []
        self._version = ""
        self._end = weakref.finalize(self, _end_all, self._idle)

    @property
    def version(self) -> str:
        """The engine's and its models' version. Raises as ``warm``."""
        if not self._version:
            self.warm()
        return self._version

    def warm(self) -> None:
        """Start a process that loads the engine. Raises ``EngineUnavailable`` and ``DecoderUnavailable``."""
        if self._version:
            return
        with self._slot():
            self._idle.append(self._started())

    def close(self) -> None:
        """End all idle processes."""
        self._end()

    def read(self, content: bytes, name: str) -> dict[str, Any]:
        """Return a document's text. Raises the ``DocumentError`` that says what is wrong with the document.

        Raises ``DecoderUnavailable`` if trying again may help, and ``EngineUnavailable``.
        """
        kind = media.sniff(content[: media.HEAD_BYTES]) or ""
        with self._slot():
            outcome, was_fresh = self._asked({}, content)
            if outcome.may_differ and not was_fresh:
                # The cause may be what earlier documents left in the process, not this document.
                outcome, _ = self._asked({}, content, fresh=True)
            if outcome.from_outside or outcome.status > 0:
                raise DecoderUnavailable(reason=f"the process that reads documents was {outcome.how}")
            if not outcome.is_explained:
                self._require_sound(kind)
        if outcome.defect:
            logger.error(
                "reading a document failed unexpectedly",
                extra={"textract_local": {"trace": outcome.header.get("trace")}},
            )
            raise UnreadableDocument(name=name, reason=outcome.defect)
        if outcome.header.get("error") == EngineFailed.code:
            # The machine is the cause, and not the document.
            raise DecoderUnavailable(reason=f"the OCR engine failed: {outcome.header['context']['reason']}")
        if "error" in outcome.header:
            context = outcome.header["context"]
            raise _ERRORS[outcome.header["error"]](**context | ({"name": name} if "engine" not in context else {}))
        if "read" in outcome.header:
            response: dict[str, Any] = json.loads(outcome.body)
            return response
        # What a library prints may contain text of the document.
        logger.debug(
            "a process broke on a document: %s", outcome.how, extra={"textract_local": {"stderr": outcome.said}}
        )
        if outcome.status == -signal.SIGXCPU:
            raise DocumentTooCostly(name=name, what="processor time")
        if outcome.filled:
            raise DocumentTooCostly(name=name, what="memory")
        raise UnreadableDocument(name=name, reason=f"the program that reads it was {outcome.how}")

    def _slot(self) -> _Slot:
        return _Slot(self._slots, self._look, self._bounds.slot_seconds)

    def _asked(self, header: dict[str, Any], content: bytes, *, fresh: bool = False) -> tuple[_Outcome, bool]:
        """Send a request; return its outcome, and whether the process had read nothing before."""
        for _ in range(_MOST_LOSSES):
            process = self._taken(fresh)
            was_fresh = not process.has_read
            outcome = self._watched(process, lambda p=process: p.asked(header, content), self._bounds.wall_seconds)  # type: ignore[misc]
            if outcome is not None:
                filled = process.has_filled(self._bounds.memory_bytes)
                return replace(outcome, filled=filled), was_fresh
        raise DecoderUnavailable(reason=f"the process that reads documents was {process.how} before it had begun")

    def _taken(self, fresh: bool) -> _Process:
        while not fresh:
            try:
                process = self._idle.pop()
            except IndexError:
                break
            if process.is_alive:
                return process
            process.end()
        return self._started()

    def _started(self) -> _Process:
        bounds = self._bounds
        limits = (bounds.cpu_seconds, bounds.wall_seconds, bounds.memory_bytes, bounds.idle_seconds)
        process = _Process([*self._program, *map(str, (os.getpid(), *limits))])
        told = self._watched(process, process.first_message, bounds.start_seconds, keep=True)
        if told.get("ready") is True:
            self._version = str(told.get("version"))
            process.has_memory = bool(told.get("has_memory", True))
            return process
        process.end()
        if told.get("error") == EngineUnavailable.code:
            raise EngineUnavailable(**told["context"])
        reasons = [str(told.get("defect") or f"it was {process.how}"), *process.said.splitlines()[-1:]]
        logger.error(
            "no document can be read: %s",
            reasons[0],
            extra={"textract_local": {"trace": told.get("trace"), "stderr": process.said}},
        )
        raise DecoderUnavailable(reason="; ".join(["the process that reads documents does not start", *reasons]))

    def _watched(self, process: _Process, call: Callable[[], T], seconds: float, *, keep: bool = False) -> T:
        """Run ``call``, which talks to the process, in a thread and return its result.

        Afterwards the process is idle or ended, or with ``keep`` still the caller's. If an error is raised, it has
        ended. Raises ``DecoderUnavailable`` after ``seconds``.
        """
        talk = ThreadedCall(call, "reads")
        deadline = time.monotonic() + seconds
        done = False
        try:
            talk.start()
            look_seconds = process.look_seconds(self._bounds.memory_bytes)
            while True:
                talk.join(look_seconds)
                process.look()
                if not talk.is_alive():
                    result = talk.result()
                    done = True
                    break
                if time.monotonic() > deadline:
                    raise DecoderUnavailable(
                        reason=f"a document was not read within {seconds:g} s, and took little of them"
                    )
                self._look()
        finally:
            if not done:
                process.end()
            # If the system had no thread left, the thread was never started.
            if talk.ident is not None:
                talk.join()
        if not keep:
            if process.holds_bytes is not None and process.holds_bytes <= self._bounds.kept_bytes:
                self._idle.append(process)
            else:
                process.end()
        return result

    def _require_sound(self, kind: str) -> None:
        """Raise ``DecoderUnavailable`` if a fresh process cannot read a sound document of this type either.

        Raises it also if a process does not get the memory that a document may take.
        """
        process = self._started()
        if not process.has_memory:
            process.end()
            reason = f"a process does not get the {self._bounds.memory_bytes} bytes of memory that a document may take"
            raise DecoderUnavailable(reason=reason)
        sample = self._watched(process, lambda: process.asked({"sample": kind}, b""), self._bounds.wall_seconds)
        if sample is not None and "read" in sample.header:
            return
        how = process.how if sample is None else sample.defect or sample.header.get("error") or sample.how
        # The process read the sample alone, so its output contains nothing of a job's document.
        logger.error(
            "no document can be read: %s", how, extra={"textract_local": {"type": kind, "stderr": process.said}}
        )
        raise DecoderUnavailable(reason=f"a sound document is not read either: {how}")


class _Slot:
    """Context manager that holds one of the slots for running processes."""

    def __init__(self, slots: threading.BoundedSemaphore, look: Callable[[], None], seconds: float) -> None:
        self._slots, self._look, self._seconds = slots, look, seconds

    def __enter__(self) -> None:
        deadline = time.monotonic() + self._seconds
        while not self._slots.acquire(timeout=LOOK_SECONDS):
            self._look()
            if time.monotonic() > deadline:
                # The worker is sound, but has taken more documents than it can read at once.
                reason = f"all processes that read documents have been at work for {self._seconds:g} s"
                raise OcrThrottled(engine=_ENGINE, reason=reason)

    def __exit__(self, *given: object) -> None:
        self._slots.release()


@dataclass(frozen=True)
class _Outcome:
    """The outcome of a request: a response, or the end of its process with ``status``."""

    header: dict[str, Any]
    body: bytes
    status: int
    said: str
    filled: bool = False
    """Whether the process had reached its memory limit."""

    @property
    def defect(self) -> str:
        """An unexpected exception of the child, which no decoder should raise; empty if there is none."""
        return str(self.header.get("defect", ""))

    @property
    def is_explained(self) -> bool:
        """Whether it is a response, or a refusal that says what is wrong with the document."""
        return "read" in self.header or self.header.get("error", DocumentTooCostly.code) != DocumentTooCostly.code

    @property
    def may_differ(self) -> bool:
        """Whether a process that has read nothing before may have another outcome."""
        return not self.is_explained and not self.from_outside and self.status != -signal.SIGXCPU

    @property
    def from_outside(self) -> bool:
        """Whether the system or a person ended the process."""
        return not self.header and -self.status in EXTERNAL_SIGNALS

    @property
    def how(self) -> str:
        """How the process ended, behind "was"."""
        return describe_exit(self.status)


class _Process:
    """One process, and the pipes to it."""

    def __init__(self, command: Sequence[str]) -> None:
        """Raises ``DecoderUnavailable`` if no process can be started."""
        reads, writes = os.pipe()
        try:
            self._process = LimitedProcess(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=writes,
                # The worker handles a terminal's interrupt.
                start_new_session=True,
                env={**child_environment(), "OMP_NUM_THREADS": "1"},
            )
        except OSError as error:
            os.close(reads)
            raise DecoderUnavailable(reason=f"no process can be started: {error.strerror}") from error
        finally:
            os.close(writes)
        self.has_read = False
        self.has_memory = True
        self.holds_bytes: int | None = None
        self._said = ThreadedCall(lambda: read_tail(reads), "reads")
        try:
            self._said.start()
        except BaseException:
            os.close(reads)
            self.end()
            raise

    @property
    def is_alive(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    @property
    def how(self) -> str:
        """How it ended, behind "was"."""
        return describe_exit(self._process.wait())

    @property
    def said(self) -> str:
        """The end of the process's standard error. The process must have ended."""
        self._said.join()
        return self._said.result().decode(errors="replace")

    def first_message(self) -> dict[str, Any]:
        """Return the first message of the process; an empty one if it ended without."""
        try:
            header, _ = receive(self._process.stdout, OCR_RESULT_LIMIT_BYTES)  # type: ignore[arg-type]
        except (EOFError, OSError):
            return {}
        return header

    def asked(self, header: dict[str, Any], content: bytes) -> _Outcome | None:
        """Send a request and return its outcome, or None if the process ended before it began to read."""
        told: dict[str, Any] = {}
        body = b""
        begun = False
        self.has_read, self.holds_bytes = True, None
        try:
            send(self._process.stdin, header, content)  # type: ignore[arg-type]
            receive(self._process.stdout, OCR_RESULT_LIMIT_BYTES)  # type: ignore[arg-type]
            begun = True
            told, body = receive(self._process.stdout, OCR_RESULT_LIMIT_BYTES)  # type: ignore[arg-type]
        except MessageTooLong:
            # The process is still writing a message that will not be read, and would not end.
            told = {"error": DocumentTooCostly.code, "context": {"what": "memory for its text"}}
            self.end()
        except (EOFError, OSError):
            # The process has closed its pipe and is about to end. Its status tells what was at fault.
            self._process.wait()
            self.end()
        held = told.pop("holds_bytes", None)
        outcome = _Outcome(told, body, self._process.poll() or 0, "" if told else self.said)
        if isinstance(held, int) and outcome.is_explained:
            self.holds_bytes = held
        return outcome if begun else None

    def look_seconds(self, memory_bytes: int) -> float:
        """Return the seconds between calls of ``look`` while the process reads."""
        return self._process.look_seconds(memory_bytes, LOOK_SECONDS)

    def look(self) -> None:
        """Record how much memory the process holds."""
        self._process.look()

    def has_filled(self, memory_bytes: int) -> bool:
        """Tell whether the process ended at its memory limit."""
        return self._process.has_filled(memory_bytes)

    def end(self) -> None:
        """Kill the process and close its pipes. May be called twice, and by another thread."""
        self._process.kill()
        self._process.wait()
        if self._said.ident is not None and self._said is not threading.current_thread():
            self._said.join()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError, ValueError):
                pipe.close()  # type: ignore[union-attr]


def _end_all(processes: list[_Process]) -> None:
    while processes:
        processes.pop().end()
