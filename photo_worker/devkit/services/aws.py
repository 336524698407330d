"""S3, SNS and SQS, or those of them that no other server provides: by ministack's wheel, or LocalStack's image."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from photo_worker.devkit import probes
from photo_worker.devkit.environment import ACCOUNT, environment_of
from photo_worker.devkit.errors import ServiceMissing
from photo_worker.devkit.ports import LOOPBACK
from photo_worker.devkit.s3_service import S3_ENDPOINT
from photo_worker.devkit.service import (
    Endpoint,
    Service,
    base_environment,
    make_directory,
    package_version,
    plan_of,
    post,
)

if TYPE_CHECKING:
    from photo_worker.devkit.layout import StackPaths
    from photo_worker.devkit.plan import ServicePlan
    from photo_worker.devkit.state import StackRecord

PORTS = {"aws": 5}
_NAMES = ("s3", "sns", "sqs")


class _Sns(Endpoint):
    def probe_ready(self, env: dict[str, str]) -> dict[str, str]:
        from photo_worker.devkit import readiness

        return readiness.probe_sns_and_sqs(env)


class _Sqs(Endpoint):
    def probe_ready(self, env: dict[str, str]) -> dict[str, str]:
        # The delivery through SNS has probed it.
        return {}


class _Aws(Service):
    """What the servers of both kinds of stack have in common."""

    name = "aws"
    uses = ("aws",)
    endpoints = (
        S3_ENDPOINT,
        _Sns("sns", "AWS_ENDPOINT_URL_SNS", "PW_SNS_ENDPOINT"),
        _Sqs("sqs", "AWS_ENDPOINT_URL_SQS", "PW_SQS_ENDPOINT"),
    )

    def environment(self, record: StackRecord) -> dict[str, str]:
        own = self.url(record)
        artifacts = f"{record.prefix}-artifacts"
        return {
            "S3_BUCKET": f"{record.prefix}-photos",
            "SNS_TOPIC_ARN": f"arn:aws:sns:{record.region}:{ACCOUNT}:{artifacts}",
            "SQS_QUEUE_URL": f"{record.external.get('sqs', own)}/{ACCOUNT}/{artifacts}",
            **{one.variable: own for one in self.endpoints},
        }


class _Ministack(_Aws):
    """S3, SNS and SQS of a native stack, or the ones among them that it ``serves``."""

    position = 40
    kinds = ("native",)
    s3_server = "ministack"
    clients = ("botocore.session", "botocore.config", "photo_worker.adapters.s3.object_store")
    modules = {"ministack": "ministack"}  # noqa: RUF012 - the protocol's type

    def __init__(self, serves: Sequence[str] = _NAMES) -> None:
        self._serves = tuple(serves)

    def chosen(self, s3: str, external: Collection[str], extras: Collection[str]) -> Service | None:
        serves = [name for name in _NAMES if name not in external and (name != "s3" or s3 == self.s3_server)]
        return _Ministack(serves) if serves else None

    def version(self) -> str:
        return package_version("ministack", "ministack")

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

    def probe_ready(self, record: StackRecord) -> None:
        from photo_worker.devkit import readiness

        env = environment_of(record)
        if "s3" in self._serves:
            readiness.probe_s3(env)
        if "sns" in self._serves:
            readiness.probe_sns_and_sqs(env)

    def wipe(self, record: StackRecord, paths: StackPaths) -> None:
        from photo_worker.devkit.readiness import ResetFailed

        post(self.name, record, "/_ministack/reset")
        # ministack reports success even if it could not delete a file.
        data = paths.data / "aws"
        left = [*(data / "s3").iterdir(), *(data / "state").glob("*.json")]
        if left:
            raise ResetFailed(f"aws has kept {left[0]}")

    def is_alive(self, record: StackRecord) -> bool:
        return probes.http_ok(record.ports["aws"], "/_ministack/health")


class _LocalStack(_Aws):
    """S3, SNS and SQS of a Compose stack; its S3 is unused if the stack has another S3 server."""

    position = 30
    kinds = ("compose",)
    s3_server = "localstack"
    clients = ("photo_worker.devkit.readiness", "botocore.session", "botocore.config")

    def chosen(self, s3: str, external: Collection[str], extras: Collection[str]) -> Service | None:
        needed = {"sns", "sqs", *(["s3"] if s3 == self.s3_server else [])}
        return self if needed - set(external) else None

    def credentials(self, record: StackRecord) -> tuple[str, str] | None:
        # LocalStack checks presigned URLs against exactly this secret.
        return ("test", "test") if record.s3 == self.s3_server else None

    def container_variables(self, record: StackRecord) -> dict[str, str]:
        return {one.container_variable: "http://aws:4566" for one in self.endpoints}

    def probe_ready(self, record: StackRecord) -> None:
        from photo_worker.devkit import readiness

        if record.s3 == self.s3_server and "s3" not in record.external:
            readiness.probe_s3(environment_of(record))
        if "sqs" not in record.external:
            readiness.probe_sns_and_sqs(environment_of(record))

    def wipe(self, record: StackRecord, paths: StackPaths) -> None:
        from photo_worker.devkit.compose import localstack

        localstack.empty(record)

    def is_alive(self, record: StackRecord) -> bool:
        return probes.http_ok(record.ports["aws"], "/_localstack/health")

    def unsaved(self, record: StackRecord) -> str | None:
        if record.s3 == self.s3_server and "s3" not in record.external:
            return "its S3 is LocalStack's, which keeps objects in memory alone"
        return None


SERVICES = (_Ministack(), _LocalStack())
