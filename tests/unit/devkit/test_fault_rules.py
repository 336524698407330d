"""The client of the emulator's fault script ends in time, whatever the other side sends."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from photo_worker.devkit import fault_rules


@contextmanager
def dripping(pause: float) -> Iterator[str]:
    """A server that sends one byte of a response at a time and never ends it."""
    ended = threading.Event()

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                while not ended.wait(pause):
                    connection.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            thread.join(10)


def test_send_request_when_response_drips_ends_at_deadline() -> None:
    with dripping(0.05) as endpoint:
        began = time.monotonic()
        with pytest.raises(fault_rules.NoResponse, match=r"no response within 0\.5 s"):
            fault_rules.send_request(endpoint, "GET", seconds=0.5)
        assert time.monotonic() - began < 5
