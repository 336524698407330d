"""The emulator's HTTP server: Textract at ``/``, its own controls under ``/_emulator/``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from photo_worker import __version__
from photo_worker.devkit.textract import control, wire
from photo_worker.devkit.textract.codecs import Codec
from photo_worker.devkit.textract.counters import Counters
from photo_worker.devkit.textract.documents import DocumentSource
from photo_worker.devkit.textract.failures import INTERNAL_ERROR, MALFORMED, NO_SUCH_METHOD, NO_SUCH_PAGE, Refusal
from photo_worker.devkit.textract.faults import Faults, Script
from photo_worker.devkit.textract.model import TextractModel, WrongType
from photo_worker.devkit.textract.operations import Call, Operations
from photo_worker.devkit.textract.recognition import Recogniser
from photo_worker.errors import PhotoWorkerError

logger = logging.getLogger(__name__)

# Recognition holds some 100 MB a thread at its peak; more than this is no laptop's emulator.
MOST_THREADS = 8

# Bodies above this are parsed beside the event loop, which must not stand still for them.
_PARSED_INLINE_BYTES = 64 * 1024

# A client reuses connections; one that the server closes at that moment looks like a broken network.
_KEEP_ALIVE_SECONDS = 300
_SHUTDOWN_SECONDS = 1


class Emulator:
    """One emulator: what reads, and everything that was asked of it. Make it, then serve ``app``."""

    def __init__(self, recogniser: Recogniser, *, threads: int) -> None:
        self._threads = threads
        self._model = TextractModel()
        self._documents = DocumentSource(recogniser.spool)
        self._recogniser = recogniser
        recogniser.check = self._check_blocks
        self._operations = Operations(self._model, self._documents, self._recogniser)
        self._counters = Counters()
        self._faults = Faults()
        self._ready = False
        self._broken = ""
        self.app = Starlette(
            routes=[
                Route("/", self._post, methods=["POST"]),
                Route(f"{wire.RPC_V2_PREFIX}{{service}}/operation/{{operation}}", self._post, methods=["POST"]),
                *control.routes(self),
            ],
            exception_handlers={HTTPException: _no_such_thing, Exception: _defect},
            lifespan=self._lifespan,
        )
        self.app.router.redirect_slashes = False

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        await self._recogniser.start()
        warming = asyncio.create_task(self._warm())
        yield
        warming.cancel()
        await self._recogniser.close()
        self._documents.close()

    async def _warm(self) -> None:
        began = time.perf_counter()
        try:
            await self._recogniser.warm()
        except PhotoWorkerError as error:
            logger.error("[%s] %s %s", error.code, error.message, error.hint)
            self._broken = error.message
        except Exception as error:
            self._broken = f"{type(error).__name__}: {error}"
            logger.exception("the engine does not load")
        else:
            self._ready = True
            logger.info("%s %s is ready, %.1f s", *self._recogniser.identity, time.perf_counter() - began)
        # After the engine, which is needed first and would be slowed down by it.
        await asyncio.to_thread(self._documents.warm)

    async def _post(self, request: Request) -> Response:
        began = time.perf_counter()
        operation = None
        counters = self._counters
        codec = wire.codec_of(request)
        try:
            body = await wire.read_body(request)
            operation = wire.operation_of(request, self._model)
            counters.asked(operation)
            wire.require_signature(request)
            await self._fail(operation)
            if body is None:
                raise self._operations.oversized(operation, "too many bytes")
            wire.require_content_type(request, codec)
            response = wire.answer(await self._answer(operation, body, counters, codec), codec)
        except Refusal as refusal:
            counters.failed(operation, refusal.failure.code)
            response = wire.error(refusal, codec)
            outcome = f"{refusal.failure.code} {refusal.reason}".rstrip()
        except Exception:
            counters.failed(operation, INTERNAL_ERROR.code)
            raise
        else:
            counters.answered(operation)
            outcome = f"{len(response.body)} bytes"
        logger.info(
            "%s %d, %.0f ms, %r", operation, response.status_code, 1000 * (time.perf_counter() - began), outcome
        )
        return response

    async def _fail(self, operation: str) -> None:
        """Do to a call what the fault script has for it."""
        fault = self._faults.for_request(operation)
        if fault is None:
            return
        await asyncio.sleep(fault.seconds)
        if fault.failure is not None:
            raise Refusal(fault.failure, "the fault script says so")

    async def _answer(self, operation: str, body: bytes, counters: Counters, codec: Codec) -> bytes:
        if len(body) > _PARSED_INLINE_BYTES:
            given = await asyncio.to_thread(self._parse, operation, body, codec)
        else:
            given = self._parse(operation, body, codec)
        return await self._operations.answer(Call(operation, given, counters, codec))

    def _parse(self, operation: str, body: bytes, codec: Codec) -> dict[str, Any]:
        try:
            return self._operations.read_request(operation, codec.parse(body), binary=codec.binary)
        except WrongType as error:
            raise Refusal(MALFORMED, problem=str(error)) from error

    def _check_blocks(self, blocks: list[dict[str, Any]]) -> None:
        """Raise where blocks break the service's model; those of an analysis may have all that others have."""
        self._model.check_answer("AnalyzeDocument", {"Blocks": blocks})

    @property
    def operations(self) -> tuple[str, ...]:
        """The names of all operations of the service."""
        return self._model.operations

    def health(self) -> tuple[Mapping[str, Any], bool]:
        """Return the state of the server as JSON data, and whether it is in order."""
        engine, version = self._recogniser.identity
        state: dict[str, Any] = {
            "service": "textract",
            "version": __version__,
            "engine": engine,
            "engine_version": version,
            "ready": self._ready,
            "threads": self._threads,
            "operations": self._operations.emulated,
        }
        return ({**state, "problem": self._broken}, False) if self._broken else (state, True)

    def counted(self) -> Mapping[str, Any]:
        """Return the counters as JSON data."""
        return self._counters.shown()

    def faults_shown(self) -> Mapping[str, Any]:
        """Return the fault script and how far it is."""
        return self._faults.shown()

    def replace_faults(self, script: Script) -> None:
        """Follow another fault script."""
        self._faults.replace(script)

    async def jobs_shown(self) -> list[Mapping[str, Any]]:
        """Return what there is to know of each job, without results."""
        return []

    async def age(self, job_id: str | None, seconds: float) -> int:
        """Make one job, or all, older; return how many there were."""
        return 0

    async def reset(self) -> None:
        """Begin as if started anew; calls on their way still count where they began."""
        self._counters = Counters()
        self._faults = Faults()
        self._recogniser.forget()


