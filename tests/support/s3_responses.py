"""A small HTTP server with responses of S3 that no emulator sends.

Responses follow "Error responses" in the Amazon S3 API reference: XML with a code, and no body
if the request was HEAD.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Response:
    """One response. ``announced`` is a Content-Length that differs from the body: the connection is closed early.

    It has an ETag unless ``headers`` set an empty one.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    announced: int | None = None
    stall: bool = False


def refusal(status: int, code: str, message: str = "", **more: str) -> Response:
    """Return an error response in XML."""
    extra = "".join(f"<{name}>{value}</{name}>" for name, value in more.items())
    xml = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message>{extra}</Error>"
    return Response(status, xml.encode(), {"Content-Type": "application/xml"})


@dataclass
class S3Responses:
    """The server's address, its received requests, and the event that releases stalled responses."""

    url: str
    requests: list[Request]
    released: threading.Event


@contextmanager
def s3_responding(response: Callable[[Request], Response]) -> Iterator[S3Responses]:
    """Serve ``response`` on a free loopback port until the block ends."""
    requests: list[Request] = []
    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except ConnectionError:
                self.close_connection = True

        def response(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, body)
            requests.append(request)
            given = response(request)
            self.send_response(given.status)
            for name, value in {"ETag": '"1"', **given.headers}.items():
                if value:
                    self.send_header(name, value)
            length = len(given.body) if given.announced is None else given.announced
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(given.body)
            if given.stall:
                self.wfile.flush()
                released.wait(timeout=30)
            if length != len(given.body) and self.command != "HEAD":
                self.close_connection = True

        do_GET = do_HEAD = do_PUT = do_DELETE = response

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield S3Responses(f"http://127.0.0.1:{server.server_port}", requests, released)
    finally:
        released.set()
        server.shutdown()
        thread.join()
        server.server_close()
