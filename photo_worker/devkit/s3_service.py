"""S3 servers that replace the one of ministack or LocalStack: what they have in common.

They check signatures, which ministack does not, and are emptied by a restart on an empty directory. A web page cannot
sign requests, because each stack has its own secret.
"""

from __future__ import annotations

import hashlib

from photo_worker.devkit.environment import environment_of
from photo_worker.devkit.ports import LOOPBACK
from photo_worker.devkit.service import Endpoint, Service
from photo_worker.devkit.state import StackRecord

# The length of AWS secret keys.
_SECRET_LENGTH = 40


class _S3Endpoint(Endpoint):
    def probe_ready(self, env: dict[str, str]) -> dict[str, str]:
        from photo_worker.devkit import readiness

        readiness.probe_s3(env)
        return {}


S3_ENDPOINT = _S3Endpoint("s3", "AWS_ENDPOINT_URL_S3", "PW_S3_ENDPOINT")


class S3Service(Service):
    """An S3 server with a port of its own."""

    name = "s3"
    endpoints = (S3_ENDPOINT,)
    clients = ("botocore.session", "botocore.config")
    install_hint = "Get it with `photo-worker prefetch --s3 seaweedfs` or `--s3 minio`."
    restarts_to_reset = True

    def environment(self, record: StackRecord) -> dict[str, str]:
        """Return the variable of the endpoint."""
        return {S3_ENDPOINT.variable: f"http://{LOOPBACK}:{record.ports['s3']}"}

    def credentials(self, record: StackRecord) -> tuple[str, str] | None:
        """Return the stack's own secret: with a well-known one, a web page could sign requests."""
        return "local", hashlib.sha256(f"s3 {record.password}".encode()).hexdigest()[:_SECRET_LENGTH]

    def container_variables(self, record: StackRecord) -> dict[str, str]:
        """Return the variable of the endpoint."""
        return {S3_ENDPOINT.container_variable: "http://s3:9000"}

    def require(self) -> None:
        """Raise ``S3ServerMissing`` if the program is not on this machine."""
        self.program()

    def probe_ready(self, record: StackRecord) -> None:
        """Create the bucket if it is missing, and store an object in it."""
        from photo_worker.devkit import readiness

        readiness.probe_s3(environment_of(record))
