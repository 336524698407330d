"""Slow or wrong services behind the emulator: its calls end in time, and leave no connections or threads."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import psutil
import pytest

from textract_support.clients import DETECT, call, sent
from textract_support.emulator import RunningEmulator, document, running, until
from textract_support.socket_server import serving

DETECTION = "Textract.StartDocumentTextDetection"
STORED: dict[str, Any] = {"S3Object": {"Bucket": "photos", "Name": "a.png"}}
TOPIC = "arn:aws:sns:us-east-1:123456789012:done"
ROLE = "arn:aws:iam::123456789012:role/textract"

# More than the concurrent downloads.
CALLERS = 12


class Drips:
    """A service that never completes the headers of its responses. ``open`` has the connections to it."""

    def __init__(self, listening: socket.socket) -> None:
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        self.open: set[socket.socket] = set()
        self.asked = 0
        self._listening = listening

    def serve(self) -> None:
        self._listening.settimeout(0.02)
        while self._listening.fileno() >= 0:
            try:
                connection, _ = self._listening.accept()
            except TimeoutError:
                self._drip()
            except OSError:
                break
            else:
                self.asked += 1
                connection.settimeout(1)
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Amz-Meta-Note: ")
                self.open.add(connection)
        for connection in self.open:
            connection.close()

    def _drip(self) -> None:
        for connection in list(self.open):
            try:
                connection.sendall(b"x")
            except OSError:
                self.open.remove(connection)
                connection.close()


@contextmanager
def dripping() -> Iterator[Drips]:
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    drips = Drips(listening)
    thread = threading.Thread(target=drips.serve)
    thread.start()
    try:
        with closing(listening):
            yield drips
    finally:
        thread.join()


@pytest.fixture
def drips() -> Iterator[Drips]:
    with dripping() as made:
        yield made


def variables(**urls: str) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_REGION": "us-east-1",
        "TEXTRACT_TEST_CALL_SECONDS": "3",
        **{f"AWS_ENDPOINT_URL_{service}": url for service, url in urls.items()},
    }


def is_rid_of(started: RunningEmulator, drips: Drips) -> bool:
    port = int(drips.url.rpartition(":")[2])
    connections = psutil.Process(started.process.pid).net_connections()
    return not [one for one in connections if one.raddr and one.raddr.port == port and one.status == "ESTABLISHED"]


@pytest.mark.parametrize(
    ("target", "body"),
    [(DETECT, {"Document": STORED}), (DETECTION, {"DocumentLocation": STORED})],
    ids=["read", "start"],
)
def test_s3_dripping_fails_calls_in_time_and_frees_slots(
    tmp_path: Path, drips: Drips, target: str, body: dict[str, Any]
) -> None:
    with running(tmp_path, variables(S3=drips.url)) as started, ThreadPoolExecutor(CALLERS) as threads:
        began = time.monotonic()
        responses = list(threads.map(lambda _: call(started.port, target, json.dumps(body).encode()), range(CALLERS)))
        assert {(response.status, response.json["__type"]) for response in responses} == {(500, "InternalServerError")}
        assert all("too slow" in response.json["Message"] for response in responses)
        assert time.monotonic() - began < 20
        until(lambda: is_rid_of(started, drips))
        # The download thread is free again, and so is the reading process.
        asked = drips.asked
        assert call(started.port, target, json.dumps(body).encode()).status == 500
        assert drips.asked > asked
        assert call(started.port, DETECT, sent(document())).status == 200


def test_sns_dripping_fails_start_in_time(tmp_path: Path, drips: Drips) -> None:
    channel = {"SNSTopicArn": TOPIC, "RoleArn": ROLE}
    body = json.dumps({"DocumentLocation": STORED, "NotificationChannel": channel}).encode()
    with small_store() as store, running(tmp_path, variables(S3=store, SNS=drips.url)) as started:
        began = time.monotonic()
        response = call(started.port, DETECTION, body)
        assert (response.status, response.json["Message"]) == (500, "S3 or SNS is too slow")
        assert time.monotonic() - began < 20
        until(lambda: drips.asked > 0 and is_rid_of(started, drips))


class Topics(BaseHTTPRequestHandler):
    """Responds with a proxy's HTML page instead of SNS until ``works`` is set; then every topic exists."""

    works: threading.Event
    asked: threading.Event
    published: list[str]

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        (action,) = form["Action"]
        if action == "Publish":
            self.asked.set()
        body = b"<html><p>Welcome to the company's proxy"
        if self.works.is_set():
            if action == "Publish":
                self.published += form["Message"]
            body = f"<{action}Response><{action}Result/></{action}Response>".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


def test_sns_html_response_is_retried_like_outage(tmp_path: Path) -> None:
    class OwnTopics(Topics):
        works, asked, published = threading.Event(), threading.Event(), []

    server = ThreadingHTTPServer(("127.0.0.1", 0), OwnTopics)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    channel = {"SNSTopicArn": TOPIC, "RoleArn": ROLE}
    body = json.dumps({"DocumentLocation": STORED, "NotificationChannel": channel}).encode()
    sns = f"http://127.0.0.1:{server.server_port}"
    given = {**variables(SNS=sns), "TEXTRACT_TEST_CALL_SECONDS": "55"}
    try:
        with small_store(document()) as store, running(tmp_path, {**given, "AWS_ENDPOINT_URL_S3": store}) as started:
            response = call(started.port, DETECTION, body)
            assert response.status == 200
            until(OwnTopics.asked.is_set)
            OwnTopics.works.set()
            until(lambda: bool(OwnTopics.published))
            assert [json.loads(message)["JobId"] for message in OwnTopics.published] == [response.json["JobId"]]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def small_store(content: bytes = b"flour") -> Iterator[str]:
    """Serve a store in which every object exists, with this content; yield its URL."""
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(content)

    def respond(connection: socket.socket, request: bytes) -> None:
        connection.sendall(head if request.startswith(b"HEAD") else head + content)

    with serving(respond) as url:
        yield url
