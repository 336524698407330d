"""Limits of the waits for Postgres, S3 and Textract, in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# An idle connection whose peer is gone ends after 25 s, and one with unacknowledged bytes after 20 s. Linux's defaults
# are two hours and a quarter of an hour. Only Linux has TCP_USER_TIMEOUT; elsewhere libpq ignores it (PostgreSQL
# manual, "Database Connection Control Functions").
KEEPALIVE_OPTIONS: Mapping[str, int] = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


@dataclass(frozen=True)
class PostgresTimes:
    """Limits of the waits for Postgres."""

    pool: float = 5
    """For a free connection of the pool."""
    connect: int = 5
    statement: float = 15
    """At the server."""
    response: float = 18
    """For the server's response, at the client.

    Longer than the limit of a statement, which the server ends first if it can still respond.
    """
    keepalives: Mapping[str, int] = field(default_factory=lambda: KEEPALIVE_OPTIONS)
    """libpq's parameters by which TCP notices a dead peer."""

    @property
    def call(self) -> float:
        """The longest time of one round trip of the repository.

        It is the sum of the waits for a connection, for the response, and for the reason why there is no connection.
        """
        return self.pool + self.response + self.connect


@dataclass(frozen=True)
class S3Times:
    """Limits of the waits for S3: together they fit into an attempt of any step (see ``policies``)."""

    connect: float = 5
    read: float = 20
    """For a wait without a byte, not for a whole response."""


@dataclass(frozen=True)
class TextractTimes:
    """Limits of the waits for Textract."""

    connect: float = 5
    sync_read: float = 80
    """The synchronous API responds within seconds; a document that takes longer is tried again."""
    job_read: float = 15
    """The calls of the asynchronous API read no document.

    An attempt must outlast its polling and one of these calls.
    """


@dataclass(frozen=True)
class ServiceTimes:
    """Limits of the waits for every service of a deployment."""

    postgres: PostgresTimes = PostgresTimes()
    s3: S3Times = S3Times()
    textract: TextractTimes = TextractTimes()
