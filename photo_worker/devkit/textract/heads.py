"""HTTP as uvicorn speaks it, with limits on what stands before and behind a request's body."""

from __future__ import annotations

from http import HTTPStatus

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_LIMIT_BYTES = 64 * 1024
"""What a request's line and headers may have together, and the trailers behind a body that is sent in chunks.

A signed request of an SDK has some 1,500 bytes.
"""

# What a request has for no other reason than to offer another protocol.
_UPGRADING = frozenset({b"upgrade", b"http2-settings", b"connection"})


class _WrongHead(Exception):
    """A request is refused for its head."""

    def __init__(self, status: HTTPStatus, problem: str) -> None:
        self.status, self.problem = status, problem
        super().__init__(problem)


class BoundedHeads(HttpToolsProtocol):
    """Refuses heads of more than ``HEAD_LIMIT_BYTES``, and HTTP/1.1 without exactly one Host (RFC 9112, 3.2).

    Trailers have the same limit, and are left out: nothing here asks for them. So are upgrades to other protocols, such
    as the HTTP/2 that Java's client offers with every request: a server may ignore them (RFC 9110, 7.8).
    """

    _before = 0
    """How many bytes came that are neither of a finished head nor of a body."""
    _in_head = True
    _has_body = False
    """What came last has bytes of a body, or the end of a request."""
    _wrong: _WrongHead | None = None
    _offers_upgrade = False
    """What the parser is at asks for another protocol: it is begun again without that."""

    def data_received(self, data: bytes) -> None:
        """Take what the client sends."""
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
        # Behind a head, bytes without any of the body are of trailers, or of what describes a chunk.
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
                # The parser takes what follows the head for the other protocol, also where it is a body.
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
        """Begin a request."""
        super().on_message_begin()
        self._in_head, self._before = True, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        if self._in_head:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._has_body = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._has_body = True
        if not self._offers_upgrade:
            super().on_message_complete()

    def on_headers_complete(self) -> None:
        """Begin to answer a request, or refuse it."""
        self._in_head = False
        if sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > HEAD_LIMIT_BYTES:
            self._wrong = _too_large()
        elif self.parser.get_http_version() == "1.1" and [name for name, _ in self.headers].count(b"host") != 1:
            self._wrong = _WrongHead(HTTPStatus.BAD_REQUEST, "A request of HTTP/1.1 has exactly one Host header")
        if self._wrong is not None:
            # Nothing is made of it, nor of what follows: the connection ends with the answer.
            raise self._wrong
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._offers_upgrade = True
            return
        super().on_headers_complete()

    def _refuse(self, wrong: _WrongHead) -> None:
        if not self._in_head and self.cycle is not None and self.cycle.response_started:
            # There is no room for another answer.
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
        """Refuse what is no request; what is refused for its head was none to the parser either."""
        if self._wrong is None:
            super().send_400_response(msg)


def _too_large() -> _WrongHead:
    problem = f"The request's line and headers, or its trailers, have more than {HEAD_LIMIT_BYTES} bytes"
    return _WrongHead(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, problem)
