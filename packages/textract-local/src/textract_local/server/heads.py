"""uvicorn's HTTP protocol with limits on the head and the trailers of a request."""

from __future__ import annotations

from http import HTTPStatus

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_LIMIT_BYTES = 64 * 1024
"""The limit for a request's line and headers together, and for the trailers after a chunked body.

A signed request of an SDK has some 1,500 bytes.
"""

# The headers that only serve to offer another protocol.
_UPGRADING = frozenset({b"upgrade", b"http2-settings", b"connection"})


class _WrongHead(Exception):
    """The head of a request is not acceptable."""

    def __init__(self, status: HTTPStatus, problem: str) -> None:
        self.status, self.problem = status, problem
        super().__init__(problem)


class BoundedHeads(HttpToolsProtocol):
    """Refuses heads of more than ``HEAD_LIMIT_BYTES``, and HTTP/1.1 without exactly one Host (RFC 9112, 3.2).

    Trailers have the same limit and are ignored, since no code uses them. Upgrades to other protocols are ignored as
    well, such as the HTTP/2 that Java's client offers with every request: a server may do so (RFC 9110, 7.8).
    """

    _before = 0
    """How many bytes arrived that belong neither to a finished head nor to a body."""
    _in_head = True
    _has_body = False
    """Whether the last data contained bytes of a body, or the end of a request."""
    _wrong: _WrongHead | None = None
    _offers_upgrade = False
    """Whether the current request offers another protocol: its head is then parsed again without the offer."""

    def data_received(self, data: bytes) -> None:
        """Parse data from the client, and refuse the request if a limit is exceeded."""
        if self.transport.is_closing():
            return
        self._has_body = False
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except httptools.HttpParserError:
            problem = "Invalid HTTP request received."
            self.logger.warning(problem)
            self.send_400_response(problem)
        # After a head, data without bytes of the body belongs to trailers or to chunk headers.
        self._before = self._before + len(data) if self._in_head or not self._has_body else 0
        if self._wrong is None and self._before > HEAD_LIMIT_BYTES:
            self._wrong = _too_large()
        if self._wrong is not None and not self.transport.is_closing():
            self._refuse(self._wrong)

    def _feed(self, data: bytes) -> None:
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offered:
                if not self._offers_upgrade:
                    raise httptools.HttpParserError("no request for another protocol is taken") from offered
                # The parser treats the bytes after the head as the other protocol's, even if they are a body.
                data = self._head_without_upgrade() + data[offered.args[0] :]
                self._offers_upgrade = False
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        kept = [(name, value) for name, value in self.headers if name not in _UPGRADING]
        connection = b", ".join(value for name, value in self.headers if name == b"connection").lower()
        if b"close" in [token.strip() for token in connection.split(b",")]:
            kept.append((b"connection", b"close"))
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/1.1", *(b": ".join(header) for header in kept)]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def on_message_begin(self) -> None:
        """Reset the counts for a new request."""
        super().on_message_begin()
        self._in_head, self._before = True, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, and ignore a trailer."""
        if self._in_head:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """Note that the data has bytes of a body, and pass them on."""
        self._has_body = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note the end of a request; one whose head is parsed again has not ended yet."""
        self._has_body = True
        if not self._offers_upgrade:
            super().on_message_complete()

    def on_headers_complete(self) -> None:
        """Start to handle a request, or refuse it."""
        self._in_head = False
        if sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > HEAD_LIMIT_BYTES:
            self._wrong = _too_large()
        elif self.parser.get_http_version() == "1.1" and [name for name, _ in self.headers].count(b"host") != 1:
            self._wrong = _WrongHead(HTTPStatus.BAD_REQUEST, "A request of HTTP/1.1 has exactly one Host header")
        if self._wrong is not None:
            # Neither this request nor what follows is handled: the connection is closed after the response.
            raise self._wrong
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._offers_upgrade = True
            return
        super().on_headers_complete()

    def _refuse(self, wrong: _WrongHead) -> None:
        if not self._in_head and self.cycle is not None and self.cycle.response_started:
            # Another response cannot be sent any more.
            self.transport.close()
            return
        body = wrong.problem.encode("ascii")
        self.transport.write(
            f"HTTP/1.1 {wrong.status} {wrong.status.phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode("ascii")
            + body
        )
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Respond 400 to invalid HTTP, unless the head was refused, which the parser reports as invalid too."""
        if self._wrong is None:
            super().send_400_response(msg)


def _too_large() -> _WrongHead:
    problem = f"The request's line and headers, or its trailers, have more than {HEAD_LIMIT_BYTES} bytes"
    return _WrongHead(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, problem)
