"""Documents that make the reading process hang, crash, grow or send garbage: each fails only its own call."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from textract_local.server.spawning import MIB
from textract_support.clients import DETECT, call, send, sent
from textract_support.emulator import RunningEmulator, document, running, until
from textract_support.recognisers import Make, alive, doc, lines, made, read, refused
from textract_support.recognisers import until as until_async
from textract_support.scripted_reader import DEADLINE_SECONDS

__all__ = ["made"]

# More than a process has after its start, so that only the harm exceeds it.
LITTLE = 400 * MIB

HARMS = {
    "crash": "ended with the signal SIGSEGV",
    "leave": "ended with status 3",
    "hang": "took more than 1.5 seconds of a processor",
    "memory": "took more",
    "nonsense": "gave something that is no response",
}


@pytest.mark.parametrize("harm", HARMS)
async def test_reading_process_failure_fails_only_its_call(made: Make, tmp_path: Path, harm: str) -> None:
    ours = made(processes=2, page_seconds=1.5 if harm == "hang" else 60, memory_bytes=LITTLE)
    await ours.warm()
    # The other process reads meanwhile, and its page is not lost.
    gate, log = tmp_path / "gate", tmp_path / "log"
    if harm != "hang":
        beside = asyncio.create_task(read(ours, doc("beside", log=str(log), wait_for=str(gate))))
        await until_async(lambda: lines(log) == ["beside 1"])
    error = await refused(read(ours, doc(harm=harm)))
    assert (error.failure.code, error.failure.status) == ("BadDocumentException", 400)
    assert HARMS[harm] in error.message
    assert await read(ours, doc("next")) == "next"
    if harm != "hang":
        gate.touch()
        assert await beside == "beside"


async def test_reading_process_stopped_by_machine_is_waited_for(made: Make, tmp_path: Path) -> None:
    gate, log = tmp_path / "gate", tmp_path / "log"
    ours = made(page_seconds=1.0)
    await ours.warm()
    reading = asyncio.create_task(read(ours, doc("patience", log=str(log), wait_for=str(gate))))
    await until_async(lambda: lines(log) == ["patience 1"])
    # Like a sleeping or busy laptop: the process gets no CPU time for longer than the limit of a page.
    (reader,) = ours.pool.pids
    os.kill(reader, signal.SIGSTOP)
    stopped = time.monotonic()
    await until_async(lambda: time.monotonic() - stopped > 3.0 or not alive(reader))
    assert not reading.done()
    os.kill(reader, signal.SIGCONT)
    gate.touch()
    assert await reading == "patience"


async def test_reading_process_over_wall_clock_limit_is_ended(made: Make, tmp_path: Path) -> None:
    ours = made(page_clock_seconds=1.0)
    error = await refused(read(ours, doc(wait_for=str(tmp_path / "never"))))
    assert error.failure.code == "BadDocumentException"
    assert "took more than 1 seconds by the clock" in error.message
    assert await read(ours, doc("next")) == "next"


async def test_reading_process_using_no_cpu_is_ended_early(made: Make, tmp_path: Path) -> None:
    # The reader blocks forever: no process reads from this pipe.
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    ours = made(page_seconds=1.0)
    error = await refused(read(ours, doc(log=str(pipe))))
    assert error.failure.code == "BadDocumentException"
    assert "stood still for more than 1 seconds" in error.message
    assert await read(ours, doc("next")) == "next"


async def test_page_that_ended_two_processes_is_not_read_again(made: Make, tmp_path: Path) -> None:
    log = tmp_path / "log"
    ours, given = made(), doc("killer", harm="crash", log=str(log))
    messages = [(await refused(read(ours, given))).message for _ in range(4)]
    assert len(set(messages)) == 1
    assert "SIGSEGV" in messages[0]
    assert lines(log) == ["killer 1"] * 2
    # Only this document is affected, and a reset clears it.
    assert await read(ours, doc("other")) == "other"
    ours.forget()
    await refused(read(ours, given))
    assert len(lines(log)) == 3


async def test_reading_process_output_of_libraries_is_ignored(made: Make, capfd: pytest.CaptureFixture[str]) -> None:
    assert await read(made(), doc(harm="noise")) == "a"
    assert "noise on the standard output" in capfd.readouterr().err


async def test_reading_process_file_over_limit_is_refused(made: Make) -> None:
    ours = made()
    assert "OSError" in (await refused(read(ours, doc(harm="file")))).message
    assert await read(ours, doc("next")) == "next"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the limits of another process")
async def test_reading_process_has_rlimits_and_no_secrets(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"AWS_SECRET_ACCESS_KEY", "DATABASE_URL", "TEMPORAL_API_KEY", "GITHUB_TOKEN", "LANGSMITH_API_KEY"}
    for name in secrets:
        monkeypatch.setenv(name, "of the server")
    ours = made()
    await ours.warm()
    process = psutil.Process(ours.pool.pids[0])
    assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert process.rlimit(psutil.RLIMIT_FSIZE)[1] < 1 << 30
    assert process.rlimit(psutil.RLIMIT_AS)[1] < 1 << 33
    assert not secrets & process.environ().keys()
    # It has only its three streams, and no socket of the server.
    assert not process.net_connections()


async def test_reading_process_killed_while_idle_is_replaced(made: Make) -> None:
    ours = made()
    await ours.warm()
    (before,) = ours.pool.pids
    os.kill(before, signal.SIGKILL)
    await until_async(lambda: not alive(before))
    # No document is blamed for it.
    assert await read(ours, doc("next")) == "next"
    assert ours.pool.pids != [before]


async def test_reading_process_killed_before_read_is_replaced(made: Make) -> None:
    ours = made()
    await ours.warm()
    (before,) = ours.pool.pids
    # The request goes to a stopped process, like to one whose end the server has not noticed yet.
    os.kill(before, signal.SIGSTOP)
    reading = asyncio.create_task(read(ours, doc("next")))
    await until_async(lambda: ours.pool.busy == 1)
    os.kill(before, signal.SIGKILL)
    assert await reading == "next"
    assert ours.pool.pids != [before]


def children(started: RunningEmulator) -> list[psutil.Process]:
    return psutil.Process(started.process.pid).children(recursive=True)


def gone(processes: list[psutil.Process]) -> bool:
    return not any(alive(process.pid) for process in processes)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_server_end_ends_reading_processes(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path, {}) as started:
        until(lambda: bool(send(started.port, "GET", "/_emulator/health").json["ready"]))
        left = children(started)
        assert left
        started.process.send_signal(number)
        started.process.wait(timeout=DEADLINE_SECONDS)
        until(lambda: gone(left))


@pytest.mark.io_bound
def test_server_end_ends_hanging_reading_process(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    # The server would end the process after 3 seconds, and is killed before.
    with running(tmp_path, {"TEXTRACT_TEST_PAGE_SECONDS": "3"}) as started, ThreadPoolExecutor(1) as threads:
        response = threads.submit(call, started.port, DETECT, sent(document(harm="hang", begun=str(begun))))
        until(begun.exists)
        left = children(started)
        started.process.kill()
        until(lambda: gone(left))
        assert response.exception(timeout=DEADLINE_SECONDS) is not None


def test_server_reports_hostile_document_and_continues(tmp_path: Path) -> None:
    with running(tmp_path, {"TEXTRACT_TEST_PAGE_SECONDS": "1.5"}) as started:
        for harm in ("crash", "hang"):
            response = call(started.port, DETECT, sent(document(harm=harm)))
            assert (response.status, response.json["__type"]) == (400, "BadDocumentException")
            assert HARMS[harm] in response.json["Message"]
        assert call(started.port, DETECT, sent(document())).status == 200
        assert send(started.port, "GET", "/_emulator/health").json["ready"]
