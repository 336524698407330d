"""The services of a Compose stack as this machine reaches them: address, liveness check and readiness probe."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module

from photo_worker.devkit import probes
from photo_worker.devkit.compose.project import LOCALSTACK
from photo_worker.devkit.environment import environment_of
from photo_worker.devkit.ports import LOOPBACK
from photo_worker.devkit.state import DATABASE, DATABASE_USER, StackRecord


@dataclass(frozen=True)
class ComposeService:
    """One long-running service of the Compose file; a start waits until it is ready."""

    name: str
    use: str
    """The name of the stack's port that requests to the service use."""
    also: tuple[str, ...]
    """Other ports that it publishes."""
    url: Callable[[StackRecord], str]
    """Return the address that is displayed, without secrets."""
    is_alive: Callable[[StackRecord], bool]
    """Return whether the service responds to a cheap request."""
    probe_ready: Callable[[StackRecord], None]
    """Make one real round trip, creating what the stack needs in the service; raises ``NotReady``."""
    clients: tuple[str, ...]
    """Modules that ``probe_ready`` uses; they are imported while the service starts."""

    @property
    def uses(self) -> tuple[str, ...]:
        """All of its ports; the first is the one shown."""
        return (self.use, *self.also)

    def warm_imports(self) -> None:
        """Import the modules that ``probe_ready`` uses."""
        for module in self.clients:
            import_module(module)


def _http(use: str, path: str) -> Callable[[StackRecord], bool]:
    return lambda record: probes.http_ok(record.ports[use], path)


def _at(use: str) -> Callable[[StackRecord], str]:
    return lambda record: f"http://{LOOPBACK}:{record.ports[use]}"


def _describe_namespace(record: StackRecord) -> None:
    from photo_worker.devkit import readiness
    from photo_worker.devkit.services import temporal_program

    readiness.describe_namespace(environment_of(record), temporal_program())


def _migrate_and_query(record: StackRecord) -> None:
    from photo_worker.devkit import database

    database.migrate_and_query(environment_of(record))


def _store(record: StackRecord) -> None:
    from photo_worker.devkit import readiness

    readiness.probe_s3(environment_of(record))


def _deliver(record: StackRecord) -> None:
    """Use SNS and SQS, and S3 as well if LocalStack provides it."""
    from photo_worker.devkit import readiness

    if record.s3 == LOCALSTACK and "s3" not in record.external:
        readiness.probe_s3(environment_of(record))
    if "sqs" not in record.external:
        readiness.probe_sns_and_sqs(environment_of(record))


def _read_an_image(record: StackRecord) -> None:
    from photo_worker.devkit import readiness

    readiness.probe_textract(environment_of(record))


_BOTOCORE = ("photo_worker.devkit.readiness", "botocore.session", "botocore.config")
_ALL = (
    ComposeService(
        "temporal",
        "temporal",
        ("temporal-ui",),
        _at("temporal-ui"),
        lambda record: probes.grpc_answers(record.ports["temporal"]),
        _describe_namespace,
        (),
    ),
    ComposeService(
        "postgres",
        "postgres",
        (),
        lambda record: f"postgresql://{DATABASE_USER}@{LOOPBACK}:{record.ports['postgres']}/{DATABASE}",
        lambda record: probes.postgres_asks_for_password(record.ports["postgres"], DATABASE_USER, DATABASE),
        _migrate_and_query,
        ("photo_worker.devkit.database", "photo_worker.storage.migrate", "photo_worker.storage.postgres"),
    ),
    ComposeService("aws", "aws", (), _at("aws"), _http("aws", "/_localstack/health"), _deliver, _BOTOCORE),
    ComposeService("s3", "s3", (), _at("s3"), _http("s3", "/minio/health/live"), _store, _BOTOCORE),
    ComposeService(
        "textract",
        "textract",
        (),
        _at("textract"),
        _http("textract", "/_emulator/health"),
        _read_an_image,
        (*_BOTOCORE, "PIL.ImageFont", "PIL.ImageDraw"),
    ),
)


def services(names: Iterable[str]) -> tuple[ComposeService, ...]:
    """Return these services in display order."""
    wanted = set(names)
    return tuple(service for service in _ALL if service.name in wanted)
