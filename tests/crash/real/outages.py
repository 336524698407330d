"""Outages for one worker: a service is away, silent, slow, throttling, read-only, or refuses its credentials.

If the stack's service cannot do that to one worker alone, a proxy does: S3 and Textract of the native stack accept any
key and have one limit for all callers.
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

# Valid credentials without a permission: at Postgres to write, at Textract to call Start. S3 without s3:PutObject is
# read-only.
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
    """A service and the kind of its outage."""

    service: str
    kind: str

    @property
    def name(self) -> str:
        """The name of the outage, for ``--real-cell``."""
        return f"{self.service}-{self.kind}"


# Textract stores nothing, and Temporal's development server has neither credentials nor a rate limit.
OUTAGES = (
    *(Outage(POSTGRES, kind) for kind in (AWAY, SILENT, SLOW, THROTTLING, READ_ONLY, REFUSED)),
    *(Outage(S3, kind) for kind in (AWAY, SILENT, SLOW, THROTTLING, READ_ONLY, REFUSED)),
    *(Outage(TEXTRACT, kind) for kind in (AWAY, SILENT, SLOW, THROTTLING, REFUSED)),
    *(Outage(TEMPORAL, kind) for kind in (AWAY, SILENT, SLOW)),
)


class Reach:
    """The way of a worker to one service, with its outages. ``variables`` are the worker's environment for it.

    ``late`` is the delay of a slow service's responses in seconds. Its methods block: call them in a thread.
    """

    def __init__(self, service: str, proxy: Proxy, role: Role | None, variables: dict[str, str], late: float) -> None:
        self.variables = variables
        self._service = service
        self._proxy = proxy
        self._role = role
        self._late = late

    @property
    def secrets(self) -> list[str]:
        """Texts that must not be in any log."""
        return [self._role.password] if self._role else []

    def begin(self, kind: str) -> None:
        """Begin an outage of this kind for this worker alone."""
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
            self._proxy.respond(_RESPONSES[self._service, kind], naming=naming)

    def end(self, kind: str) -> None:
        """End the outage. Swallowed connections stay so, except that those of Temporal's library are closed.

        The library detects a dead connection after 45 s, which is independent of the product.
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
    """Yield a ``Reach`` between a worker with these variables and a service while the block runs."""
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
    """A Postgres role for one worker with all rights of the tables' owner; if ``forbidden``, it may only read."""

    def __init__(self, admin: str) -> None:
        self.name = f"pw_{secrets.token_hex(6)}"
        self.password = secrets.token_hex(8)
        self._admin = admin
        self._owner = ""

    def begin(self, kind: str) -> None:
        """Change the role, and close its connections, so that the outage takes effect at once."""
        self._run(_ROLES[kind][0])
        self.cut()

    def end(self, kind: str) -> None:
        """Undo the change. Connections that were opened meanwhile stay, except those that cannot write."""
        self._run(_ROLES[kind][1])
        if kind == READ_ONLY:
            self.cut()

    def cut(self) -> None:
        """Close the role's connections."""
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
    """Yield a role that exists while the block runs; ``admin`` is the owner's connection string."""
    return Role(admin)


# By kind: the statement that changes a role, and the one that undoes it. A failover makes all roles read-only.
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

    def response(method: str) -> bytes | None:
        if of is not None and method not in of:
            return None
        return _http(status, "application/xml", b"" if method == "HEAD" else body)

    return response


def _textract_error(code: str) -> Callable[[str], bytes | None]:
    body = json.dumps({"__type": code, "message": "an outage"}).encode()
    return lambda method: _http("400 Bad Request", "application/x-amz-json-1.1", body)


def _http(status: str, content_type: str, body: bytes) -> bytes:
    # A throttled client waits as long as it is told to.
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nRetry-After: 1\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


_RESPONSES = {
    (S3, THROTTLING): _s3_error("503 Slow Down", "SlowDown"),
    (S3, READ_ONLY): _s3_error("403 Forbidden", "AccessDenied", of=_WRITES),
    (S3, REFUSED): _s3_error("403 Forbidden", "InvalidAccessKeyId"),
    (TEXTRACT, THROTTLING): _textract_error("ThrottlingException"),
    (TEXTRACT, REFUSED): _textract_error("UnrecognizedClientException"),
    (TEXTRACT, FORBIDDEN): _textract_error("AccessDeniedException"),
}
