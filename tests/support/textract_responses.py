"""A server of prepared responses, for behaviour that a healthy Textract does not show."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import boto3

from photo_worker.adapters.ocr.textract import TextractApi, TextractBackend, make_client
from photo_worker.adapters.ocr.textract_jobs import JobLimits
from photo_worker.adapters.times import TextractTimes
from photo_worker.aws import aws_session
from photo_worker.ports.ocr import AttemptNotes

if TYPE_CHECKING:
    pass

NEVER_SECONDS = 30


@dataclass(frozen=True)
class Reply:
    """One response. ``held`` delays it until the server ends; ``cut`` closes the connection without a response.

    With ``request_id`` it counts as a response of Textract and is validated.
    """

    status: int = 200
    body: bytes = b"{}"
    content_type: str = "application/x-amz-json-1.1"
    held: bool = False
    cut: bool = False
    request_id: str = ""


def refusal(code: str, message: str = "as asked", status: int = 400) -> Reply:
    """Return an error response of AWS's JSON protocol."""
    return Reply(status, json.dumps({"__type": code, "Message": message}).encode())


@dataclass
class Served:
    """The server's address, and the bodies of the requests it has received."""

    url: str
    calls: list[dict[str, object]] = field(default_factory=list)


@contextmanager
def textract_responding(*replies: Reply) -> Iterator[Served]:
    """Serve ``replies`` one after the other, then repeat the last one, on a free port of loopback."""
    ended = threading.Event()
    turn = itertools.count()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            reply = replies[min(next(turn), len(replies) - 1)]
            served.calls.append({"target": self.headers["X-Amz-Target"], "body": json.loads(body)})
            if reply.held:
                ended.wait(NEVER_SECONDS)
            if reply.cut or reply.held:
                self.close_connection = True
                return
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
            if reply.request_id:
                self.send_header("x-amzn-requestid", reply.request_id)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Served(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def backend_at(
    url: str,
    api: TextractApi = "async",
    *,
    notes: AttemptNotes | None = None,
    wait: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    limits: JobLimits | None = None,
    times: TextractTimes | None = None,
) -> TextractBackend:
    """Return the backend that a worker with this endpoint creates."""
    client = make_client(session=_session(), endpoint_url=url, api=api, times=times)
    return TextractBackend(client, api=api, notes=notes, wait=wait, clock=clock, limits=limits)


@cache
def _session() -> boto3.Session:
    """Return one session for all clients, so that the service's model is read once."""
    return aws_session({"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "eu-central-1"})
