"""Postgres with scram passwords over TCP: from the programs that ``find_postgres`` finds, or the official image."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote, unquote

from photo_worker.devkit import postgres, probes
from photo_worker.devkit.environment import direct_environment_of
from photo_worker.devkit.errors import ExternalInvalid
from photo_worker.devkit.plan import ServicePlan
from photo_worker.devkit.ports import LOOPBACK
from photo_worker.devkit.service import Endpoint, Service, base_environment, write_secret
from photo_worker.devkit.state import DATABASE, DATABASE_USER

if TYPE_CHECKING:
    from photo_worker.devkit.layout import StackPaths
    from photo_worker.devkit.state import StackRecord

PORTS = {"postgres": 4}
_FORM = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"


class _PostgresEndpoint(Endpoint):
    def parse(self, text: str, url: SplitResult) -> str:
        if not url.username or not re.fullmatch(r"/[^/]+", url.path):
            raise ExternalInvalid(service=self.name, reason=f"it needs a user and a database: {self.form}")
        return text

    def greeting(self, url: SplitResult) -> bytes:
        return probes.startup_message(unquote(url.username or ""), unquote(url.path.lstrip("/")))

    def probe_ready(self, env: dict[str, str]) -> dict[str, str]:
        from photo_worker.devkit import database

        database.migrate_external(env["DATABASE_URL"])
        return {}


class _Postgres(Service):
    name = "postgres"
    uses = ("postgres",)
    position = 20
    endpoints = (_PostgresEndpoint("postgres", "DATABASE_URL", "PW_DATABASE_URL", _FORM, ("postgresql", "postgres")),)
    clients = (
        "photo_worker.devkit.database",
        "photo_worker.adapters.postgres.migrate",
        "photo_worker.adapters.postgres.job_repository",
    )

    def environment(self, record: StackRecord) -> dict[str, str]:
        login = f"{DATABASE_USER}:{quote(record.password, safe='')}"
        # Without the parameter, a shell's PGSSLMODE could demand TLS, which the local server does not offer.
        where = f"{LOOPBACK}:{record.ports['postgres']}/{DATABASE}?sslmode=disable"
        return {"DATABASE_URL": f"postgresql://{login}@{where}"}

    def version(self) -> str:
        return f"PostgreSQL {postgres.find_postgres().version}"

    def url(self, record: StackRecord) -> str:
        return f"postgresql://{DATABASE_USER}@{LOOPBACK}:{record.ports['postgres']}/{DATABASE}"

    def program(self) -> Path:
        return postgres.find_postgres().bin / "initdb"

    def plan(self, record: StackRecord, paths: StackPaths) -> ServicePlan:
        found = postgres.find_postgres()
        user = postgres.User.for_postgres()
        owner = None if user is None else (user.uid, user.gid)
        programs = postgres.reachable_programs(found, user)
        data = postgres.data_directory(paths, found, user)
        prepare = None
        if not data.exists():
            # Next to the data, not in the run directory, so that Postgres' user can reach both.
            secret = data.with_name(f"{data.name}.password")
            write_secret(secret, record.password, owner)
            prepare = postgres.preparation(programs, found.major, data, secret, durable=record.durable)
            postgres.make_owned(Path(prepare.into), user)
        else:
            postgres.forget_reused_pid(data)
        argv = postgres.server_arguments(programs, data, record.ports["postgres"], durable=record.durable)
        # On macOS, a locale from the environment makes the server start threads and then refuse to run.
        env = {**base_environment(paths), "LC_ALL": "C", "HOME": "/"}
        return ServicePlan(
            name=self.name,
            argv=argv,
            env=env,
            cwd="/",
            log=str(paths.log(self.name)),
            # SIGINT is the "fast" shutdown: SIGTERM would wait until every client has disconnected.
            stop_signal=signal.SIGINT,
            stop_stage=1,
            user=owner,
            prepare=prepare,
        )

    def probe_ready(self, record: StackRecord) -> None:
        from photo_worker.devkit import database

        database.migrate_and_query(direct_environment_of(record))

    def wipe(self, record: StackRecord, paths: StackPaths) -> None:
        from photo_worker.devkit import database

        database.empty(direct_environment_of(record))

    def is_alive(self, record: StackRecord) -> bool:
        return probes.postgres_asks_for_password(record.ports["postgres"], DATABASE_USER, DATABASE)


SERVICES = (_Postgres(),)
