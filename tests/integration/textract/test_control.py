"""The control interface: whom it takes requests from, and what it makes of wrong ones."""

from __future__ import annotations

import json

import pytest

from tests.integration.textract.conftest import send
from tests.integration.textract.emulator import Running

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
        # A name that its owner made point to this machine.
        {"Host": "emulator.example.com:8765"},
        {"Host": "127.0.0.1.example.com"},
        {"Host": "localhost.example.com"},
        {"Host": ""},
    ],
    ids=str,
)
def test_a_web_page_cannot_drive_it(emulator: Running, method: str, path: str, headers: dict[str, str]) -> None:
    body = b'{"rules": [{"kind": "throttle"}]}' if method != "GET" else None
    answer = send(emulator.port, method, f"/_emulator/{path}", body, headers)
    assert answer.status == 403
    assert "access-control-allow-origin" not in answer.headers
    assert send(emulator.port, "GET", "/_emulator/faults").json["rules"] == []


def test_a_web_page_is_not_told_that_it_may_ask(emulator: Running) -> None:
    asked = {"Origin": "https://example.com", "Access-Control-Request-Method": "PUT"}
    for path in ("/_emulator/faults", "/", "/service/Textract/operation/DetectDocumentText"):
        answer = send(emulator.port, "OPTIONS", path, None, asked)
        assert answer.status == 405
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST", "[::1]:{port}", "[::1]", "10.0.0.7", "textract:8765"]
)
def test_programs_reach_it_by_address_and_by_private_name(emulator: Running, host: str) -> None:
    answer = send(emulator.port, "GET", "/_emulator/health", None, {"Host": host.format(port=emulator.port)})
    assert answer.status in {200, 503}


@pytest.mark.parametrize("path", ["faults", "jobs/age"])
@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"NaN", b"7", b'"x"', b"[]", b'{"unknown": 1}'])
def test_a_body_that_makes_no_sense_is_said_so(emulator: Running, path: str, body: bytes) -> None:
    answer = send(emulator.port, "POST", f"/_emulator/{path}", body)
    assert answer.status == 400
    assert set(answer.json) == {"message"}
    assert answer.json["message"]


def test_a_body_has_a_limit(emulator: Running) -> None:
    answer = send(emulator.port, "PUT", "/_emulator/faults", b" " * (1 << 20) + b"{}")
    assert answer.status == 413


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
def test_ageing_says_what_is_wrong(emulator: Running, given: dict[str, object], said: str) -> None:
    answer = send(emulator.port, "POST", "/_emulator/jobs/age", json.dumps(given).encode())
    assert answer.status == (404 if "no job" in said else 400)
    assert said in answer.json["message"]
