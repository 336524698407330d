"""One reading process: it parses hostile documents, so that they cannot harm the server.

``python -P -m textract_local.server.reading_process MODULE:FACTORY PAGE_SECONDS CLOCK_SECONDS MEMORY_BYTES``
reads requests from standard input and responds on standard output. A page may take PAGE_SECONDS of CPU time and
CLOCK_SECONDS of wall-clock time. A message consists of the lengths of a JSON header and of a body, as 32-bit big-endian
numbers, followed by these two. After its start the process sends ``hello``, with the reader's identity, and ``ready``;
then for each request ``begun`` and one response. It ends when its input is closed, even in the middle of a page.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, Protocol

from textract_local.child_limits import claim_standard_streams
from textract_local.errors import TextractLocalError
from textract_local.messages import HEAD
from textract_local.reader.analysis.request import Analysis
from textract_local.reader.document import DocumentLimits
from textract_local.reader.reader import DocumentReader, PageRequest, PageResult
from textract_local.server.allocator import adapt_allocator, give_back_memory

# The parent ends the process first and reports why; these timers are for a process without a parent.
_GRACE_SECONDS = 5

# Address space is larger than memory: it has libraries, stacks, and arenas that are reserved but never used.
_ADDRESS_SPACE_BYTES = 2 * 1024**3

# The process writes only a log.
_FILE_BYTES = 64 * 1024**2


class PageReader(Protocol):
    """The type that a factory returns. Its methods are called from one thread."""

    @property
    def engine(self) -> str:
        """The engine's name."""

    @property
    def version(self) -> str:
        """The engine's version, which changes whenever the same document may be read differently."""

    def warm(self) -> None:
        """Load in advance what the first page needs. Raises ``EngineUnavailable``."""

    def pages(self, path: Path, name: str, limits: DocumentLimits, /) -> int:
        """Return how many pages a document has. Raises as ``page`` does."""

    def page(self, request: PageRequest, /) -> PageResult:
        """Return one page's blocks.

        Raises ``UnsupportedDocument``, ``UnreadableDocument``, ``DocumentTooLarge``, ``ImageTooLarge`` or
        ``EngineUnavailable``.
        """


def own_reader() -> PageReader:
    """Return this package's reader with one thread per page: pages are read in parallel processes instead."""
    return DocumentReader(threads=1)


def main(arguments: list[str]) -> int:
    """Serve until the input is closed. Returns 1 if the reader cannot be loaded."""
    name, page_seconds, clock_seconds, memory_bytes = arguments[0], *map(float, arguments[1:3]), int(arguments[3])
    requests, responses = claim_standard_streams()
    _limit(memory_bytes)
    waiting: SimpleQueue[Mapping[str, Any]] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests, waiting), daemon=True).start()
    try:
        reader = _load(name)
        identity = {"engine": reader.engine, "version": reader.version, "form": _form()}
        _send(responses, {"hello": identity})
        reader.warm()
    except TextractLocalError as error:
        _send(responses, {"unavailable": error.message, "code": error.code, "hint": error.hint})
        return 1
    except Exception as error:
        # The server must report any reason why a reader cannot be loaded.
        _send(responses, {"unavailable": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()})
        return 1
    _send(responses, {"ready": True})
    while True:
        request = waiting.get()
        # If a process ends without this message, the document is not the cause.
        _send(responses, {"begun": True})
        signal.setitimer(signal.ITIMER_PROF, page_seconds + _GRACE_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, clock_seconds + _GRACE_SECONDS)
        header, body = _response(reader, request)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _send(responses, header, body)


def _limit(memory_bytes: int) -> None:
    """Set the resource limits that the platform supports; the parent also watches the memory."""
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: _FILE_BYTES,
        resource.RLIMIT_AS: memory_bytes + _ADDRESS_SPACE_BYTES,
        # On Linux: all private writable memory, which is the resident memory within a few MiB.
        resource.RLIMIT_DATA: memory_bytes,
    }
    for kind, value in limits.items():
        hard = resource.getrlimit(kind)[1]
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # macOS does not accept a limit on the address space.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (least, least))
    # The default action of these two ends the process even in native code.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)


def _load(name: str) -> PageReader:
    module, _, factory = name.partition(":")
    reader: PageReader = getattr(importlib.import_module(module), factory)()
    return reader


def _form() -> str:
    """Return a hash of the code that makes readings: readings of older code may not be compatible."""
    from textract_local import reader

    digest = hashlib.sha256()
    for file in sorted(Path(str(reader.__file__)).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _listen(requests: BinaryIO, waiting: SimpleQueue[Mapping[str, Any]]) -> None:
    try:
        while True:
            size, _ = HEAD.unpack(requests.read(HEAD.size))
            request = json.loads(requests.read(size))
            if request["do"] == "trim":
                # On this thread: the main thread is in the engine's one long call, which does not hold the GIL.
                give_back_memory()
            else:
                waiting.put(request)
    finally:
        # The parent closed the pipe, or has ended. Running native code would delay any other exit.
        os._exit(0)


def _send(responses: BinaryIO, header: Mapping[str, Any], body: bytes = b"") -> None:
    text = json.dumps(header, default=str).encode()
    try:
        responses.write(HEAD.pack(len(text), len(body)) + text)
        responses.write(body)
        responses.flush()
    except BrokenPipeError:
        # The parent has ended; a traceback would appear among the messages of its command.
        os._exit(0)


def _response(reader: PageReader, request: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    try:
        limits = DocumentLimits(*request["limits"])
        path = Path(request["path"])
        if request["do"] == "pages":
            return {"pages": reader.pages(path, request["name"], limits)}, b""
        adapt_allocator(path)
        response = reader.page(
            PageRequest(
                source=path,
                name=request["name"],
                number=request["number"],
                seed=request["seed"],
                limits=limits,
                analysis=None if request["analysis"] is None else Analysis.of(request["analysis"]),
                kept=_kept(request["kept"]),
                checked=request["checked"],
            )
        )
        blocks = json.dumps(response.blocks, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except TextractLocalError as error:
        return {"error": error.code, "context": error.context}, b""
    except MemoryError:
        return {"memory": True}, b""
    except Exception as error:
        # A defect of the reader: the process continues, and the server logs the error.
        return {"defect": type(error).__name__, "trace": traceback.format_exc()}, b""
    return {"blocks": len(blocks), "recognised": response.recognised}, blocks + (response.reading or b"")


def _kept(path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        # Another server that shares the directory evicted it.
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
