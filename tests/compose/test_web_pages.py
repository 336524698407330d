"""The protection of the containers from web pages, tested without an engine."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "compose" / "docker-compose.yml").read_text(encoding="utf-8")
# Where the Compose file takes the rules from, as it names the file.
ORIGINS = "../packages/textract-local/src/textract_local/origins.py"
# The Fetch Standard's bad ports that the Compose file uses.
REFUSED_BY_BROWSERS = {6665, 6666, 6667, 6668, 6669, 6697}
# Each published port with its protection from web pages.
PUBLISHED = {
    ("temporal", 7233): "no HTTP/1.1",
    ("temporal-ui", 8233): "the forwarder",
    ("postgres", 5432): "no HTTP/1.1",
    ("pgbouncer", 6432): "no HTTP/1.1",
    ("aws", 4566): "the start script",
    ("s3", 9000): "a secret and no CORS",
    ("textract", 8765): "its own application",
}
# What a browser gets from a port without HTTP/1.1.
NO_HTTP = {
    "temporal": "gRPC is HTTP/2 without TLS, which no browser supports",
    "postgres": "it closes connections of other protocols",
    "pgbouncer": "it closes connections of other protocols",
}


class Response(SimpleNamespace):
    """The response object that LocalStack's gateway passes to a handler."""

    status_code = 200
    body = ""

    def set_data(self, body: str) -> None:
        self.body = body


class Chain(SimpleNamespace):
    """The handler chain, by which a handler ends a request."""

    terminated = False

    def terminate(self) -> None:
        self.terminated = True


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A gateway with its own handler, after running the start script."""
    gateway = SimpleNamespace(request_handlers=["the service"])
    runtime = ModuleType("localstack.runtime")
    current = SimpleNamespace(components=SimpleNamespace(gateway=gateway))
    monkeypatch.setattr(runtime, "get_current_runtime", lambda: current, raising=False)
    monkeypatch.setitem(sys.modules, "localstack", ModuleType("localstack"))
    monkeypatch.setitem(sys.modules, "localstack.runtime", runtime)
    # The path at which the Compose file mounts the rules.
    monkeypatch.setenv("PHOTO_WORKER_GUARD", str((ROOT / "compose" / ORIGINS).resolve().parent))
    monkeypatch.setenv("PHOTO_WORKER_ALLOWED_HOSTS", "aws,textract")
    spec = importlib.util.spec_from_file_location("guard", ROOT / "compose" / "localstack" / "guard.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return gateway


@pytest.mark.parametrize(
    ("headers", "taken"),
    [
        ({"Host": "127.0.0.1:4566", "Sec-Fetch-Site": "none"}, True),
        ({"Host": "127.0.0.1:4566"}, True),
        ({"Host": "aws:4566", "Authorization": "AWS4-HMAC-SHA256 ..."}, True),
        ({"Host": "s3:9000"}, False),
        ({"Host": "evil.example:4566"}, False),
        ({"Host": "172.18.0.2:4566"}, False),
        ({"Host": "127.0.0.1:4566", "Origin": "https://evil.example"}, False),
        ({"Host": "aws:4566", "Sec-Fetch-Site": "cross-site"}, False),
        ({"Host": "aws:4566", "User-Agent": "Mozilla/5.0", "Accept": "image/*"}, False),
    ],
    ids=str,
)
def test_localstack_guard_checks_rules_before_service(
    gateway: SimpleNamespace, headers: dict[str, str], taken: bool
) -> None:
    first, *others = gateway.request_handlers
    assert others == ["the service"]
    chain, response = Chain(), Response()
    request = SimpleNamespace(headers=headers.items(), query_string=b"list-type=2")
    first(chain, SimpleNamespace(request=request), response)
    assert chain.terminated is not taken
    assert response.status_code == (200 if taken else 403)
    if not taken:
        assert "photo-worker refuses this request" in json.loads(response.body)["message"]


def test_localstack_guard_refuses_action_of_followed_link(gateway: SimpleNamespace) -> None:
    chain, response = Chain(), Response()
    headers = {"Host": "127.0.0.1:4566", "Sec-Fetch-Site": "none"}
    request = SimpleNamespace(headers=headers.items(), query_string=b"Action=CreateQueue&QueueName=evil")
    gateway.request_handlers[0](chain, SimpleNamespace(request=request), response)
    assert chain.terminated
    assert response.status_code == 403


def test_temporal_http_ports_are_unreachable_for_browsers() -> None:
    for option in ("ui-port", "metrics-port", "http-port"):
        found = re.search(rf"--{option}=(\d+)", TEXT)
        assert found is not None
        assert int(found[1]) in REFUSED_BY_BROWSERS, option
    [allowed] = re.findall(r"- --dynamic-config-value=frontend\.httpAllowedHosts=(.+)", TEXT)
    # From an empty list, the server makes a pattern that matches an empty Host.
    [name] = json.loads(allowed)
    assert " " in name
    assert "*" not in name
    # It publishes gRPC alone; the UI is published by the forwarder.
    temporal = TEXT[TEXT.index("\n  temporal:\n") : TEXT.index("\n  temporal-ui:\n")]
    assert re.findall(r":(\d+)\"$", temporal, re.M) == ["7233"]


def test_minio_secret_has_empty_default() -> None:
    assert "MINIO_ROOT_PASSWORD: ${PW_SECRET_KEY:-}\n" in TEXT


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    """The file's services, every profile included."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
    return found


