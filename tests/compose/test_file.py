"""The Compose file, tested without an engine: what it pins, publishes, checks and documents."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any
from urllib.request import proxy_bypass

import pytest

from make_standin_images import image_names
from photo_worker.devkit.compose import program
from photo_worker.devkit.compose.project import direct_hosts, variables
from photo_worker.devkit.errors import ComposeMissing
from photo_worker.devkit.guard.rules import ServiceRules, allowed_hosts
from photo_worker.devkit.service_registry import all_services, default_services
from photo_worker.devkit.state import StackRecord
from standins.recipes import base_name, recipes

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "compose" / "docker-compose.yml"
TEXT = FILE.read_text(encoding="utf-8")
ONE_SHOTS = {"migrate", "resources"}
# ${NAME:-default}, the default with at most one variable in it.
USED = re.compile(r"\$\{(PW_[A-Z0-9_]+)(?::-((?:[^{}]|\{[^{}]*\})*))?\}")
DOCUMENTED = re.compile(r"(?m)^#   (PW_[A-Z0-9_]+) +(.+?)(?: {2,}.*)?$")


@pytest.fixture(scope="module")
def model() -> dict[str, Any]:
    """The file as Docker Compose reads it, with no variable set."""
    try:
        compose = program.find()
    except ComposeMissing as error:
        pytest.skip(error.message)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PW_", "COMPOSE_"))}
    done = subprocess.run(
        [*compose.argv, "--file", str(FILE), "--profile", "*", "config", "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
        env=kept,
    )
    assert (done.returncode, done.stderr) == (0, "")
    read: dict[str, Any] = json.loads(done.stdout)
    return read


@pytest.fixture(scope="module")
def services(model: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = model["services"]
    return found


def test_services_equal_native_stack_plus_container_services(
    services: dict[str, dict[str, Any]],
) -> None:
    known = all_services("compose")
    containers = {container for service in known for container in service.containers}
    assert {service.name for service in default_services()} <= containers
    assert {"s3", "pgbouncer", "temporal-ui"} <= containers
    assert set(services) == containers | {"worker", "usable"} | ONE_SHOTS
    assert {name: entry["profiles"] for name, entry in services.items() if "profiles" in entry} == {
        **{service.name: [service.name] for service in known if service.optional},
        "s3": ["minio"],
        "worker": ["worker"],
    }


def test_images_are_pinned_and_overridable(services: dict[str, dict[str, Any]]) -> None:
    for name, entry in services.items():
        repository, colon, tag = entry["image"].rpartition(":")
        assert colon, name
        assert repository, name
        assert re.search(r"\d+\.\d+|RELEASE\.\d{4}-\d\d-\d\d|^dev$", tag), (name, tag)
    overridden = {variable for variable, _ in USED.findall(TEXT) if variable.endswith("_IMAGE")}
    images = {entry["image"] for entry in services.values()}
    assert len(overridden) == len(images)
    # Images that are built here have the tag dev, and no others.
    assert {entry["image"] for entry in services.values() if "build" in entry} == {
        image for image in images if image.endswith(":dev")
    }


def test_ports_are_published_on_loopback_under_variables(services: dict[str, dict[str, Any]]) -> None:
    published = {name: entry.get("ports", []) for name, entry in services.items()}
    assert {port["host_ip"] for ports in published.values() for port in ports} == {"127.0.0.1"}
    numbers = [port["published"] for ports in published.values() for port in ports]
    assert len(numbers) == len(set(numbers)) == len(set(re.findall(r"PW_PORT_[A-Z0-9_]+", TEXT)))
    assert not any(entry.get("network_mode") or entry.get("privileged") for entry in services.values())


def test_services_have_health_check_limits_and_init(services: dict[str, dict[str, Any]]) -> None:
    for name, entry in services.items():
        assert entry["init"] is True, name
        assert int(entry["mem_limit"]) <= 2 * 1024**3, name
        assert entry["pids_limit"] <= 4096, name
        assert entry["logging"]["options"]["max-size"], name
        assert entry["restart"] == ("on-failure" if name == "worker" else "no"), name
        if name in ONE_SHOTS:
            # One-shots end; other services wait for their success.
            assert entry["healthcheck"] == {"disable": True}
        else:
            assert not entry["healthcheck"].get("disable"), name
            assert entry["healthcheck"]["timeout"], name


def test_one_shots_are_awaited_by_permanent_services(services: dict[str, dict[str, Any]]) -> None:
    """Otherwise `up --wait` takes an ended one-shot for a failed one."""
    for name in ONE_SHOTS:
        waiting = [
            other
            for other, entry in services.items()
            if entry.get("depends_on", {}).get(name, {}).get("condition") == "service_completed_successfully"
        ]
        assert any("profiles" not in services[other] for other in waiting), name
    whole = set(services["usable"]["depends_on"])
    direct = {inner for name in whole for inner in services[name].get("depends_on", {})}
    assert whole | direct == set(services) - {"usable", "worker"}


def test_devkit_services_have_no_depends_on(services: dict[str, dict[str, Any]]) -> None:
    """The dev kit starts all services at once or omits some, and does the work of the one-shots itself."""
    for name in (container for service in all_services("compose") for container in service.containers):
        assert "depends_on" not in services[name], name


def test_stored_data_is_in_project_volumes(model: dict[str, Any]) -> None:
    mounted = {
        mount["source"]
        for entry in model["services"].values()
        for mount in entry.get("volumes", [])
        if mount["type"] == "volume"
    }
    assert mounted == set(model["volumes"]) == {"temporal", "postgres", "s3", "textract"}
    # Their names include the project's name, so that two stacks share none.
    assert not re.search(r"(?m)^name:|container_name:|external:", TEXT)
    binds = [
        mount for entry in model["services"].values() for mount in entry.get("volumes", []) if mount["type"] == "bind"
    ]
    assert binds
    assert all(mount["read_only"] and Path(mount["source"]).is_file() for mount in binds)


def test_variables_are_documented_with_defaults() -> None:
    told = dict(DOCUMENTED.findall(TEXT))
    used: dict[str, set[str]] = {}
    for name, default in USED.findall(TEXT):
        used.setdefault(name, set()).add(default)
    # MinIO must refuse to start without a secret.
    assert used["PW_SECRET_KEY"] == {"", "test-secret"}
    used["PW_SECRET_KEY"].remove("")
    assert set(told) == set(used)
    for name, defaults in used.items():
        assert len(defaults) == 1, f"{name} has several defaults"
        if name not in {"PW_DATABASE_URL", "PW_NO_PROXY"}:
            assert told[name] == (defaults.pop() or "none"), name


def test_devkit_variables_exist_in_compose_file() -> None:
    record = StackRecord(name="dev", base_port=15_000, password="secret", kind="compose", s3="minio")
    known = {name for name, _ in USED.findall(TEXT)}
    given = variables(record)
    assert given.keys() <= known
    assert {name for name in known if name.startswith("PW_PORT_")} <= given.keys()


def test_allowed_hosts_apply_to_every_guarded_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both variables count: the one that refusals name, and the one of the Compose file."""
    monkeypatch.setenv("PHOTO_WORKER_ALLOWED_HOSTS", "dev.box:8233, second.box")
    monkeypatch.setenv("PW_ALLOWED_HOSTS", "third.box")
    try:
        found = program.find()
    except ComposeMissing as error:
        pytest.skip(error.message)
    record = StackRecord(name="dev", base_port=15_000, password="secret", kind="compose")
    compose = program.Compose(found, FILE, "photo-worker-dev", variables(record), engine="unix:///nowhere.sock")
    said = compose.output("config", "--format", "json", doing="read its file", seconds=60)
    for name in ("aws", "textract", "temporal-ui"):
        rules = ServiceRules(allowed_hosts(json.loads(said)["services"][name]["environment"]))
        for host in ("aws", "textract", "host.docker.internal", "dev.box", "second.box", "third.box"):
            assert rules.refusal([(b"host", f"{host}:8233".encode())]) is None, (name, host)
        # A public name that resolves to loopback.
        for host in ("localhost.localstack.cloud", "evil.example"):
            assert rules.refusal([(b"host", host.encode())]) is not None, (name, host)


