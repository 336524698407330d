"""The control interface: the origins that it and the service accept, and invalid requests."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import pytest

from textract_support.clients import SIGNED, call, send
from textract_support.emulator import RunningEmulator, running, until

PATHS = [("GET", "health"), ("GET", "counters"), ("PUT", "faults"), ("POST", "reset"), ("POST", "jobs/age")]


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://example.com"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        # A name that its owner made resolve to this machine (DNS rebinding).
        {"Host": "emulator.example.com:8765"},
        {"Host": "127.0.0.1.example.com"},
        {"Host": "localhost.example.com"},
        {"Host": ""},
        # Only the names of loopback, unless others are allowed.
        {"Host": "textract:8765"},
        {"Host": "10.0.0.7"},
    ],
    ids=str,
)
def test_control_request_of_web_page_is_refused(
    emulator: RunningEmulator, method: str, path: str, headers: dict[str, str]
) -> None:
    body = b'{"rules": [{"kind": "throttle"}]}' if method != "GET" else None
    response = send(emulator.port, method, f"/_emulator/{path}", body, headers)
    assert response.status == 403
    assert "access-control-allow-origin" not in response.headers
    assert send(emulator.port, "GET", "/_emulator/faults").json["rules"] == []


def test_preflight_of_web_page_is_refused_without_cors_headers(emulator: RunningEmulator) -> None:
    asked = {"Origin": "https://example.com", "Access-Control-Request-Method": "PUT"}
    for path in ("/_emulator/faults", "/", "/service/Textract/operation/DetectDocumentText"):
        response = send(emulator.port, "OPTIONS", path, None, asked)
        assert response.status == 403
        assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST", "[::1]:{port}", "[::1]", "emulator.localhost"]
)
def test_control_loopback_host_names_are_accepted(emulator: RunningEmulator, host: str) -> None:
    response = send(emulator.port, "GET", "/_emulator/health", None, {"Host": host.format(port=emulator.port)})
    assert response.status in {200, 503}


@pytest.mark.parametrize(
    "page",
    [
        {"Host": "evil.example:8765"},
        {"Host": "evil.example:8765", "Origin": "http://evil.example:8765"},
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
    ids=str,
)
@pytest.mark.parametrize("operation", ["DetectDocumentText", "AnalyzeDocument", "StartDocumentTextDetection"])
def test_service_request_of_web_page_is_refused(
    emulator: RunningEmulator, operation: str, page: dict[str, str]
) -> None:
    before = send(emulator.port, "GET", "/_emulator/counters").json
    place = {"S3Object": {"Bucket": "photos", "Name": "raw/photo"}}
    body = json.dumps({"DocumentLocation" if operation.startswith("Start") else "Document": place}).encode()
    in_json = call(emulator.port, f"Textract.{operation}", body, **page)
    assert in_json.status == 403
    assert in_json.json["__type"] == "AccessDeniedException"
    # The message has the problem, the reason and the remedy.
    assert "refuses this request" in in_json.json["Message"]
    cbor = {"smithy-protocol": "rpc-v2-cbor", "Content-Type": "application/cbor", "Authorization": SIGNED}
    in_cbor = send(emulator.port, "POST", f"/service/Textract/operation/{operation}", b"\xa0", {**cbor, **page})
    assert in_cbor.status == 403
    assert in_cbor.headers["content-type"] == "application/cbor"
    assert send(emulator.port, "GET", "/no/such/path", None, page).status == 403
    assert send(emulator.port, "GET", "/_emulator/counters").json == before


def test_service_request_with_unknown_host_is_logged(emulator: RunningEmulator) -> None:
    name = f"n{secrets.token_hex(4)}"
    assert call(emulator.port, "Textract.DetectDocumentText", b"{}", Host=name).status == 403
    until(lambda: name in emulator.log.read_text("utf-8"))


def test_control_host_0_0_0_0_is_refused(tmp_path: Path) -> None:
    """Browsers treat 0.0.0.0 as loopback, and send neither Origin nor Sec-Fetch-Site with a plain GET to it."""
    argv = ["-m", "textract_local.server", "--host", "0.0.0.0", "--port", "0", "--data", str(tmp_path / "data")]  # noqa: S104
    with running(tmp_path, {}, *argv) as started:
        image = {"Host": f"0.0.0.0:{started.port}", "Accept": "image/*"}
        assert send(started.port, "GET", "/_emulator/counters", None, image).status == 403
        assert send(started.port, "GET", "/_emulator/counters").status == 200


@pytest.mark.parametrize("path", ["faults", "jobs/age"])
@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"NaN", b"7", b'"x"', b"[]", b'{"unknown": 1}'])
def test_control_invalid_body_is_refused_with_message(emulator: RunningEmulator, path: str, body: bytes) -> None:
    response = send(emulator.port, "POST", f"/_emulator/{path}", body)
    assert response.status == 400
    assert set(response.json) == {"message"}
    assert response.json["message"]


def test_control_body_over_limit_is_413(emulator: RunningEmulator) -> None:
    response = send(emulator.port, "PUT", "/_emulator/faults", b" " * (1 << 20) + b"{}")
    assert response.status == 413


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"seconds": -1}, "seconds: must be a number from 0"),
        ({"seconds": "1"}, "seconds: must be a number from 0"),
        ({"seconds": True}, "seconds: must be a number from 0"),
        ({}, "seconds: must be a number from 0"),
        ({"JobId": 7, "seconds": 1}, "JobId: must be a string"),
        ({"JobId": "a" * 64, "seconds": 1}, "JobId: there is no job"),
    ],
    ids=str,
)
def test_control_age_invalid_input_is_refused_with_reason(
    emulator: RunningEmulator, given: dict[str, object], said: str
) -> None:
    response = send(emulator.port, "POST", "/_emulator/jobs/age", json.dumps(given).encode())
    assert response.status == (404 if "no job" in said else 400)
    assert said in response.json["message"]