def test_published_ports_all_have_a_listed_guard(services: dict[str, dict[str, Any]]) -> None:
    published = set()
    for name, entry in services.items():
        # Other settings that would publish ports.
        assert not {"network_mode", "extends"} & entry.keys(), name
        for port in entry.get("ports", []):
            # The short form: loopback alone, a variable for the published port, a number for the container's.
            form = re.fullmatch(r"127\.0\.0\.1:\$\{PW_PORT_[A-Z0-9_]+:-\d+\}:(\d+)", port)
            assert form is not None, (name, port)
            published.add((name, int(form[1])))
    assert published == set(PUBLISHED)


def test_published_port_guards_are_configured_as_listed(services: dict[str, dict[str, Any]]) -> None:
    for (name, port), how in PUBLISHED.items():
        entry = services[name]
        environment = entry.get("environment", {})
        match how:
            case "the forwarder":
                assert entry["entrypoint"] == ["python", "-m", "photo_worker.devkit.guard.proxy"]
                assert entry["command"] == ["--listen", f"0.0.0.0:{port}", "--to", "temporal:6667"]
                assert "PHOTO_WORKER_ALLOWED_HOSTS" in environment
            case "the start script":
                mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in entry["volumes"]}
                assert mounted["/etc/localstack/init/start.d/photo-worker.py"] == "./localstack/guard.py"
                assert mounted["/usr/local/lib/photo-worker/origins.py"] == ORIGINS
                assert environment["GATEWAY_LISTEN"] == f"0.0.0.0:{port}"
                assert "PHOTO_WORKER_ALLOWED_HOSTS" in environment
            case "its own application":
                # The image's program applies the rules itself; only names are set here.
                assert not {"entrypoint", "command"} & entry.keys()
                assert "PHOTO_WORKER_ALLOWED_HOSTS" in environment
            case "a secret and no CORS":
                assert environment["MINIO_API_CORS_ALLOW_ORIGIN"] == "http://none.invalid"
                assert environment["MINIO_ROOT_PASSWORD"] == "${PW_SECRET_KEY:-}"
                assert environment["MINIO_BROWSER"] == "off"
            case "no HTTP/1.1":
                assert name in NO_HTTP
            case other:
                raise AssertionError(other)


def test_unpublished_services_are_the_expected_ones(services: dict[str, dict[str, Any]]) -> None:
    """A service without published ports cannot be reached by a page."""
    assert {name for name, entry in services.items() if not entry.get("ports")} == {
        "migrate",
        "resources",
        "usable",
        "worker",
    }
