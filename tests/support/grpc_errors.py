"""A gRPC server that fails calls with one status, to test how errors are reported."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded


@contextmanager
def refusing(status: int, message: str, *, but: tuple[str, ...] = ("GetSystemInfo",)) -> Iterator[str]:
    """Serve on a free port of loopback while the block runs, and yield HOST:PORT.

    ``status`` is gRPC's number. Methods in ``but`` succeed with an empty message, whose fields all have their defaults.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = threading.Event()
        known: list[socket.socket] = []

        def accept() -> None:
            with suppress(OSError):
                while not over.is_set():
                    client, _ = listener.accept()
                    known.append(client)
                    threading.Thread(target=_serve, args=(client, status, message, but), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            # Wakes the thread that accepts.
            with suppress(OSError), socket.create_connection(listener.getsockname(), timeout=1):
                pass
            thread.join(timeout=5)
            for client in known:
                client.close()


def _serve(client: socket.socket, status: int, message: str, but: tuple[str, ...]) -> None:
    connection = H2Connection(H2Configuration(client_side=False, header_encoding=None))
    connection.initiate_connection()
    paths: dict[int, str] = {}
    with suppress(OSError), client:
        client.sendall(connection.data_to_send())
        while data := client.recv(65_536):
            for event in connection.receive_data(data):
                if isinstance(event, RequestReceived) and event.stream_id is not None:
                    paths[event.stream_id] = dict(event.headers or [])[b":path"].decode()
                elif isinstance(event, DataReceived) and event.flow_controlled_length and event.stream_id is not None:
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, StreamEnded) and event.stream_id is not None:
                    _respond(connection, event.stream_id, paths[event.stream_id], status, message, but)
            client.sendall(connection.data_to_send())


def _respond(connection: H2Connection, stream: int, path: str, status: int, message: str, but: tuple[str, ...]) -> None:
    head = [(":status", "200"), ("content-type", "application/grpc")]
    if path.rpartition("/")[2] in but:
        connection.send_headers(stream, head)
        connection.send_data(stream, b"\0\0\0\0\0")
        connection.send_headers(stream, [("grpc-status", "0")], end_stream=True)
    else:
        connection.send_headers(
            stream, [*head, ("grpc-status", str(status)), ("grpc-message", message)], end_stream=True
        )
