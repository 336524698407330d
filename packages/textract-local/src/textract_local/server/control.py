"""The emulator's control interface under ``/_emulator/``, for tests and users; not part of AWS's API.

It needs no credentials, so web pages must not reach it: the server refuses their requests, on these paths as on all
others (see ``textract_local.origins``).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from textract_local.server.failures import ServiceError
from textract_local.server.fault_script import WrongScript, read_script

PREFIX = "/_emulator"
BODY_LIMIT_BYTES = 1024 * 1024

_Handler = Callable[[Request], Awaitable[Response]]


class ControlProblem(Exception):
    """A control request is refused; ``status`` is a 4xx code."""

    def __init__(self, message: str, status: int = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status


class Controlled(Protocol):
    """The server, as the control interface uses it."""

    @property
    def operations(self) -> tuple[str, ...]:
        """The names of all operations of the service."""

    def health(self) -> tuple[Mapping[str, Any], bool]:
        """Return the state of the server as JSON data, and whether it is healthy."""

    def counted(self) -> Mapping[str, Any]:
        """Return the counters as JSON data."""

    def faults_shown(self) -> Mapping[str, Any]:
        """Return the fault script and the counts of its rules."""

    def replace_faults(self, script: Any) -> None:
        """Replace the fault script."""

    def extend_faults(self, script: Any, *, seed: int | None) -> None:
        """Append a script's rules to the current ones. Raises ``WrongScript`` if there are too many in all."""

    async def jobs_shown(self) -> Sequence[Mapping[str, Any]]:
        """Return the state of each job, without results."""

    async def age(self, job_id: str | None, seconds: float) -> int:
        """Make one job, or all, older; return the number of jobs changed."""

    async def reset(self) -> None:
        """Return to the state after a start with an empty data directory."""


def routes(controlled: Controlled) -> list[Route]:
    """Return the routes of the control interface."""
    control = _Control(controlled)
    table: tuple[tuple[str, tuple[str, ...], _Handler], ...] = (
        ("health", ("GET",), control.health),
        ("counters", ("GET",), control.counters),
        ("faults", ("GET", "PUT", "POST", "PATCH", "DELETE"), control.faults),
        ("jobs", ("GET",), control.jobs),
        ("jobs/age", ("POST",), control.age),
        ("reset", ("POST",), control.reset),
    )
    return [Route(f"{PREFIX}/{path}", _guarded(handler), methods=list(methods)) for path, methods, handler in table]


class _Control:
    def __init__(self, controlled: Controlled) -> None:
        self._controlled = controlled

    async def health(self, _: Request) -> Response:
        state, in_order = self._controlled.health()
        return JSONResponse(state, status_code=HTTPStatus.OK if in_order else HTTPStatus.SERVICE_UNAVAILABLE)

    async def counters(self, _: Request) -> Response:
        return JSONResponse(self._controlled.counted())

    async def faults(self, request: Request) -> Response:
        if request.method in {"PUT", "POST", "PATCH", "DELETE"}:
            given = {} if request.method == "DELETE" else await _json(request)
            try:
                script = read_script(given, self._controlled.operations)
                if request.method == "PATCH":
                    self._controlled.extend_faults(script, seed=script.seed if "seed" in given else None)
                else:
                    self._controlled.replace_faults(script)
            except WrongScript as error:
                raise ControlProblem(str(error)) from error
        return JSONResponse(self._controlled.faults_shown())

    async def jobs(self, _: Request) -> Response:
        return JSONResponse({"jobs": await self._controlled.jobs_shown()})

    async def age(self, request: Request) -> Response:
        given = await _json(request)
        if not isinstance(given, dict) or not set(given) <= {"JobId", "seconds"}:
            raise ControlProblem("the body must be an object of JobId, or none for all jobs, and seconds")
        job_id, seconds = given.get("JobId"), given.get("seconds")
        if job_id is not None and not isinstance(job_id, str):
            raise ControlProblem("JobId: must be a string")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1 << 32:
            raise ControlProblem("seconds: must be a number from 0")
        aged = await self._controlled.age(job_id, seconds)
        if job_id is not None and not aged:
            raise ControlProblem(f"JobId: there is no job {job_id[:80]!r}", HTTPStatus.NOT_FOUND)
        return JSONResponse({"aged": aged})

    async def reset(self, _: Request) -> Response:
        await self._controlled.reset()
        return JSONResponse({})


def refused(reason: str) -> Response:
    """Return the 403 response to a request from a web page."""
    return JSONResponse({"message": reason}, status_code=HTTPStatus.FORBIDDEN)


def _guarded(handler: _Handler) -> _Handler:
    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except ControlProblem as problem:
            return JSONResponse({"message": str(problem)}, status_code=problem.status)
        except ServiceError as refusal:
            return JSONResponse({"message": refusal.message}, status_code=refusal.failure.status)

    return guarded


async def _json(request: Request) -> Any:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_LIMIT_BYTES:
                raise ControlProblem(
                    f"the body has more than {BODY_LIMIT_BYTES} bytes", HTTPStatus.REQUEST_ENTITY_TOO_LARGE
                )
    except ClientDisconnect as error:
        raise ControlProblem("the request is cut off") from error
    try:
        return json.loads(bytes(body).decode("utf-8"))
    except RecursionError as error:
        raise ControlProblem("the body is nested too deeply") from error
    except ValueError as error:
        raise ControlProblem(f"the body is not JSON: {error}") from error
