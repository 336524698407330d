"""A server that responds with any bytes, including those that violate HTTP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def serving(respond: Callable[[socket.socket, bytes], None]) -> Iterator[str]:
    """Call ``respond`` with each connection and the start of its request, and then close it; yield the URL.

    One connection is served after the other.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    try:
                        respond(connection, connection.recv(65_536))
                    except OSError:
                        # The client has closed the connection.
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
