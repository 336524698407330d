"""A service that is away, silent, slow, throttling, read-only, or refuses one worker's credentials, for a while.

Where the stack's service cannot do it to one worker alone, a proxy does it in its place: S3 and Textract of the native
stack take any key and have one caller's limits for all.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from tests.support.proxy import Proxy, proxy_to

POSTGRES, S3, TEXTRACT, TEMPORAL = "postgres", "s3", "textract", "temporal"
AWAY, SILENT, SLOW, THROTTLING, READ_ONLY, REFUSED = "away", "silent", "slow", "throttling", "read-only", "refused"

# The credentials are known and lack a permission: at Postgres for all that writes, at Textract for Start. S3 without
# s3:PutObject is one that only reads.
FORBIDDEN = "forbidden"

_ADDRESSES = {
    POSTGRES: "DATABASE_URL",
    S3: "AWS_ENDPOINT_URL_S3",
    TEXTRACT: "AWS_ENDPOINT_URL_TEXTRACT",
    TEMPORAL: "TEMPORAL_TARGET",
}
REACHED = tuple(_ADDRESSES)
_WRITES = frozenset({"PUT", "POST", "DELETE"})


@dataclass(frozen=True)
class Outage:
    """What is wrong with which service."""

    service: str
    kind: str

    @property
    def name(self) -> str:
        """The outage in a word."""
        return f"{self.service}-{self.kind}"


# Textract has nothing to write, and the development server of Temporal neither credentials nor a limit of calls.
OUTAGES = (
    *(Outage(POSTGRES, kind) for kind in (AWAY, SILENT, SLOW, THROTTLING, READ_ONLY, REFUSED)),
    *(Outage(S3, kind) for kind in (AWAY, SILENT, SLOW, THROTTLING, READ_ONLY, REFUSED)),
    *(Outage(TEXTRACT, kind) for kind in (AWAY, SILENT, SLOW, THROTTLING, REFUSED)),
    *(Outage(TEMPORAL, kind) for kind in (AWAY, SILENT, SLOW)),
)


class Reach:
    """How a worker reaches one service, and what can go wrong with that. ``variables`` are the worker's for it.

    ``late`` is by how many seconds a slow service's answers are late. Its methods wait: they belong in a thread.
    """

    def __init__(self, service: str, proxy: Proxy, role: Role | None, variables: dict[str, str], late: float) -> None:
        self.variables = variables
        self._service = service
        self._proxy = proxy
        self._role = role
        self._late = late

    @property
    def secrets(self) -> list[str]:
        """What may stand in no log."""
        return [self._role.password] if self._role else []

    def begin(self, kind: str) -> None:
        """Let the service be as ``kind`` says from now on, for this worker alone."""
        if kind == AWAY:
            self._proxy.down()
        elif kind == SILENT:
            self._proxy.swallow(new=True)
        elif kind == SLOW:
            self._proxy.delay(self._late)
        elif self._role is not None:
            self._role.begin(kind)
        else:
            naming = b".StartDocumentTextDetection" if (self._service, kind) == (TEXTRACT, FORBIDDEN) else b""
            self._proxy.answer(_ANSWERS[self._service, kind], naming=naming)

    def end(self, kind: str) -> None:
        """Let it be as before. Connections that were swallowed stay so; those of Temporal's library are cut.

        It notices a dead connection by itself after 45 s, and nothing of the product's is in that.
        """
        if kind == SILENT and self._service == TEMPORAL:
            self._proxy.down()
        if kind == AWAY or self._service == TEMPORAL:
            self._proxy.up()
            self._proxy.heal()
        elif self._role is not None and kind in _ROLES:
            self._role.end(kind)
        else:
            self._proxy.heal()


@asynccontextmanager
async def reach_of(variables: dict[str, str], service: str, late: float) -> AsyncIterator[Reach]:
    """Stand between a worker with these variables and a service while the block runs."""
    address = variables[_ADDRESSES[service]]
    parts = urlsplit(address if "//" in address else f"//{address}")
    assert parts.hostname
    assert parts.port
    holding: AbstractContextManager[Role | None] = role_in(address) if service == POSTGRES else nullcontext()
    with proxy_to(parts.hostname, parts.port) as proxy:
        role = await asyncio.to_thread(holding.__enter__)
        try:
            account = f"{role.name}:{role.password}@" if role else ""
            through = parts._replace(netloc=f"{account}127.0.0.1:{proxy.port}").geturl().removeprefix("//")
            yield Reach(service, proxy, role, {_ADDRESSES[service]: through}, late)
        finally:
            await asyncio.to_thread(holding.__exit__, None, None, None)


class Role:
    """A role of one worker's own at Postgres, with all that the owner of the tables may do; ``forbidden``, it reads."""

    def __init__(self, admin: str) -> None:
        self.name = f"pw_{secrets.token_hex(6)}"
        self.password = secrets.token_hex(8)
        self._admin = admin
        self._owner = ""

    def begin(self, kind: str) -> None:
        """Set what goes wrong, and end the role's connections, so that it is met at once."""
        self._run(_ROLES[kind][0])
        self.cut()

    def end(self, kind: str) -> None:
        """Take it back. Connections that were made meanwhile stay as they are, but for those that cannot write."""
        self._run(_ROLES[kind][1])
        if kind == READ_ONLY:
            self.cut()

    def cut(self) -> None:
        """End the role's connections."""
        with psycopg.connect(self._admin, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [self.name])

    def __enter__(self) -> Role:
        owner = urlsplit(self._admin).username or "postgres"
        with psycopg.connect(self._admin, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}").format(
                    sql.Identifier(self.name), sql.Literal(self.password), sql.Identifier(owner)
                )
            )
        self._owner = owner
        return self

    def __exit__(self, *_: object) -> None:
        self._run("ALTER ROLE {} NOLOGIN")
        self.cut()
        self._run("DROP OWNED BY {}")
        self._run("DROP ROLE {}")

    def _run(self, statement: str) -> None:
        with psycopg.connect(self._admin, autocommit=True) as connection:
            name, owner = sql.Identifier(self.name), sql.Identifier(self._owner)
            connection.execute(sql.SQL(statement).format(name, owner=owner))


