"""How the services are started, and that a probe does not accept just any response."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from photo_worker.devkit import probes, readiness
from photo_worker.devkit.environment import environment_of
from photo_worker.devkit.errors import ServiceMissing
from photo_worker.devkit.layout import StackPaths
from photo_worker.devkit.plan import ServicePlan, StackPlan
from photo_worker.devkit.ports import free_base
from photo_worker.devkit.postgres import User
from photo_worker.devkit.service import Service
from photo_worker.devkit.service_registry import default_services
from photo_worker.devkit.state import StackRecord

RECORD = StackRecord.new("dev", 20_000, durable=True)


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StackPaths:
    # As root, Postgres' data would be kept outside pytest's directory, because only root can reach that.
    monkeypatch.setattr(User, "for_postgres", lambda: None)
    paths = StackPaths(tmp_path / "home", "dev")
    paths.create()
    return paths


def plans(paths: StackPaths) -> dict[str, ServicePlan]:
    return {service.name: service.plan(RECORD, paths) for service in default_services()}


def test_service_plans_use_each_port_once(paths: StackPaths) -> None:
    uses = [use for service in default_services() for use in service.uses]
    assert len(uses) == len(set(uses))
    for service in default_services():
        text = " ".join([*plans(paths)[service.name].argv, *plans(paths)[service.name].env.values()])
        for use in service.uses:
            assert str(RECORD.ports[use]) in text, use


def test_service_plans_exclude_callers_cloud_variables(paths: StackPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = {
        "AWS_PROFILE": "production",
        "AWS_SECRET_ACCESS_KEY": "real-secret",
        "AWS_SESSION_TOKEN": "real-token",
        "TEMPORAL_API_KEY": "real-key",
        "HTTPS_PROXY": "http://proxy.example",
        "DATABASE_URL": "postgresql://real",
        "MINISTACK_ACCOUNT_ID": "123456789012",
        "USE_SSL": "real-tls",
    }
    for name, value in foreign.items():
        monkeypatch.setenv(name, value)
    for plan in plans(paths).values():
        assert not set(foreign.values()) & set(plan.env.values()), plan.name
        assert plan.env["TMPDIR"] == str(paths.run)
    assert plans(paths)["textract"].env["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:20005"


def test_service_plans_use_loopback_and_no_update_checks(paths: StackPaths) -> None:
    made = plans(paths)
    assert made["aws"].env["BIND_HOST"] == "127.0.0.1"
    assert made["aws"].env["SERVICES"] == "s3,sns,sqs"
    # With other keys, or none, it refuses URLs presigned with the stack's own credentials.
    signed_by = environment_of(RECORD)["AWS_SECRET_ACCESS_KEY"]
    assert made["aws"].env["AWS_SECRET_ACCESS_KEY"] == signed_by
    assert not Path(made["aws"].env["DOCKER_HOST"].removeprefix("unix://")).exists()
    assert made["temporal"].env["TEMPORAL_VERSION_CHECK_DISABLED"] == "1"
    assert {"--ui-disable-news-fetch", "journal_mode=wal", "synchronous=normal"} <= set(made["temporal"].argv)
    assert made["temporal"].argv[made["temporal"].argv.index("--ip") + 1] == "127.0.0.1"


def test_service_plans_keep_password_in_private_file(paths: StackPaths) -> None:
    for plan in plans(paths).values():
        assert RECORD.password not in " ".join([*plan.argv, *plan.env.values()])
    prepare = plans(paths)["postgres"].prepare
    assert prepare is not None
    assert Path(prepare.secret).read_text() == RECORD.password
    assert Path(prepare.secret).stat().st_mode & 0o777 == 0o600


def test_service_version_and_url_contain_no_password(paths: StackPaths) -> None:
    for service in default_services():
        assert re.search(r" \d+\.\d+", service.version())
        assert RECORD.password not in service.url(RECORD)
        assert "127.0.0.1:2000" in service.url(RECORD)


def test_stack_plan_json_round_trip(paths: StackPaths) -> None:
    from dataclasses import asdict

    plan = StackPlan("token", "lock", "processes", list(plans(paths).values()))
    assert StackPlan.of(json.loads(json.dumps(asdict(plan)))) == plan


def test_service_plan_missing_package_is_named(paths: StackPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ministack", None)
    monkeypatch.setattr("photo_worker.devkit.services.aws.find_spec", lambda _name: None)
    with pytest.raises(ServiceMissing, match="ministack"):
        service("aws").plan(RECORD, paths)


def service(name: str) -> Service:
    return next(entry for entry in default_services() if entry.name == name)


class _Responses(BaseHTTPRequestHandler):
    body: ClassVar[bytes] = b""

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def server() -> Iterator[tuple[HTTPServer, StackRecord]]:
    record = StackRecord.new("dev", free_base(), durable=True)
    server = HTTPServer(("127.0.0.1", record.ports["textract"]), type("Responses", (_Responses,), {}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server, record
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("lines", "fits"),
    [(["READY 2468"], True), (["ready", "2468"], True), ([], False), (["READY 2460"], False), (["hello"], False)],
)
def test_probe_textract_requires_expected_text(
    server: tuple[HTTPServer, StackRecord], lines: list[str], fits: bool
) -> None:
    blocks = [{"BlockType": "PAGE"}, *({"BlockType": "LINE", "Text": line} for line in lines)]
    response = {"DocumentMetadata": {"Pages": 1}, "Blocks": blocks, "DetectDocumentTextModelVersion": "1.0"}
    server[0].RequestHandlerClass.body = json.dumps(response).encode()  # type: ignore[attr-defined]
    env = environment_of(server[1])
    assert service("textract").is_alive(server[1])
    if fits:
        readiness.probe_textract(env)
    else:
        with pytest.raises(readiness.NotReady, match="READY 2468"):
            readiness.probe_textract(env)


def test_probe_ready_without_listener_gives_reason() -> None:
    record = StackRecord.new("dev", free_base(), durable=True)
    for entry in default_services():
        assert not entry.is_alive(record), entry.name
        with pytest.raises(readiness.NotReady, match=r"."):
            entry.probe_ready(record)
    assert not probes.listens(record.ports["aws"])


def test_postgres_probe_rejects_http_server(server: tuple[HTTPServer, StackRecord]) -> None:
    port = server[1].ports["textract"]
    assert probes.http_ok(port, "/")
    assert not probes.postgres_asks_for_password(port, "user", "database")
