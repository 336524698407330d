"""The emulator's HTTP server: Textract at ``/`` and ``/service/``, the control interface under ``/_emulator/``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from textract_local import __version__
from textract_local.errors import TextractLocalError
from textract_local.origins import OriginRules
from textract_local.server import control, wire
from textract_local.server.admission import BodyLimiter, BodySlot
from textract_local.server.codecs import Codec
from textract_local.server.counters import Counters
from textract_local.server.documents import ASYNC, DocumentSource
from textract_local.server.failures import (
    INTERNAL_ERROR,
    MALFORMED,
    NO_SUCH_METHOD,
    NO_SUCH_PAGE,
    WEB_PAGE,
    ServiceError,
    without_frames,
)
from textract_local.server.fault_script import check_amount
from textract_local.server.faults import FaultInjector, FaultScript
from textract_local.server.jobs import Jobs
from textract_local.server.model import TextractModel, WrongType
from textract_local.server.operations import SYNCHRONOUS, Call, Operations
from textract_local.server.options import MOST_OPEN_JOBS
from textract_local.server.recognition import PageRecogniser
from textract_local.server.response_cache import request_digest

logger = logging.getLogger(__name__)

# Larger bodies are hashed or parsed in a thread, to not block the event loop.
_HASHED_INLINE_BYTES = 1024 * 1024
_PARSED_INLINE_BYTES = 64 * 1024

# The error code in the counters and the status in the log for a call whose client disconnected.
_CLIENT_GONE = "ClientDisconnected"
_CLIENT_CLOSED_REQUEST = 499

# How often to check whether the pool is idle, so that the S3 client can be created.
_WARM_SECONDS = 0.25


class Emulator:
    """The ASGI app of the emulator, and its state. ``open`` it, serve ``app``, and ``close`` it."""

    def __init__(
        self,
        recogniser: PageRecogniser,
        data: Path,
        *,
        most_open_jobs: int = MOST_OPEN_JOBS,
        rules: OriginRules | None = None,
    ) -> None:
        """``data`` is the directory of the jobs, ``most_open_jobs`` how many may be in progress at once.

        ``rules`` say which requests are refused; without them, only the names of loopback are accepted.
        """
        self._model = TextractModel()
        self._documents = DocumentSource(recogniser.spool)
        self._recogniser = recogniser
        recogniser.check = self._check_blocks
        self._counters = Counters()
        self._faults = FaultInjector()
        self._jobs = Jobs(
            data,
            self._documents,
            recogniser,
            recogniser.spool,
            faults=self._faults,
            counters=lambda: self._counters,
            limits=ASYNC,
            most_open=most_open_jobs,
        )
        self._operations = Operations(self._model, self._documents, recogniser, self._jobs)
        self._bodies = BodyLimiter()
        self._warming: asyncio.Task[None] | None = None
        self._defect = ""
        self.app = Starlette(
            routes=[
                Route("/", self._post, methods=["POST"]),
                Route(f"{wire.RPC_V2_PREFIX}{{service}}/operation/{{operation}}", self._post, methods=["POST"]),
                *control.routes(self),
            ],
            middleware=[Middleware(_Guard, rules=rules or OriginRules())],
            exception_handlers={HTTPException: _no_such_thing, Exception: _defect},
        )
        self.app.router.redirect_slashes = False

    async def open(self) -> None:
        """Lock the data directory and start. Raises ``DataInUse``, ``DataUnwritable`` and ``DataMismatch``."""
        await self._jobs.open()
        await self._recogniser.start()
        self._warming = asyncio.create_task(self._warm())

    async def close(self) -> None:
        """Stop everything; jobs in progress continue after the next start."""
        if self._warming is not None:
            self._warming.cancel()
        await self._jobs.close()
        await self._recogniser.close()
        self._documents.close()

    async def _warm(self) -> None:
        began = time.perf_counter()
        try:
            await self._recogniser.warm()
        except TextractLocalError as error:
            logger.error("[%s] %s %s", error.code, error.message, error.hint)
        except Exception as error:
            self._defect = f"{type(error).__name__}: {error}"
            logger.exception("the engine does not load")
        else:
            logger.info("%s %s is ready, %.1f s", *self._recogniser.identity, time.perf_counter() - began)
        # After the engine and the pages that wait for it: they are needed first, and this would slow them down.
        while self._recogniser.pool.busy or self._recogniser.pool.waiting:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(_WARM_SECONDS)
        await asyncio.to_thread(self._documents.warm)

    async def _post(self, request: Request) -> Response:
        began = time.perf_counter()
        operation = None
        counters = self._counters
        codec = wire.codec_of(request)
        try:
            with self._bodies.room() as room:
                body = await wire.read_body(request, room)
                operation = wire.operation_of(request, self._model)
                counters.asked(operation)
                wire.require_signature(request)
                if body is None:
                    await self._inject_fault(operation)
                    raise self._operations.oversized(operation, "too many bytes")
                wire.require_content_type(request, codec)
                responding = self._response(operation, _Body(body, room), counters, codec)
                # ``_Body`` releases it once it is parsed: otherwise a waiting call would hold its document twice.
                del body
                if operation in SYNCHRONOUS:
                    responding = wire.while_connected(request, responding)
                response = wire.response(await responding, codec)
        except wire.ClientGone:
            counters.failed(operation, _CLIENT_GONE)
            outcome = "the client is gone, and nothing is read for it any more"
            response = Response(status_code=_CLIENT_CLOSED_REQUEST)
        except ServiceError as refusal:
            counters.failed(operation, refusal.failure.code)
            response = wire.error(refusal, codec)
            outcome = f"{refusal.failure.code} {refusal.reason}".rstrip()
            without_frames(refusal)
        except Exception as error:
            # Handled here: after an exception uvicorn closes the connection, even after the response, and a client
            # that reuses it for its next call gets a reset.
            logger.exception("%s met a defect", operation)
            counters.failed(operation, INTERNAL_ERROR.code)
            outcome = f"The emulator has a defect: {type(error).__name__}"
            response = wire.error(ServiceError(INTERNAL_ERROR, problem=outcome), codec)
            without_frames(error)
        else:
            counters.responded(operation)
            outcome = f"{len(response.body)} bytes"
        logger.info(
            "%s %d, %.0f ms, %r", operation, response.status_code, 1000 * (time.perf_counter() - began), outcome
        )
        return response

    async def _inject_fault(self, operation: str) -> None:
        """Apply the fault script to a call: wait, and raise ``ServiceError`` if the fault has a failure."""
        fault = self._faults.for_request(operation)
        if fault is None:
            return
        await asyncio.sleep(fault.seconds)
        if fault.failure is not None:
            raise ServiceError(fault.failure, "the fault script says so")

    async def _response(self, operation: str, body: _Body, counters: Counters, codec: Codec) -> bytes:
        await self._inject_fault(operation)
        arrived = asyncio.get_running_loop().time()
        content = body.content
        if len(content) > _HASHED_INLINE_BYTES:
            asked = await asyncio.to_thread(request_digest, operation, codec, content)
        else:
            asked = request_digest(operation, codec, content)
        known = self._operations.known(asked, counters)
        if known is not None:
            return known
        if len(content) > _PARSED_INLINE_BYTES:
            given = await asyncio.to_thread(self._parse, operation, content, codec)
        else:
            given = self._parse(operation, content, codec)
        del content
        body.release()
        deadline = arrived + self._recogniser.pool.bounds.call_seconds
        return await self._operations.response(Call(operation, given, counters, codec, asked, deadline))

    def _parse(self, operation: str, body: bytes, codec: Codec) -> dict[str, Any]:
        try:
            return self._operations.read_request(operation, codec.parse(body), binary=codec.binary)
        except WrongType as error:
            raise ServiceError(MALFORMED, problem=str(error)) from error

    def _check_blocks(self, blocks: list[dict[str, Any]]) -> None:
        """Raise if blocks do not fit the model of AnalyzeDocument, which includes that of the other operations."""
        self._model.check_response("AnalyzeDocument", {"Blocks": blocks})

    @property
    def operations(self) -> tuple[str, ...]:
        """The names of all operations of the service."""
        return self._model.operations

    def health(self) -> tuple[Mapping[str, Any], bool]:
        """Return the state of the server as JSON data, and whether it is healthy."""
        engine, version = self._recogniser.identity
        state: dict[str, Any] = {
            "service": "textract",
            "version": __version__,
            "engine": engine,
            "engine_version": version,
            "ready": self._recogniser.ready,
            "processes": self._recogniser.pool.bounds.processes,
            "operations": self._operations.emulated,
        }
        problem = self._defect or self._recogniser.problem
        return ({**state, "problem": problem}, False) if problem else (state, True)

    def counted(self) -> Mapping[str, Any]:
        """Return the counters as JSON data."""
        return self._counters.shown()

    def faults_shown(self) -> Mapping[str, Any]:
        """Return the fault script and the counts of its rules."""
        return self._faults.shown()

    def replace_faults(self, script: FaultScript) -> None:
        """Replace the fault script."""
        self._faults.replace(script)

    def extend_faults(self, script: FaultScript, *, seed: int | None) -> None:
        """Append a script's rules to the current ones. Raises ``WrongScript`` if there are too many in all."""
        check_amount(len(self._faults.script.rules) + len(script.rules))
        self._faults.extend(script, seed=seed)

    async def jobs_shown(self) -> list[dict[str, Any]]:
        """Return the state of each job, without results."""
        return await self._jobs.shown()

    async def age(self, job_id: str | None, seconds: float) -> int:
        """Make one job, or all, older; return the number of jobs changed."""
        return await self._jobs.age(job_id, seconds)

    async def reset(self) -> None:
        """Return to the state after a start with an empty directory; calls in progress use the old counters."""
        self._counters = Counters()
        self._faults.replace(FaultScript())
        await self._jobs.reset()
        self._recogniser.forget()
        self._operations.forget()