def role_in(admin: str) -> Role:
    """Return a role that is there while a block runs; ``admin`` is the owner's connection string."""
    return Role(admin)


# By kind: what is done to a role, and the way back. A server that has failed over is read-only to all, here to one.
_ROLES = {
    THROTTLING: ("ALTER ROLE {} CONNECTION LIMIT 0", "ALTER ROLE {} CONNECTION LIMIT -1"),
    READ_ONLY: (
        "ALTER ROLE {} SET default_transaction_read_only = on",
        "ALTER ROLE {} RESET default_transaction_read_only",
    ),
    REFUSED: ("ALTER ROLE {} NOLOGIN", "ALTER ROLE {} LOGIN"),
    FORBIDDEN: (
        "REVOKE {owner} FROM {0}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {0}",
        "GRANT {owner} TO {0}",
    ),
}


def _s3_error(status: str, code: str, *, of: frozenset[str] | None = None) -> Callable[[str], bytes | None]:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>an outage</Message></Error>".encode()

    def answer(method: str) -> bytes | None:
        if of is not None and method not in of:
            return None
        return _http(status, "application/xml", b"" if method == "HEAD" else body)

    return answer


def _textract_error(code: str) -> Callable[[str], bytes | None]:
    body = json.dumps({"__type": code, "message": "an outage"}).encode()
    return lambda method: _http("400 Bad Request", "application/x-amz-json-1.1", body)


def _http(status: str, content_type: str, body: bytes) -> bytes:
    # Whoever is throttled waits for as long as it is told.
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nRetry-After: 1\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


_ANSWERS = {
    (S3, THROTTLING): _s3_error("503 Slow Down", "SlowDown"),
    (S3, READ_ONLY): _s3_error("403 Forbidden", "AccessDenied", of=_WRITES),
    (S3, REFUSED): _s3_error("403 Forbidden", "InvalidAccessKeyId"),
    (TEXTRACT, THROTTLING): _textract_error("ThrottlingException"),
    (TEXTRACT, REFUSED): _textract_error("UnrecognizedClientException"),
    (TEXTRACT, FORBIDDEN): _textract_error("AccessDeniedException"),
}
