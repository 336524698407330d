"""Requests per second for a document that was read before, compared with moto's server and its empty response.

One client uses both: it sends requests that were signed beforehand, over sockets, with as little work of its
own as possible. It keeps a connection if the server does, like SDKs; moto's server closes each. The servers
take turns in small rounds, so that other load on the machine slows both down.
"""

from __future__ import annotations

import base64
import json
import socket
import statistics
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks import moto

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("photos/clean-print.png", "photos/noisy-print.jpg", "photos/large-3000.jpg")
CONNECTIONS = 4
ROUNDS = 11
ROUND_SECONDS = 0.5
BAR = 1.5

_HEAD = (
    "POST / HTTP/1.1\r\nHost: {host}\r\nX-Amz-Target: Textract.DetectDocumentText\r\n"
    "Content-Type: application/x-amz-json-1.1\r\nX-Amz-Date: 20260101T000000Z\r\n"
    "Authorization: AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/textract/aws4_request,"
    " SignedHeaders=host;x-amz-date, Signature=0123456789abcdef\r\nContent-Length: {length}\r\n\r\n"
)


class Connection:
    """Sends prepared requests one after the other and reads the whole responses."""

    def __init__(self, url: str, document: bytes) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname, parts.port)
        body = json.dumps({"Document": {"Bytes": base64.b64encode(document).decode()}}).encode()
        self._request = _HEAD.format(host=parts.netloc, length=len(body)).encode() + body
        self._socket: socket.socket | None = None

    def ask(self) -> bytes:
        """Send the request and return the response's body; raises if it is an error or truncated."""
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=60)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(self._request)
        received = self._socket.recv(1 << 18)
        while b"\r\n\r\n" not in received:
            received += self._received()
        head, _, body = received.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        if b" 200 " not in lines[0]:
            raise RuntimeError(received[:500].decode(errors="replace"))
        length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
        parts = [body]
        missing = length - len(body)
        while missing > 0:
            parts.append(self._received())
            missing -= len(parts[-1])
        if b"connection: close" in lines or lines[0].startswith(b"http/1.0"):
            self.close()
        return b"".join(parts)

    def _received(self) -> bytes:
        assert self._socket is not None
        piece = self._socket.recv(1 << 18)
        if not piece:
            raise RuntimeError("the connection ends in the middle of a response")
        return piece

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def requests_per_second(connections: Sequence[Connection], seconds: float) -> float:
    """Send requests over all connections at once for ``seconds``; return the rate."""
    counts = [0] * len(connections)
    problems: list[BaseException] = []
    began = time.perf_counter()

    def work(number: int) -> None:
        try:
            while time.perf_counter() - began < seconds:
                connections[number].ask()
                counts[number] += 1
        except (OSError, RuntimeError) as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(connections))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]
    return sum(counts) / (time.perf_counter() - began)


def compare(
    urls: dict[str, str], document: bytes, connections: int, *, rounds: int = ROUNDS, seconds: float = ROUND_SECONDS
) -> dict[str, Any]:
    """Measure the two servers in turn; return medians and the ratio of ours to the other."""
    clients = {name: [Connection(url, document) for _ in range(connections)] for name, url in urls.items()}
    try:
        responses = {name: json.loads(several[0].ask()) for name, several in clients.items()}
        assert responses["emulator"]["Blocks"]
        assert responses["moto"]["Blocks"] == []
        rates: dict[str, list[float]] = {name: [] for name in urls}
        order = list(urls)
        for _ in range(rounds):
            order.reverse()
            for name in order:
                rates[name].append(requests_per_second(clients[name], seconds))
    finally:
        for several in clients.values():
            for client in several:
                client.close()
    pairs = [ours / other for ours, other in zip(rates["emulator"], rates["moto"], strict=True)]
    return {
        "document_bytes": len(document),
        "connections": connections,
        "blocks": len(responses["emulator"]["Blocks"]),
        "requests_per_second": {name: round(statistics.median(values), 1) for name, values in rates.items()},
        "ratio": round(statistics.median(pairs), 2),
    }


def run(variables: dict[str, str], *, rounds: int = ROUNDS, seconds: float = ROUND_SECONDS) -> dict[str, Any]:
    """Measure documents of three sizes over one connection and over several."""
    directory = moto.programs()
    results = {}
    with moto.running(directory) as url:
        urls = {"emulator": variables["AWS_ENDPOINT_URL_TEXTRACT"], "moto": url}
        for name in DOCUMENTS:
            content = (ROOT / "fixtures" / name).read_bytes()
            for connections in (1, CONNECTIONS):
                results[f"{name} x{connections}"] = compare(urls, content, connections, rounds=rounds, seconds=seconds)
    worst = min(result["ratio"] for result in results.values())
    return {"moto": moto.version(directory), "by_document": results, "ratio": worst, "bar": BAR, "met": worst >= BAR}


def table(result: dict[str, Any]) -> Sequence[tuple[str, str]]:
    """Return the lines to show."""
    lines = []
    for one in result["by_document"].values():
        rates = one["requests_per_second"]
        label = f"{one['document_bytes'] / 1000:.0f} kB, {one['connections']} connection(s): requests/s"
        compared = f"{rates['emulator']} ({one['blocks']} blocks); moto {rates['moto']} (none); ratio {one['ratio']}"
        lines.append((label, compared))
    return [*lines, (f"cached responses / moto {result['moto']}", f"{result['ratio']} at worst (bar {BAR})")]