async def _no_such_thing(request: Request, exception: Exception) -> Response:
    """Answer what Starlette refuses: an unknown path, or a method that a path does not take."""
    with contextlib.suppress(Refusal):
        await wire.read_body(request)
    path, method = ascii(request.url.path)[:200], ascii(request.method)[:40]
    if isinstance(exception, HTTPException) and exception.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return wire.error(Refusal(NO_SUCH_METHOD, path=path, method=method), wire.codec_of(request), exception.headers)
    return wire.error(Refusal(NO_SUCH_PAGE, path=path), wire.codec_of(request))


async def _defect(request: Request, exception: Exception) -> Response:
    """Answer after an error that nobody foresaw; the server logs it with its traceback."""
    problem = f"The emulator has a defect: {type(exception).__name__}"
    return wire.error(Refusal(INTERNAL_ERROR, problem=problem), wire.codec_of(request))


def default_threads() -> int:
    """Return one thread a core that this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(usable, MOST_THREADS))


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on a port, or on a free one for 0. Raises ``OSError``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        # From here on callers wait instead of being refused, while the server is still being made.
        bound.listen()
    except OSError:
        bound.close()
        raise
    return bound


def serve(recogniser: Recogniser, bound: socket.socket, *, threads: int) -> None:
    """Serve until SIGTERM or SIGINT, which take less than two seconds."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    config = uvicorn.Config(
        Emulator(recogniser, threads=threads).app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    with contextlib.suppress(SystemExit):
        uvicorn.Server(config).run(sockets=[bound])


def _leave(_: int, __: FrameType | None) -> None:
    """End. uvicorn raises the signal again after it has closed its connections."""
    raise SystemExit(0)
