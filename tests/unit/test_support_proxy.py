"""The tests' proxy disturbs a connection exactly as it is told."""

from __future__ import annotations

import gc
import socket
import socketserver
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress

import pytest

from tests.support.proxy import Proxy, proxy_to

PATIENCE_SECONDS = 10.0
# Long enough for a response on a busy machine; a shorter wait would not prove silence.
SILENCE_SECONDS = 0.3


class _Echo(socketserver.BaseRequestHandler):
    """Echoes what it receives, and sets an event when its client has closed."""

    def handle(self) -> None:
        while piece := self.request.recv(65536):
            self.request.sendall(piece)
        assert isinstance(self.server, _Server)
        self.server.ended.set()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Echo)
        self.ended = threading.Event()


@pytest.fixture
def echo() -> Iterator[_Server]:
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join(PATIENCE_SECONDS)


@pytest.fixture
def proxy(echo: _Server) -> Iterator[Proxy]:
    with proxy_to("127.0.0.1", echo.server_address[1]) as made:
        yield made


def connected(proxy: Proxy) -> socket.socket:
    """Return a connection on which an echo has come back."""
    client = socket.create_connection(("127.0.0.1", proxy.port), PATIENCE_SECONDS)
    assert said(client, b"hello") == b"hello"
    return client


def said(client: socket.socket, words: bytes) -> bytes:
    """Send words and return as many bytes of the response."""
    client.sendall(words)
    response = b""
    while len(response) < len(words):
        piece = client.recv(65536)
        if not piece:
            break
        response += piece
    return response


def is_silent(client: socket.socket) -> bool:
    """Tell whether words are accepted, no response comes, and the connection stays open."""
    client.sendall(b"are you there?")
    client.settimeout(SILENCE_SECONDS)
    try:
        response = client.recv(65536)
    except TimeoutError:
        return True
    finally:
        client.settimeout(PATIENCE_SECONDS)
    assert response, "the connection was closed"
    return False


def test_swallow_drops_open_connections_only(proxy: Proxy, echo: _Server) -> None:
    with closing(connected(proxy)) as old:
        proxy.swallow()
        assert is_silent(old)
        with closing(connected(proxy)) as new:
            assert said(new, b"again") == b"again"
        assert echo.ended.wait(PATIENCE_SECONDS)
        assert (proxy.accepted, proxy.swallowed()) == (2, 1)


def test_swallow_keeps_server_side_open_until_down(proxy: Proxy, echo: _Server) -> None:
    with closing(connected(proxy)) as client:
        proxy.swallow()
        assert is_silent(client)
    assert not echo.ended.wait(SILENCE_SECONDS)
    proxy.down()
    assert echo.ended.wait(PATIENCE_SECONDS)


def test_swallow_new_drops_connections_until_heal(proxy: Proxy) -> None:
    proxy.swallow(new=True)
    with closing(socket.create_connection(("127.0.0.1", proxy.port), PATIENCE_SECONDS)) as client:
        assert is_silent(client)
        proxy.heal()
        assert is_silent(client)
        with closing(connected(proxy)):
            pass


def test_swallow_at_drops_connection_with_that_word(proxy: Proxy) -> None:
    proxy.swallow_at(b"SELECT")
    with closing(connected(proxy)) as one, closing(connected(proxy)) as other:
        one.sendall(b"please SELECT this")
        assert is_silent(one)
        assert said(other, b"hello") == b"hello"


def test_delay_applies_to_each_direction(proxy: Proxy) -> None:
    with closing(connected(proxy)) as client:
        proxy.delay(0.1)
        began = time.monotonic()
        assert said(client, b"hello") == b"hello"
        assert time.monotonic() - began >= 0.2
        proxy.heal()
        began = time.monotonic()
        assert said(client, b"hello") == b"hello"
        assert time.monotonic() - began < PATIENCE_SECONDS


def test_slow_limits_bytes_per_second(proxy: Proxy) -> None:
    with closing(connected(proxy)) as client:
        proxy.slow(10_000)
        began = time.monotonic()
        assert said(client, bytes(4_000)) == bytes(4_000)
        assert time.monotonic() - began >= 0.35


def test_down_refuses_and_closes_connections(proxy: Proxy) -> None:
    with closing(connected(proxy)) as client:
        proxy.down()
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", proxy.port), PATIENCE_SECONDS)
        proxy.up()
        with closing(connected(proxy)):
            pass


def test_proxy_to_exit_closes_connections_being_accepted(echo: _Server) -> None:
    gc.collect()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ResourceWarning)
        for _ in range(20):
            with ExitStack() as clients, proxy_to("127.0.0.1", echo.server_address[1]) as proxy:
                for _ in range(10):
                    client = clients.enter_context(socket.socket())
                    client.setblocking(False)
                    client.connect_ex(("127.0.0.1", proxy.port))
        gc.collect()
    assert [str(warning.message) for warning in warned if "unclosed" in str(warning.message)] == []
