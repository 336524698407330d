"""Textract: this project's emulator, as a process or in the image that is built from this repository."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from photo_worker.devkit import probes
from photo_worker.devkit.environment import environment_of
from photo_worker.devkit.guard.rules import allowed_hosts
from photo_worker.devkit.ports import LOOPBACK
from photo_worker.devkit.service import Endpoint, Service, base_environment, make_directory, plan_of, post

if TYPE_CHECKING:
    from photo_worker.devkit.layout import StackPaths
    from photo_worker.devkit.plan import ServicePlan
    from photo_worker.devkit.state import StackRecord

PORTS = {"textract": 6}


class _TextractEndpoint(Endpoint):
    def probe_ready(self, env: dict[str, str]) -> dict[str, str]:
        from photo_worker.devkit import readiness

        readiness.probe_textract(env)
        return {}


class _Textract(Service):
    name = "textract"
    uses = ("textract",)
    position = 90
    endpoints = (_TextractEndpoint("textract", "AWS_ENDPOINT_URL_TEXTRACT", "PW_TEXTRACT_ENDPOINT"),)
    clients = ("botocore.session", "PIL.ImageFont", "PIL.ImageDraw")
    modules = {  # noqa: RUF012 - the base class' type
        "starlette": "starlette",
        "uvicorn": "uvicorn",
        "httptools": "httptools",
        "cbor2": "cbor2",
        "cachetools": "cachetools",
        "numpy": "numpy",
        "PIL": "pillow",
        "pypdfium2": "pypdfium2",
        "onnxruntime": "onnxruntime",
        "ocrust": "ocrust",
        "psutil": "psutil",
    }

    def environment(self, record: StackRecord) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL_TEXTRACT": self.url(record)}

    def container_variables(self, record: StackRecord) -> dict[str, str]:
        return {"PW_TEXTRACT_ENDPOINT": "http://textract:8765"}

    def version(self) -> str:
        from photo_worker import __version__

        return f"photo-worker {__version__}"

    def plan(self, record: StackRecord, paths: StackPaths) -> ServicePlan:
        variables = environment_of(record)
        env = {**base_environment(paths), **{name: it for name, it in variables.items() if name.startswith("AWS_")}}
        argv = [sys.executable, "-m", "textract_local.server"]
        argv += ["--host", LOOPBACK, "--port", str(record.ports["textract"])]
        # Like the objects they refer to, jobs survive `down` and are deleted by `reset`.
        argv += ["--data", str(make_directory(paths.data / "textract"))]
        argv += [word for host in allowed_hosts(env) for word in ("--allow-host", host)]
        return plan_of(self.name, argv, env, paths, cwd=make_directory(paths.run / "textract"))

    def probe_ready(self, record: StackRecord) -> None:
        from photo_worker.devkit import readiness

        readiness.probe_textract(environment_of(record))

    def wipe(self, record: StackRecord, paths: StackPaths) -> None:
        post(self.name, record, "/_emulator/reset")

    def is_alive(self, record: StackRecord) -> bool:
        return probes.http_ok(record.ports["textract"], "/_emulator/health")


SERVICES = (_Textract(),)