def read_by_compose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, by_hand: bool, **shell: str) -> dict[str, Any]:
    """Return the file's services as Compose reads them if the shell has these proxy variables and no others."""
    for name in ("NO_PROXY", "no_proxy", "PW_NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for name, value in shell.items():
        monkeypatch.setenv(name, value)
    try:
        found = program.find()
    except ComposeMissing as error:
        pytest.skip(error.message)
    given = {} if by_hand else variables(StackRecord(name="dev", base_port=15_000, password="secret", kind="compose"))
    compose = program.Compose(found, FILE, "photo-worker-dev", given, engine="unix:///nowhere.sock")
    said = compose.output("--profile", "*", "config", "--format", "json", doing="read its file", seconds=60)
    services: dict[str, Any] = json.loads(said)["services"]
    # Neither Postgres nor its health check uses HTTP.
    del services["postgres"]
    return services


def behind_proxy(monkeypatch: pytest.MonkeyPatch, exceptions: Mapping[str, str]) -> None:
    """Set this process's proxy variables to those that Docker and the service give a container."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://proxy.example")
        monkeypatch.setenv(name.lower(), "http://proxy.example")
    for spelling in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(spelling, exceptions.get(spelling, ""))


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("spelling", [None, "NO_PROXY", "no_proxy"])
def test_no_proxy_exempts_other_containers(
    spelling: str | None, by_hand: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Docker copies the proxies of ~/.docker/config.json to every container's environment."""
    shell = {} if spelling is None else {spelling: "corp.example"}
    for name, entry in read_by_compose(monkeypatch, tmp_path, by_hand=by_hand, **shell).items():
        behind_proxy(monkeypatch, entry["environment"])
        for host in ("127.0.0.1", "localhost", "temporal", "aws", "s3", "textract", "host.docker.internal"):
            assert proxy_bypass(host), (name, host)
        if name != "temporal":
            # An external endpoint may only be reachable through the proxy.
            assert not proxy_bypass("s3.us-east-1.amazonaws.com"), name
            assert bool(proxy_bypass("minio.corp.example")) is bool(shell), name


@pytest.mark.parametrize("spelling", ["NO_PROXY", "no_proxy"])
def test_no_proxy_wildcard_of_shell_applies_to_containers(
    spelling: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, entry in read_by_compose(monkeypatch, tmp_path, by_hand=False, **{spelling: "*"}).items():
        behind_proxy(monkeypatch, entry["environment"])
        assert proxy_bypass("s3.us-east-1.amazonaws.com"), name
    # By hand it is part of a list: Go's clients and the application's apply it to every host.
    for name, entry in read_by_compose(monkeypatch, tmp_path, by_hand=True, **{spelling: "*"}).items():
        for value in ("NO_PROXY", "no_proxy"):
            assert "*" in entry["environment"][value].split(","), name


def test_no_proxy_keeps_exceptions_of_docker_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A service's NO_PROXY replaces the one that Docker would set for its container."""
    (tmp_path / "config.json").write_text('{"proxies": {"default": {"noProxy": "corp.example,.intern"}}}')
    for name, entry in read_by_compose(monkeypatch, tmp_path, by_hand=False, no_proxy="own.example").items():
        behind_proxy(monkeypatch, entry["environment"])
        for host in ("minio.corp.example", "s3.intern", "own.example", "aws"):
            assert proxy_bypass(host), (name, host)


def test_no_proxy_default_equals_direct_hosts() -> None:
    assert f"${{PW_NO_PROXY:-{direct_hosts()}," in TEXT


def test_stand_in_recipes_match_image_names(services: dict[str, dict[str, Any]]) -> None:
    names = image_names()
    assert names == {name: services[name]["image"] for name in names}
    assert set(names.values()) == {entry["image"] for entry in services.values()}
    # Optional services have one only if CI runs them.
    optional = {service.name for service in all_services("compose") if service.optional}
    assert set(names) - optional <= {recipe.service for recipe in recipes()} <= set(names)
    assert re.fullmatch(r"python:3\.13\.\d+-slim-trixie", base_name())


@pytest.fixture
def usable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """LocalStack's health check, with a temporary path instead of the container's."""
    spec = importlib.util.spec_from_file_location("usable", ROOT / "compose" / "localstack" / "usable.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "WORKED", tmp_path / "usable")
    return module


@contextmanager
def localstack(broken: str) -> Iterator[str]:
    """Serve like LocalStack with one broken service; if ``broken`` is ``rules``, accept web pages' requests."""
    responses = {"s3": b"<ListAllMyBucketsResult/>", "sns": b"<ListTopicsResult/>", "sqs": b"{}"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "Authorization" not in self.headers:
                self.send_response(200 if broken == "rules" else 403)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            service = self.headers["Authorization"].split("/")[3]
            status = 500 if service == broken else 200
            body = b"<Error/>" if status == 500 else responses[service]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("broken", ["", "s3", "sns", "sqs", "rules"])
def test_localstack_health_requires_every_service(
    usable: ModuleType, broken: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with localstack(broken) as address:
        monkeypatch.setattr(usable, "ADDRESS", address)
        assert usable.main() == (1 if broken else 0)
    assert usable.WORKED.exists() is not bool(broken)
    told = capsys.readouterr().out
    said = "web pages are let in: " if broken == "rules" else f"{broken}: "
    assert told.startswith(said) if broken else told == ""
