"""Selects the services that a native stack runs, by its S3 server and its external services."""

from __future__ import annotations

from collections.abc import Collection

from photo_worker.devkit import s3_servers
from photo_worker.devkit.services import SERVICES, Service, aws
from photo_worker.stack_errors import S3ServerUnfit

# The S3 servers that a native stack supports; the first is the default.
S3_SERVERS = ("ministack", "seaweedfs", "minio")


def select_services(s3: str, external: Collection[str] = ()) -> tuple[Service, ...]:
    """Return the services of a stack with this S3 server, without those that are ``external``.

    Raises ``S3ServerUnfit`` for a server that a native stack does not support.
    """
    _require_known(s3)
    apart = [s3_servers.SERVERS[s3]] if s3 in s3_servers.SERVERS and "s3" not in external else []
    beside = [name for name in ("s3", "sns", "sqs") if name not in external and not (name == "s3" and apart)]
    chosen: list[Service] = []
    for service in SERVICES:
        if service.name == "aws":
            chosen += [*apart, *([aws(beside)] if beside else [])]
        elif service.name not in external:
            chosen.append(service)
    return tuple(chosen)


def require_s3_server(s3: str) -> None:
    """Raise ``S3ServerUnfit`` if native stacks do not support this server, ``S3ServerMissing`` if it is missing."""
    _require_known(s3)
    find = {"seaweedfs": s3_servers.seaweedfs_program, "minio": s3_servers.minio_program}.get(s3)
    if find is not None:
        find()


def _require_known(s3: str) -> None:
    if s3 not in S3_SERVERS:
        raise S3ServerUnfit(kind="native", s3=s3, known=", ".join(S3_SERVERS))
