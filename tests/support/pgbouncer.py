"""PgBouncer in transaction mode in front of the stack's Postgres, as a child process on a free port.

All settings but the mode are PgBouncer's defaults unless a test overrides them. It is installed on the system
(``apt-get install pgbouncer``, ``brew install pgbouncer``): no wheel has it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg import conninfo

from photo_worker.devkit.errors import PgBouncerMissing
from photo_worker.devkit.services.pgbouncer import find_program

# Set if the tests must not be skipped, as in the CI gate that has installed it.
REQUIRED_VARIABLE = "PHOTO_WORKER_TEST_PGBOUNCER"
_START_SECONDS = 20.0


@dataclass(frozen=True)
class PgBouncer:
    """A running PgBouncer."""

    port: int
    log: Path

    def url(self, database_url: str) -> str:
        """Return the connection string of the same database through this pooler."""
        return conninfo.make_conninfo(database_url, host="127.0.0.1", port=self.port)


def program() -> str:
    """Return PgBouncer's path; without it, skip the test, or fail it if the variable requires it."""
    try:
        return str(find_program())
    except PgBouncerMissing as error:
        if os.environ.get(REQUIRED_VARIABLE):
            pytest.fail(error.message)
        pytest.skip(error.message)


@contextmanager
def pgbouncer(
    database_url: str,
    *,
    databases: str = "*",
    server_port: int | None = None,
    **settings: object,
) -> Iterator[PgBouncer]:
    """Run PgBouncer in front of the server of ``database_url`` while the block runs, for all of its databases or one.

    ``server_port`` replaces the server's own port; ``settings`` are PgBouncer's.
    """
    path = program()
    parts: dict[str, Any] = conninfo.conninfo_to_dict(database_url)
    with tempfile.TemporaryDirectory(prefix="photo-worker-pgbouncer-") as name:
        directory = Path(name)
        user = _unprivileged()
        port = _free_port()
        (directory / "users").write_text(f'"{parts["user"]}" "{parts["password"]}"\n', encoding="utf-8")
        chosen: Mapping[str, object] = {
            "listen_addr": "127.0.0.1",
            "listen_port": port,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": directory / "users",
            "logfile": directory / "log",
            "pool_mode": "transaction",
            **settings,
        }
        lines = [
            "[databases]",
            f"{databases} = host={parts['host']} port={server_port or parts['port']}",
            "[pgbouncer]",
        ]
        lines += [f"{key} = {value}" for key, value in chosen.items()]
        (directory / "ini").write_text("\n".join(lines) + "\n", encoding="utf-8")
        if user is not None:
            for file in (directory, directory / "users", directory / "ini"):
                os.chown(file, user, -1)
        process = subprocess.Popen(
            [path, "-q", str(directory / "ini")],
            user=user,
            extra_groups=[] if user is not None else None,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        made = PgBouncer(port, directory / "log")
        try:
            _wait(process, made)
            yield made
        finally:
            # SIGINT would have to be sent twice while clients are connected, whose work need not be kept.
            process.kill()
            process.wait(20)


def _unprivileged() -> int | None:
    """Return the user id to run as if this process is root, as which PgBouncer refuses to run; otherwise None."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _wait(process: subprocess.Popen[bytes], made: PgBouncer) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", made.port), 1).close()
            return
        if process.poll() is not None or time.monotonic() > deadline:
            log = made.log.read_text(encoding="utf-8", errors="replace") if made.log.exists() else ""
            raise RuntimeError(f"PgBouncer did not start: {log[-2000:]}")
        time.sleep(0.02)
