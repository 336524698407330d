"""A stack as a project of Docker Compose: the file, its services, and the variables that the file reads."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from photo_worker.devkit.container_engine import container_proxy_exceptions
from photo_worker.devkit.environment import environment_of
from photo_worker.devkit.layout import worktree_root
from photo_worker.devkit.state import StackRecord
from photo_worker.loopback import EXCEPTIONS, joined
from photo_worker.stack_errors import ComposeFileMissing, S3ServerUnfit

KIND = "compose"
LOCALSTACK = "localstack"
MINIO = "minio"
S3_SERVERS = (LOCALSTACK, MINIO)
WORKER = "worker"
# The forwarder in front of Temporal's UI; commands show it as a part of that service.
UI = "temporal-ui"
_FILE = Path("compose", "docker-compose.yml")
_HOST = "host.docker.internal"
# Hosts that containers reach without a proxy; the Compose file repeats them, for a start by hand.
DIRECT = f"localhost,127.0.0.1,::1,temporal,postgres,aws,s3,textract,{_HOST}"
_LOOPBACKS = ("localhost", "127.0.0.1", "::1", "0.0.0.0")  # noqa: S104 - recognised, not listened on


def compose_file(start: Path | None = None) -> Path:
    """Return the Compose file of the checkout around ``start``, by default the working directory.

    Otherwise that of the checkout that contains this code. Raises ``ComposeFileMissing``.
    """
    wanted = worktree_root(start or Path.cwd()) / _FILE
    beside = Path(__file__).resolve().parents[3] / _FILE
    for path in (wanted, beside):
        if path.is_file():
            return path
    raise ComposeFileMissing(path=str(wanted))


def own_services(record: StackRecord) -> tuple[str, ...]:
    """Return the services that the stack runs itself, in display order."""
    own = [name for name in ("temporal", "postgres") if name not in record.external]
    s3_in_aws = record.s3 == LOCALSTACK and "s3" not in record.external
    if s3_in_aws or not {"sns", "sqs"} <= record.external.keys():
        own.append("aws")
    if record.s3 == MINIO and "s3" not in record.external:
        own.append("s3")
    if "textract" not in record.external:
        own.append("textract")
    return tuple(own)


def started_services(record: StackRecord) -> tuple[str, ...]:
    """Return the services of the Compose file that a start creates: the stack's own and those that they need."""
    own = own_services(record)
    return (*own, UI) if "temporal" in own else own


def check_s3(server: str) -> str:
    """Return ``server``; raises ``S3ServerUnfit`` if the Compose file has no such S3 server."""
    if server not in S3_SERVERS:
        raise S3ServerUnfit(kind=KIND, s3=server, known=" and ".join(S3_SERVERS))
    return server


def variables(record: StackRecord) -> dict[str, str]:
    """Return the variables that the Compose file reads, by name."""
    env = environment_of(record)
    inside = {
        name: _seen_from_inside(record.external[name]) if name in record.external else address
        for name, address in (
            ("s3", "http://s3:9000" if record.s3 == MINIO else "http://aws:4566"),
            ("sns", "http://aws:4566"),
            ("sqs", "http://aws:4566"),
            ("textract", "http://textract:8765"),
            ("temporal", "temporal:7233"),
            ("postgres", ""),
        )
    }
    values = {
        "PW_PREFIX": record.prefix,
        "PW_POSTGRES_PASSWORD": record.password,
        "PW_DURABLE": "on" if record.durable else "off",
        "PW_ACCESS_KEY": env["AWS_ACCESS_KEY_ID"],
        "PW_SECRET_KEY": env["AWS_SECRET_ACCESS_KEY"],
        "PW_S3_ENDPOINT": inside["s3"],
        "PW_SNS_ENDPOINT": inside["sns"],
        "PW_SQS_ENDPOINT": inside["sqs"],
        "PW_TEXTRACT_ENDPOINT": inside["textract"],
        "PW_TEMPORAL_TARGET": inside["temporal"],
        "PW_NO_PROXY": _exceptions(),
    }
    if inside["postgres"]:
        values["PW_DATABASE_URL"] = inside["postgres"]
    for use in ("temporal", "temporal-ui", "postgres", "aws", "s3", "textract"):
        values[f"PW_PORT_{use.upper().replace('-', '_')}"] = str(record.ports[use])
    return values


def _exceptions() -> str:
    """Return NO_PROXY for containers; it replaces the value that Docker itself would set."""
    shell = (os.environ.get(name, "") for name in EXCEPTIONS)
    return joined([DIRECT, *shell, container_proxy_exceptions(os.environ)])


def _seen_from_inside(endpoint: str) -> str:
    """Return an endpoint as containers reach it: a container's loopback is not the machine's."""
    has_scheme = "://" in endpoint
    url = urlsplit(endpoint if has_scheme else f"//{endpoint}")
    if url.hostname not in _LOOPBACKS:
        return endpoint
    login, at, _ = url.netloc.rpartition("@")
    port = "" if url.port is None else f":{url.port}"
    moved = urlunsplit(url._replace(netloc=f"{login}{at}{_HOST}{port}"))
    return moved if has_scheme else moved.removeprefix("//")