class _Body:
    """A request's body, and the memory reserved for it."""

    def __init__(self, content: bytes, room: BodySlot) -> None:
        self.content, self._room = content, room

    def release(self) -> None:
        """Release the body and its memory, once it is parsed."""
        self.content = b""
        self._room.release()


class _Guard:
    """Middleware that refuses requests of web pages on every path, including unknown ones."""

    def __init__(self, app: ASGIApp, rules: OriginRules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reason = self._rules.refusal(scope["headers"])
        if reason is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        with contextlib.suppress(ServiceError):
            await wire.read_body(request)
        logger.warning("%s %s: %s", ascii(request.method)[:40], ascii(request.url.path)[:200], ascii(reason))
        if request.url.path.startswith(f"{control.PREFIX}/"):
            response: Response = control.refused(reason)
        else:
            response = wire.error(ServiceError(WEB_PAGE, problem=reason), wire.codec_of(request))
        await response(scope, receive, send)


async def _no_such_thing(request: Request, exception: Exception) -> Response:
    """Respond to an unknown path, or to a method that a path does not accept."""
    with contextlib.suppress(ServiceError):
        await wire.read_body(request)
    path, method = ascii(request.url.path)[:200], ascii(request.method)[:40]
    if isinstance(exception, HTTPException) and exception.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return wire.error(
            ServiceError(NO_SUCH_METHOD, path=path, method=method), wire.codec_of(request), exception.headers
        )
    return wire.error(ServiceError(NO_SUCH_PAGE, path=path), wire.codec_of(request))


async def _defect(request: Request, exception: Exception) -> Response:
    """Respond after an unexpected exception; the server logs it with its traceback."""
    problem = f"The emulator has a defect: {type(exception).__name__}"
    return wire.error(ServiceError(INTERNAL_ERROR, problem=problem), wire.codec_of(request))
