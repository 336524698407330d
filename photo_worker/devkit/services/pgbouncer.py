"""PgBouncer in transaction mode in front of the stack's own Postgres: optional, by ``up --with pgbouncer``.

No wheel has it: natively it is a program of the machine. The application then finds its database by PgBouncer, while
the stack itself migrates and empties it by Postgres' own address.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from photo_worker.devkit import postgres, probes
from photo_worker.devkit.environment import environment_of
from photo_worker.devkit.errors import OptionalServiceUnfit, PgBouncerMissing
from photo_worker.devkit.ports import LOOPBACK
from photo_worker.devkit.service import Service, base_environment, make_directory, plan_of, write_secret
from photo_worker.devkit.state import DATABASE, DATABASE_USER

if TYPE_CHECKING:
    from photo_worker.devkit.layout import StackPaths
    from photo_worker.devkit.plan import ServicePlan
    from photo_worker.devkit.state import StackRecord

PORTS = {"pgbouncer": 2}
# Debian's directory is not on every user's PATH.
_DIRECTORIES = ("/usr/sbin", "/opt/homebrew/bin", "/usr/local/bin")
_VERSION_SECONDS = 5
_SETTINGS = {
    "listen_addr": LOOPBACK,
    "unix_socket_dir": "",
    "auth_type": "scram-sha-256",
    "pool_mode": "transaction",
    "max_client_conn": "1000",
    # Postgres accepts 300 connections in all; migrations and tools connect to it directly.
    "default_pool_size": "50",
    # After a failed login it would refuse all clients for 15 seconds, so after every reset.
    "server_login_retry": "1",
}


class _PgBouncer(Service):
    name = "pgbouncer"
    uses = ("pgbouncer",)
    position = 25
    optional = True
    clients = ("photo_worker.devkit.database", "photo_worker.adapters.postgres.job_repository")
    install_hint = PgBouncerMissing.hint

    def __init__(self, directories: Sequence[str]) -> None:
        self._directories = directories

    def chosen(self, s3: str, external: Collection[str], extras: Collection[str]) -> Service | None:
        if self.name in extras and "postgres" in external:
            reason = "it is in front of the stack's own Postgres, and postgres is external"
            raise OptionalServiceUnfit(service=self.name, reason=reason)
        return super().chosen(s3, external, extras)

    def environment(self, record: StackRecord) -> dict[str, str]:
        address = f"{LOOPBACK}:{record.ports['pgbouncer']}"
        return {"DATABASE_URL": f"postgresql://{_login(record)}@{address}/{DATABASE}?sslmode=disable"}

    def container_variables(self, record: StackRecord) -> dict[str, str]:
        return {"PW_DATABASE_URL": f"postgresql://{_login(record)}@pgbouncer:6432/{DATABASE}"}

    def version(self) -> str:
        argv = [str(self.program()), "--version"]
        completed = subprocess.run(argv, capture_output=True, text=True, timeout=_VERSION_SECONDS, check=False)
        return (completed.stdout.splitlines() or ["PgBouncer"])[0]

    def url(self, record: StackRecord) -> str:
        return f"postgresql://{DATABASE_USER}@{LOOPBACK}:{record.ports['pgbouncer']}/{DATABASE}"

    def program(self) -> Path:
        return find_program(self._directories)

    def require(self) -> None:
        self.program()

    def plan(self, record: StackRecord, paths: StackPaths) -> ServicePlan:
        # Like Postgres, it refuses to run as root; its files are where the same user can reach them.
        user = postgres.User.for_postgres()
        owner = None if user is None else (user.uid, user.gid)
        directory = make_directory(postgres.data_directory(paths, postgres.find_postgres(), user).with_name(self.name))
        if owner is not None:
            os.chown(directory, *owner)
        users, configuration = directory / "users", directory / "pgbouncer.ini"
        write_secret(users, f'"{DATABASE_USER}" "{record.password}"\n', owner)
        settings = {**_SETTINGS, "listen_port": str(record.ports["pgbouncer"]), "auth_file": str(users)}
        lines = ["[databases]", f"* = host={LOOPBACK} port={record.ports['postgres']}", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in settings.items()]
        write_secret(configuration, "\n".join(lines) + "\n", owner)
        plan = plan_of(
            self.name, [str(self.program()), str(configuration)], base_environment(paths), paths, cwd=Path("/")
        )
        # SIGINT and SIGTERM wait for queries or clients, depending on the version; this one ends it at once in all.
        return replace(plan, stop_signal=signal.SIGQUIT, user=owner)

    def probe_ready(self, record: StackRecord) -> None:
        from photo_worker.devkit import database

        database.query(environment_of(record)["DATABASE_URL"])

    def is_alive(self, record: StackRecord) -> bool:
        return probes.postgres_asks_for_password(record.ports["pgbouncer"], DATABASE_USER, DATABASE)


def _login(record: StackRecord) -> str:
    return f"{DATABASE_USER}:{quote(record.password, safe='')}"


def find_program(directories: Sequence[str] = _DIRECTORIES) -> Path:
    """Return the program on PATH or in one of the directories. Raises ``PgBouncerMissing``."""
    found = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *directories]))
    if found is None:
        raise PgBouncerMissing(service="PgBouncer", reason="there is no pgbouncer on PATH nor in /usr/sbin")
    return Path(found)


def pgbouncer(directories: Sequence[str] = _DIRECTORIES) -> Service:
    """Return the service, whose program is on PATH or in one of the directories."""
    return _PgBouncer(directories)


SERVICES = (pgbouncer(),)
