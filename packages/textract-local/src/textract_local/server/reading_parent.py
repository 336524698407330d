"""The server's side of one reading process: its start, its requests and responses, its limits and its end."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
from collections.abc import Mapping
from typing import Any

import psutil

from textract_local.messages import HEAD
from textract_local.server.spawning import MIB, ReadingLimits, spawn

# How often a busy process's memory is checked. Filling a gigabyte takes longer.
WATCH_SECONDS = 0.1

# How long a process that has closed its output may take to exit.
_END_SECONDS = 1.0

_BUFFER_BYTES = MIB

# A process returns free memory again after this growth, so that one that stands still is not kept busy with it.
_TRIM_GROWTH_BYTES = 8 * MIB

NO_RESPONSE = "gave something that is no response"


class ProcessEnded(Exception):
    """A process ended, or was ended, during a request; the text completes "Reading the document ..."."""


class NotBegun(ProcessEnded):
    """A process ended before it began with the request."""


class ReaderUnavailable(Exception):
    """No process can be started. The text is for the log and for health."""

    def __init__(self, problem: str, code: str = "engine_unavailable", hint: str = "", trace: str = "") -> None:
        self.problem, self.code, self.hint, self.trace = problem, code, hint, trace
        super().__init__(problem)


class ReadingChild:
    """One process. ``__init__`` starts it, so that it loads its engine while the server still prepares."""

    def __init__(self, reader: str, bounds: ReadingLimits, process: subprocess.Popen[bytes] | None = None) -> None:
        """``process`` is one that ``spawn`` has started for the same reader and bounds.

        Raises ``ReaderUnavailable`` if the machine cannot start another process.
        """
        self.identity: Mapping[str, str] = {}
        self.idle_since = time.monotonic()
        self._bounds = bounds
        self._fresh = 0
        self._asked = False
        self._incoming: asyncio.StreamReader | None = None
        self._transports: tuple[Any, ...] = ()
        try:
            self._process = process or spawn(reader, bounds)
        except OSError as error:
            raise ReaderUnavailable(f"no process can be started: {error.strerror}") from error

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    @property
    def memory(self) -> int:
        """Resident memory in bytes; 0 if the process has ended."""
        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except psutil.Error:
            return 0

    @property
    def processor_seconds(self) -> float:
        """CPU seconds that it has used; 0 if the process has ended."""
        try:
            times = psutil.Process(self.pid).cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)

    @property
    def stopped(self) -> bool:
        """Whether a signal or a debugger has stopped it."""
        try:
            status = psutil.Process(self.pid).status()
        except psutil.Error:
            return False
        return bool(status in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP))

    async def ready(self) -> None:
        """Wait until it can read. Raises ``ReaderUnavailable`` after ending the process."""
        try:
            async with asyncio.timeout(self._bounds.start_seconds):
                await self._connect()
                self.identity = dict((await self._started())["hello"])
                await self._started()
        except (ProcessEnded, KeyError, TypeError, ValueError) as error:
            await self.end()
            raise ReaderUnavailable(f"the process that reads {error} while it started") from error
        except TimeoutError as error:
            await self.end()
            seconds = f"{self._bounds.start_seconds:g}"
            raise ReaderUnavailable(f"the process that reads did not start within {seconds} seconds") from error
        except BaseException:
            await self.end()
            raise
        self.idle_since = time.monotonic()
        self._fresh = self.memory

    async def ask(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Return the response's header and body. Raises ``ProcessEnded`` after ending the process.

        Raises ``NotBegun`` if the process had ended before; the request may be sent to another process.
        """
        self._asked = True
        responding = asyncio.ensure_future(self._exchange(request))
        try:
            return await self._watched(responding)
        except BaseException:
            responding.cancel()
            await self.end()
            raise
        finally:
            self.idle_since = time.monotonic()

    @property
    def grown(self) -> bool:
        """Whether it holds much more memory than after its start."""
        return self._asked and self.memory > self._fresh + self._bounds.idle_growth_bytes

    async def end(self) -> None:
        """Kill the process and close its pipes. May be called twice."""
        self._process.kill()
        for end in self._transports or (self._process.stdin, self._process.stdout):
            if end is not None:
                end.close()
        await asyncio.to_thread(self._process.wait)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        incoming = asyncio.StreamReader(limit=_BUFFER_BYTES)
        receiving, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(incoming), self._process.stdout
        )
        sending, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, self._process.stdin)
        self._incoming, self._transports = incoming, (receiving, sending)

    async def _started(self) -> dict[str, Any]:
        header, _ = await self._receive()
        if "unavailable" in header:
            told = {name: str(header[name]) for name in ("code", "hint", "trace") if name in header}
            raise ReaderUnavailable(str(header["unavailable"]), **told)
        return header

    async def _watched(self, responding: asyncio.Future[tuple[dict[str, Any], bytes]]) -> tuple[dict[str, Any], bytes]:
        bounds = self._bounds
        began, spent_before = time.monotonic(), self.processor_seconds
        spent_last, still = spent_before, 0
        trimmed_at = 0
        while True:
            done, _ = await asyncio.wait({responding}, timeout=WATCH_SECONDS)
            if done:
                return responding.result()
            # The limit is CPU time, so that a page is not blamed for a busy machine.
            spent = self.processor_seconds
            if spent - spent_before > bounds.page_seconds:
                raise ProcessEnded(f"took more than {bounds.page_seconds:g} seconds of a processor")
            # Counted in checks, not by the clock: if the server itself was stopped, the process may have been as well.
            still = still + 1 if spent == spent_last and not self.stopped else 0
            spent_last = spent
            if still * WATCH_SECONDS > bounds.page_seconds:
                raise ProcessEnded(f"stood still for more than {bounds.page_seconds:g} seconds")
            if time.monotonic() - began > bounds.page_clock_seconds:
                raise ProcessEnded(f"took more than {bounds.page_clock_seconds:g} seconds by the clock")
            memory = self.memory
            if memory > bounds.memory_bytes:
                raise ProcessEnded(f"took more than {bounds.memory_bytes // MIB} MiB of memory")
            trimmed_at = min(trimmed_at, memory)
            if memory > max(bounds.trim_bytes, trimmed_at + _TRIM_GROWTH_BYTES):
                self._send({"do": "trim"})
                trimmed_at = memory

    async def _exchange(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        self._send(request)
        try:
            begun, _ = await self._receive()
        except ProcessEnded as error:
            raise NotBegun(str(error)) from error
        if "begun" not in begun:
            raise ProcessEnded(NO_RESPONSE)
        header, body = await self._receive()
        if header.get("memory"):
            raise ProcessEnded("took more memory than it may have")
        if not _is_response(header, body) or not await asyncio.to_thread(_are_blocks, body[: header.get("blocks", 0)]):
            raise ProcessEnded(NO_RESPONSE)
        return header, body

    def _send(self, request: Mapping[str, Any]) -> None:
        text = json.dumps(request, ensure_ascii=False).encode(errors="backslashreplace")
        # Bytes that do not fit into the pipe are buffered; requests are small, and there is one page at a time.
        self._transports[1].write(HEAD.pack(len(text), 0) + text)

    async def _receive(self) -> tuple[dict[str, Any], bytes]:
        reader = self._incoming
        if reader is None:
            raise ProcessEnded("was asked before it was connected")
        try:
            sizes = HEAD.unpack(await reader.readexactly(HEAD.size))
            if sum(sizes) > self._bounds.response_bytes:
                raise ProcessEnded(NO_RESPONSE)
            text, body = await reader.readexactly(sizes[0]), await reader.readexactly(sizes[1])
        except asyncio.IncompleteReadError as error:
            raise ProcessEnded(await self._how()) from error
        try:
            header = json.loads(text)
        except ValueError as error:
            raise ProcessEnded(NO_RESPONSE) from error
        if not isinstance(header, dict):
            raise ProcessEnded(NO_RESPONSE)
        return header, body

    async def _how(self) -> str:
        """Return how a process ended that closed its pipe, as text for ``ProcessEnded``."""
        try:
            status = await asyncio.to_thread(self._process.wait, _END_SECONDS)
        except subprocess.TimeoutExpired:
            return "broke off without a word"
        if status >= 0:
            return f"ended with status {status}"
        try:
            return f"ended with the signal {signal.Signals(-status).name}"
        except ValueError:
            return f"ended with the signal {-status}"


def _is_response(header: Mapping[str, Any], body: bytes) -> bool:
    """Return whether a message is one that ``reading_process`` sends."""
    size = header.get("blocks")
    return (
        type(header.get("pages")) is int
        or (type(size) is int and 0 <= size <= len(body) and type(header.get("recognised")) is bool)
        or (isinstance(header.get("error"), str) and isinstance(header.get("context"), dict))
        or (isinstance(header.get("defect"), str) and isinstance(header.get("trace"), str))
    )


def _are_blocks(text: bytes) -> bool:
    if not text:
        return True
    try:
        blocks = json.loads(text)
    except ValueError:
        return False
    return isinstance(blocks, list) and all(isinstance(block, dict) for block in blocks)
