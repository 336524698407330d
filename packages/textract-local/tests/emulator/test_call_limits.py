"""Clients that disconnect, calls that take too long, and limits on memory and on HTTP heads."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from pathlib import Path

import psutil
import pytest

from textract_local.server.counters import Counters
from textract_local.server.documents import SYNC
from textract_local.server.recognition import PageRecogniser
from textract_local.server.spawning import MIB, ReadingLimits
from textract_support.clients import DETECT, JSON_11, SIGNED, call, send, sent
from textract_support.emulator import RunningEmulator, document, running, until
from textract_support.recognisers import Make, alive, doc, lines, made, read, refused
from textract_support.recognisers import until as until_async

__all__ = ["made"]


def begin(started: RunningEmulator, content: bytes) -> socket.socket:
    """Send a call without reading the response."""
    connection = socket.create_connection(("127.0.0.1", started.port), timeout=30)
    body = sent(content)
    connection.sendall(
        f"POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: {DETECT}\r\nContent-Type: {JSON_11}\r\n"
        f"Authorization: {SIGNED}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    return connection


def test_call_disconnect_frees_slot(tmp_path: Path) -> None:
    log, never = tmp_path / "log", str(tmp_path / "never")
    with running(tmp_path, {}) as started:
        # Both processes read, and two documents wait, when all four clients disconnect.
        calls = [begin(started, document(f"{n}", log=str(log), wait_for=never)) for n in range(4)]
        until(lambda: len(lines(log)) == 2)
        until(lambda: len(send(started.port, "GET", "/_emulator/counters").json["documents"]) == 4)
        for connection in calls:
            connection.close()
        # Otherwise it would wait a minute for one of the two processes.
        began = time.monotonic()
        assert call(started.port, DETECT, sent(document())).status == 200
        assert time.monotonic() - began < 20
        assert len(lines(log)) == 2
        counted = send(started.port, "GET", "/_emulator/counters").json["operations"]["DetectDocumentText"]
        assert counted == {"requests": 5, "answered": 1, "errors": {"ClientDisconnected": 4}}


async def page(ours: PageRecogniser, given: object, seconds: float) -> bytes:
    deadline = asyncio.get_running_loop().time() + seconds
    return await ours.page_json(
        given,  # type: ignore[arg-type]
        1,
        None,
        limits=SYNC,
        counters=Counters(),
        urgent=True,
        deadline=deadline,
    )


async def test_page_read_ends_when_last_caller_is_cancelled(made: Make, tmp_path: Path) -> None:
    log = tmp_path / "log"
    ours, given = made(), doc("a", log=str(log), wait_for=str(tmp_path / "never"))
    callers = [asyncio.create_task(read(ours, given)) for _ in range(2)]
    await until_async(lambda: lines(log) == ["a 1"])
    (reader,) = ours.pool.pids
    callers[0].cancel()
    await asyncio.wait({callers[0]})
    assert alive(reader)
    assert ours.pool.busy == 1
    callers[1].cancel()
    await until_async(lambda: not alive(reader))
    assert await read(ours, doc("next")) == "next"
    # The cancelled reading left no file.
    assert [path for path in ours.spool.directory.iterdir() if path.name != ".lock"] == []


async def test_page_slow_is_refused_in_time_and_remembered(made: Make, tmp_path: Path) -> None:
    log = tmp_path / "log"
    ours, given = made(slow_page_seconds=0.2, slow_page_memory_seconds=60), doc("a", log=str(log), harm="hang")
    for _ in range(2):
        await until_async(lambda: ours.pool.ready and not ours.pool.busy)
        error = await refused(page(ours, given, 4.0))
        assert (error.failure.code, error.failure.status) == ("BadDocumentException", 400)
        assert "takes more than" in error.message
    assert len(lines(log)) == 2
    began = time.monotonic()
    assert (await refused(page(ours, given, 30.0))).failure.code == "BadDocumentException"
    assert time.monotonic() - began < 5
    assert len(lines(log)) == 2


async def test_page_slow_memory_expires(made: Make, tmp_path: Path) -> None:
    log = tmp_path / "log"
    ours, given = made(slow_page_seconds=0.2, slow_page_memory_seconds=0.1), doc("a", log=str(log), harm="hang")
    for times in range(1, 4):
        await until_async(lambda: ours.pool.ready and not ours.pool.busy)
        assert (await refused(page(ours, given, 4.0))).failure.code == "BadDocumentException"
        assert len(lines(log)) == times


async def test_page_slow_without_cpu_is_throttled_and_may_be_retried(made: Make, tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    # It is being read from the first second on, but gets no CPU time, as on a busy machine.
    ours, given = made(slow_page_seconds=1.0), doc("a", log=str(log), wait_for=str(gate))
    for times in range(1, 4):
        await until_async(lambda: ours.pool.ready and not ours.pool.busy)
        error = await refused(page(ours, given, 3.0))
        assert error.failure.code == "ProvisionedThroughputExceededException"
        assert len(lines(log)) == times
    gate.touch()
    assert b'"a"' in await page(ours, given, 60.0)


async def test_page_waiting_past_deadline_is_throttled(made: Make, tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    ours = made()
    first = asyncio.create_task(read(ours, doc("first", log=str(log), wait_for=str(gate))))
    await until_async(lambda: lines(log) == ["first 1"])
    error = await refused(page(ours, doc("second", log=str(log)), 0.5))
    assert error.failure.code == "ProvisionedThroughputExceededException"
    await until_async(lambda: ours.pool.waiting == 0)
    gate.touch()
    assert await first == "first"
    assert lines(log) == ["first 1"]


def test_reading_limits_end_calls_before_sdk_timeout() -> None:
    bounds = ReadingLimits()
    assert bounds.call_seconds <= 55
    assert bounds.slow_page_seconds < bounds.call_seconds


async def test_pool_slow_page_does_not_block_next_call(made: Make, tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    ours = made(slow_seconds=0.3, idle_seconds=0.4)
    slow = asyncio.create_task(read(ours, doc("slow", log=str(log), wait_for=str(gate))))
    await until_async(lambda: lines(log) == ["slow 1"])
    assert await read(ours, doc("next")) == "next"
    assert not slow.done()
    gate.touch()
    assert await slow == "slow"


async def test_pool_processes_stay_within_total_memory(made: Make, tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    ours = made(processes=2, total_bytes=420 * MIB, usual_bytes=10 * MIB)
    await ours.warm()
    # Each grows by 200 MiB and then waits. One of them is ended for lack of memory.
    calls = []
    for n in range(2):
        given = doc(f"{n}", log=str(log), harm="swell", swell_first=True, wait_for=str(gate))
        calls.append(asyncio.create_task(read(ours, given)))
        await until_async(lambda n=n: f"{n} 1" in lines(log))  # type: ignore[misc]

    def held() -> int:
        return sum(psutil.Process(pid).memory_info().rss for pid in ours.pool.pids if alive(pid))

    await until_async(lambda: ours.pool.busy == 1 and ours.pool.waiting == 1)
    assert held() < 420 * MIB
    gate.touch()
    # None of the documents is blamed.
    assert await asyncio.gather(*calls) == ["0", "1"]
    assert lines(log)[:2] == ["0 1", "1 1"]
    assert set(lines(log)[2:]) == {"1 1"}


def test_reading_limits_total_memory_is_below_2_gb() -> None:
    bounds = ReadingLimits()
    assert bounds.memory_bytes < 10**9
    assert bounds.total_bytes < 2 * 10**9


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="only Linux tells the limits of another process")
async def test_reading_process_has_rlimit_data(made: Make) -> None:
    ours = made()
    await ours.warm()
    assert psutil.Process(ours.pool.pids[0]).rlimit(psutil.RLIMIT_DATA)[1] == ReadingLimits().memory_bytes


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /_emulator/health HTTP/1.1\r\n", 400),
        ("GET /_emulator/health HTTP/1.1\r\nHost: a\r\nHost: b\r\n", 400),
        ("GET /_emulator/health HTTP/1.1\r\nHost: a\r\nX: " + "x" * 70_000 + "\r\n", 431),
        ("GET /_emulator/health HTTP/1.1\r\nHost: a\r\n" + "X: x\r\n" * 40_000, 431),
        ("GET /_emulator/health?" + "x" * 70_000 + " HTTP/1.1\r\nHost: a\r\n", 431),
        ("GET /_emulator/health HTTP/1.1\r\nHost: localhost\r\nX: " + "x" * 30_000 + "\r\n", 200),
        # The head is valid, but the control interface requires a Host.
        ("GET /_emulator/health HTTP/1.0\r\n", 403),
    ],
    ids=["no Host", "two Hosts", "long header", "many headers", "long line", "some headers", "HTTP/1.0"],
)
def test_http_head_over_limit_is_refused(emulator: RunningEmulator, head: str, status: int) -> None:
    until(lambda: bool(send(emulator.port, "GET", "/_emulator/health").json["ready"]))
    with socket.create_connection(("127.0.0.1", emulator.port), timeout=10) as connection:
        connection.sendall(f"{head}\r\n".encode())
        assert connection.recv(4096).split(b" ")[1] == str(status).encode()


def test_http_endless_head_is_cut_off(emulator: RunningEmulator) -> None:
    with socket.create_connection(("127.0.0.1", emulator.port), timeout=10) as connection:
        connection.sendall(b"GET /_emulator/health HTTP/1.1\r\nHost: a\r\nX: ")
        taken = 0
        with contextlib.suppress(OSError):
            while taken < 20 * MIB:
                taken += connection.send(b"x" * 16_384)
        assert taken < 20 * MIB
    assert send(emulator.port, "GET", "/_emulator/health").status == 200


@pytest.mark.parametrize("trailers", [b"X: " + b"x" * 16_384, b"X: x\r\n" * 2_000], ids=["long", "many"])
def test_http_endless_trailers_are_cut_off(emulator: RunningEmulator, trailers: bytes) -> None:
    process = psutil.Process(emulator.process.pid)
    until(lambda: bool(send(emulator.port, "GET", "/_emulator/health").json["ready"]))
    before, taken = process.memory_info().rss, 0
    with socket.create_connection(("127.0.0.1", emulator.port), timeout=10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n")
        with contextlib.suppress(OSError):
            while taken < 40 * MIB:
                taken += connection.send(trailers if taken == 0 or trailers.endswith(b"\n") else b"x" * 16_384)
    assert taken < 40 * MIB
    assert process.memory_info().rss - before < 20 * MIB
    assert send(emulator.port, "GET", "/_emulator/health").status == 200


def test_http_trailers_are_ignored(emulator: RunningEmulator) -> None:
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", emulator.port), timeout=10) as connection:
        for _ in range(2):
            # Twice on one connection: the first request leaves no state.
            connection.sendall(head + b"1\r\n{\r\n0\r\nX: x\r\nY: y\r\n\r\n")
            response = b""
            while not response.endswith(b"}"):
                response += connection.recv(65_536)
            assert b"UnknownOperationException" in response


@pytest.mark.parametrize("apart", [False, True], ids=["at once", "body later"])
def test_http_h2c_upgrade_offer_is_ignored(emulator: RunningEmulator, apart: bool) -> None:
    """Java's own client offers it with every request, and sends the body as usual."""
    body = sent(document("ginger"))
    head = (
        "POST / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nHost: localhost\r\nHTTP2-Settings: AAEAAEAAAAIA\r\n"
        f"Upgrade: h2c\r\nX-Amz-Target: {DETECT}\r\nContent-Type: {JSON_11}\r\nAuthorization: {SIGNED}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", emulator.port), timeout=30) as connection:
        for _ in range(2):
            if apart:
                connection.sendall(head)
                # The head is parsed before the body arrives.
                connection.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    connection.recv(1)
                connection.settimeout(30)
                connection.sendall(body)
            else:
                connection.sendall(head + body)
            response = b""
            while not response.endswith(b"}"):
                response += connection.recv(65_536)
            assert response.startswith(b"HTTP/1.1 200")
            assert b"ginger" in response
