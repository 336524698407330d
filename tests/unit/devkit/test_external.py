"""How an external service is given, refused and shown."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from photo_worker.cli import cli
from photo_worker.devkit import external
from photo_worker.devkit.environment import environment_of
from photo_worker.devkit.errors import ExternalInvalid, OfflineRefused
from photo_worker.devkit.stack import Stack
from photo_worker.devkit.state import StackRecord

GOOD = {
    "temporal": ["127.0.0.1:7233", "temporal.example:7233", "[::1]:7233"],
    "postgres": ["postgresql://u:p%40@127.0.0.1:5432/db", "postgres://u@db.example/x?sslmode=require"],
    "s3": ["http://127.0.0.1:9000", "https://s3.example"],
    "sqs": ["http://[::1]:4566"],
}
BAD = {
    "temporal": ["", "7233", "temporal", "http://temporal:7233", "a:b", "host:99999999", "host:0", "a b:1"],
    "postgres": [
        "",
        "127.0.0.1:5432",
        "mysql://u:p@h/db",
        "postgresql://u:p@h",
        "postgresql://h/db",
        "postgresql://u@h/a/b",
    ],
    "s3": [
        "",
        "127.0.0.1:9000",
        "ftp://h",
        "http://",
        "http://h:x",
        "http://key:secret@h",
        "http://h?x=1",
        "http://h:99999",
    ],
    "redis": ["redis://h"],
}


def a_record(**endpoints: str) -> StackRecord:
    return StackRecord.new("dev", 20_000, durable=True).with_(external=endpoints)


@pytest.mark.parametrize(("service", "endpoint"), [(name, entry) for name, some in GOOD.items() for entry in some])
def test_parse_valid_endpoint_is_kept_in_environment(service: str, endpoint: str) -> None:
    assert external.parse(service, f" {endpoint} ") == endpoint
    assert endpoint in environment_of(a_record(**{service: endpoint})).values()


@pytest.mark.parametrize(("service", "endpoint"), [(name, entry) for name, some in BAD.items() for entry in some])
def test_parse_invalid_endpoint_is_usage_error_naming_form(
    service: str, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExternalInvalid):
        external.parse(service, endpoint)
    monkeypatch.setenv("PHOTO_WORKER_HOME", str(tmp_path))
    result = CliRunner().invoke(cli, ["up", "--external", f"{service}={endpoint}"])
    assert result.exit_code == 2, result.output
    shown = result.output.replace("\n", " ")
    assert external.forms().get(service, "textract=http://HOST:PORT").split()[0] in shown
    assert "secret@" not in shown
    assert list(tmp_path.iterdir()) == []


@given(st.sampled_from(sorted(external.forms())), st.text(max_size=60))
def test_parse_any_text_returns_endpoint_or_external_invalid(service: str, text: str) -> None:
    try:
        accepted = external.parse(service, text)
    except ExternalInvalid:
        return
    shown = external.external_services(a_record(**{service: accepted}))[0]
    assert shown.url
    assert shown.port >= 0


@pytest.mark.parametrize("one", ["sns", "sqs"])
def test_up_external_sns_without_sqs_or_reverse_is_refused(
    one: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHOTO_WORKER_HOME", str(tmp_path))
    result = CliRunner().invoke(cli, ["up", "--external", f"{one}=http://127.0.0.1:9"])
    assert result.exit_code == 2
    assert "sns and sqs belong together" in result.output.replace("\n", " ") or "sqs and sns" in result.output


@pytest.mark.parametrize(
    ("service", "endpoint", "local"),
    [
        ("temporal", "127.0.0.1:7233", True),
        ("temporal", "localhost:7233", True),
        ("temporal", "[::1]:7233", True),
        ("temporal", "10.0.0.1:7233", False),
        ("s3", "http://127.8.8.8:9000", True),
        ("s3", "http://s3.localhost:9000", False),
        ("s3", "https://s3.amazonaws.com", False),
        ("postgres", "postgresql://u:p@host.docker.internal/db", False),
    ],
)
def test_refuse_offline_accepts_only_loopback_endpoints(service: str, endpoint: str, local: bool) -> None:
    if local:
        external.refuse_offline({service: endpoint})
    else:
        with pytest.raises(OfflineRefused, match=f"{service} at ") as caught:
            external.refuse_offline({service: endpoint})
        assert "u:p" not in caught.value.message


def test_up_offline_external_is_refused_without_dns_lookup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a name was looked up")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("PHOTO_WORKER_HOME", str(tmp_path))
    monkeypatch.setenv("PHOTO_WORKER_OFFLINE", "1")
    result = CliRunner().invoke(cli, ["up", "--external", "s3=https://s3.amazonaws.com"])
    assert result.exit_code == 1
    assert "offline_refused" in result.output
    assert not (tmp_path / "dev" / "stack.json").exists()


def test_up_external_option_ignores_environment_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """External services are migrated and written to, so a variable left in a shell must not select one."""
    from photo_worker.cli.stack import up

    option = next(entry for entry in up.params if entry.name == "external")
    assert option.envvar is None
    monkeypatch.setenv("PHOTO_WORKER_EXTERNAL", "postgres=postgresql://u@h/db")
    monkeypatch.setenv("PHOTO_WORKER_HOME", str(tmp_path))
    with up.make_context("up", []) as context:
        assert context.params["external"] is None


def test_external_services_hide_password_in_url_and_repr() -> None:
    url = "postgresql://me:secret@db.example:6543/recipes?password=secret&sslmode=require"
    (entry,) = external.external_services(a_record(postgres=url))
    assert entry.url == "postgresql://me@db.example:6543/recipes"
    assert entry.port == 6543
    assert "secret" not in repr(entry)
    assert "secret" not in repr(a_record(postgres=url))


def test_environment_of_external_aws_uses_callers_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "mine", "AWS_SESSION_TOKEN": "token"}
    for name, value in mine.items():
        monkeypatch.setenv(name, value)
    assert mine.items() <= environment_of(a_record(textract="https://textract.example")).items()
    # A stack without external AWS services never uses them.
    own = environment_of(a_record(temporal="127.0.0.1:7233"))
    assert (own["AWS_ACCESS_KEY_ID"], own["AWS_SECRET_ACCESS_KEY"]) == ("local", "local")
    assert "AWS_SESSION_TOKEN" not in own
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert environment_of(a_record(s3="http://s3.example"))["AWS_ACCESS_KEY_ID"] == "local"


@contextmanager
def listener(response: bytes | None) -> Iterator[int]:
    """A server that accepts one connection and sends ``response``, or nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked, over = threading.Event(), threading.Event()

        def serve() -> None:
            with server.accept()[0] as connection:
                asked.set()
                if response is not None:
                    connection.recv(1024)
                    connection.sendall(response)
                over.wait(30)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        over.set()
        thread.join()
        assert asked.is_set()


@pytest.mark.parametrize("service", ["temporal", "postgres", "s3"])
def test_status_external_without_response_is_silent(service: str) -> None:
    form = {"temporal": "127.0.0.1:{}", "postgres": "postgresql://u:p@127.0.0.1:{}/db", "s3": "http://127.0.0.1:{}"}
    states = []
    for response in (b"anything", None):
        with listener(response) as port:
            (entry,) = external.external_services(a_record(**{service: form[service].format(port)}))
            status = replace(entry, response_seconds=0.1).status()
            states.append(status.state)
            assert (status.pid, status.version, status.port) == (None, "external", port)
    assert states == ["running", "silent"]


def test_new_record_external_aws_keeps_callers_region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoints = {"textract": "https://textract.eu-west-1.example"}
    stack = Stack(tmp_path, base_port=20_000, external=endpoints)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    record = stack._new_record(None)
    assert record.region == "eu-west-1"
    assert environment_of(record)["SNS_TOPIC_ARN"].startswith("arn:aws:sns:eu-west-1:")
    # From another shell the recorded region stays; without such a service it is the default.
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert stack._new_record(record).region == "eu-west-1"
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert Stack(tmp_path, base_port=20_000, external={})._new_record(record).region == "us-east-1"
