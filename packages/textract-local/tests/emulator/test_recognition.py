"""The recogniser with real processes: scheduling of pages, caching and errors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
import pytest

from textract_local.errors import EngineUnavailable
from textract_local.reader.analysis.request import Analysis
from textract_local.server.counters import Counters
from textract_local.server.documents import ASYNC, SYNC
from textract_local.server.spawning import MIB
from textract_support import scripted_reader
from textract_support.recognisers import Make, alive, doc, lines, read, refused, until

TABLES = Analysis(frozenset({"TABLES"}))


async def test_page_is_read_once_and_cached(made: Make, tmp_path: Path) -> None:
    log, counters = tmp_path / "log", Counters()
    ours, given = made(), doc("a", log=str(log))
    assert [await read(ours, given, counters=counters) for _ in range(3)] == ["a"] * 3
    assert lines(log) == ["a 1"]
    assert counters.shown()["documents"][given.sha256]["recognised"] == 1
    assert ours.identity == ("obedient", "1")


async def test_page_blocks_are_copies_per_call(made: Make) -> None:
    ours, given = made(), doc()
    first = await ours.page(given, 1, None, limits=SYNC, counters=Counters(), urgent=True)
    first[0]["Page"] = 7
    second = await ours.page(given, 1, None, limits=SYNC, counters=Counters(), urgent=True)
    assert "Page" not in second[0]
    assert [block["Id"] for block in first] == [block["Id"] for block in second]


async def test_page_other_analysis_reuses_recognition(made: Make) -> None:
    ours, given, counters = made(), doc(), Counters()
    assert await read(ours, given, counters=counters) == "a"
    assert await read(ours, given, analysis=TABLES, counters=counters) == "a TABLES"
    assert counters.shown()["documents"][given.sha256]["recognised"] == 1


async def test_page_concurrent_analyses_share_recognition(made: Make) -> None:
    ours, given, counters = made(processes=2), doc(), Counters()
    calls = (read(ours, given, analysis=analysis, counters=counters) for analysis in (None, TABLES))
    assert await asyncio.gather(*calls) == ["a", "a TABLES"]
    assert counters.shown()["documents"][given.sha256]["recognised"] == 1


async def test_page_reading_survives_restart(made: Make) -> None:
    given, counters = doc(), Counters()
    ours = made()
    await read(ours, given)
    await ours.close()
    assert await read(made(), given, counters=counters) == "a"
    assert given.sha256 not in counters.shown()["documents"]


async def test_page_concurrent_calls_share_reading(made: Make, tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    ours, given = made(processes=2), doc("a", log=str(log), wait_for=str(gate))
    calls = [asyncio.create_task(read(ours, given)) for _ in range(16)]
    await until(lambda: lines(log) == ["a 1"])
    gate.touch()
    assert set(await asyncio.gather(*calls)) == {"a"}
    assert lines(log) == ["a 1"]


async def test_page_cancelled_caller_does_not_affect_others(made: Make, tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    ours, given = made(), doc("a", log=str(log), wait_for=str(gate))
    first, second = (asyncio.create_task(read(ours, given)) for _ in range(2))
    await until(lambda: lines(log) == ["a 1"])
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.touch()
    assert await second == "a"
    assert lines(log) == ["a 1"]


async def test_pool_reads_at_most_one_page_per_process(made: Make, tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    ours = made(processes=2)
    calls = [asyncio.create_task(read(ours, doc(f"{n}", log=str(log), wait_for=str(gate)))) for n in range(6)]
    await until(lambda: (len(lines(log)), ours.pool.waiting) == (2, 4))
    assert (len(ours.pool.pids), ours.pool.busy) == (2, 2)
    gate.touch()
    assert await asyncio.gather(*calls) == [str(n) for n in range(6)]


async def test_pool_urgent_pages_go_first_and_jobs_take_turns(made: Make, tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    ours = made()
    first = asyncio.create_task(read(ours, doc("first", log=str(log), wait_for=str(gate))))
    await until(lambda: lines(log) == ["first 1"])
    jobs = [doc(name, log=str(log), pages=3) for name in ("long", "other")]
    pages = [
        asyncio.create_task(read(ours, job, number, limits=ASYNC, urgent=False)) for job in jobs for number in (1, 2, 3)
    ]
    await until(lambda: ours.pool.waiting == 6)
    short = asyncio.create_task(read(ours, doc("short", log=str(log))))
    # This page is queued already, and becomes urgent.
    hurried = asyncio.create_task(read(ours, jobs[1], 3, limits=ASYNC, urgent=True))
    await until(lambda: ours.pool.waiting == 7)
    gate.touch()
    await asyncio.gather(first, short, hurried, *pages)
    order = lines(log)
    assert sorted(order[1:3]) == ["other 3", "short 1"]
    turns = [line.split()[0] for line in order[3:]]
    assert turns in (["long", "other"] * 2 + ["long"], ["other", "long"] * 2 + ["long"])


async def test_pool_urgent_page_gets_extra_process_when_all_are_busy(made: Make, tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    ours = made(processes=2)
    long = doc("long", log=str(log), wait_for=str(gate), pages=4)
    pages = [asyncio.create_task(read(ours, long, number, limits=ASYNC, urgent=False)) for number in (1, 2, 3, 4)]
    await until(lambda: len(lines(log)) == 2)
    # All processes are busy with long pages, but the page is read at once.
    assert await read(ours, doc("short")) == "short"
    assert not any(page.done() for page in pages)
    # The additional process reads only urgent pages.
    assert await read(ours, doc("other")) == "other"
    assert (len(lines(log)), ours.pool.busy, len(ours.pool.pids)) == (2, 2, 3)
    gate.touch()
    assert await asyncio.gather(*pages) == ["long", "long 2", "long 3", "long 4"]


async def test_page_cache_over_limit_evicts_least_used(made: Make, tmp_path: Path) -> None:
    log = tmp_path / "log"
    ours = made()
    given = {name: doc(name, log=str(log)) for name in "abc"}
    size = len(await ours.page_json(given["a"], 1, None, limits=SYNC, counters=Counters(), urgent=True))
    ours.forget()
    ours.remember(int(2.5 * size))
    for name in "abaca":
        await read(ours, given[name])
    assert lines(log)[1:] == ["a 1", "b 1", "c 1"]
    await read(ours, given["b"])
    assert lines(log)[1:] == ["a 1", "b 1", "c 1", "b 1"]


async def test_forget_during_read_makes_next_call_read_again(made: Make, tmp_path: Path) -> None:
    log, gate, counters = tmp_path / "log", tmp_path / "gate", Counters()
    ours, given = made(processes=2), doc("a", log=str(log), wait_for=str(gate))
    before = asyncio.create_task(read(ours, given, counters=counters))
    await until(lambda: len(lines(log)) == 1)
    ours.forget()
    after = asyncio.create_task(read(ours, given, counters=counters))
    await until(lambda: len(lines(log)) == 2)
    gate.touch()
    assert await before == await after == "a"
    assert counters.shown()["documents"][given.sha256]["recognised"] == 2


async def test_page_failure_reaches_all_callers_and_is_not_cached(made: Make, tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    failing = {"fail": "UnreadableDocument", "details": {"reason": "it is torn"}}
    ours, given = made(), doc("a", log=str(log), wait_for=str(gate), **failing)
    calls = [asyncio.create_task(refused(read(ours, given))) for _ in range(3)]
    await until(lambda: len(lines(log)) == 1)
    gate.touch()
    assert {str(error).partition(":")[0] for error in await asyncio.gather(*calls)} == {"BadDocumentException"}
    assert "it is torn" in (await refused(read(ours, given))).message
    assert len(lines(log)) == 2


async def test_page_crashes_leave_other_pages_readable(made: Make, tmp_path: Path) -> None:
    log = tmp_path / "log"
    ours, given = made(), doc("book", pages=30, log=str(log), harm="leave", harm_at=[1, 2, 3])
    for number in (1, 2, 3, 1):
        assert (await refused(read(ours, given, number, limits=ASYNC))).failure.code == "BadDocumentException"
    assert await read(ours, given, 4, limits=ASYNC) == "book 4"
    before = lines(log)
    # A page that has ended two processes is not read again.
    assert "not tried again after 2" in (await refused(read(ours, given, 1, limits=ASYNC))).reason
    assert lines(log) == before


async def test_document_with_too_many_crashes_is_given_up(made: Make, tmp_path: Path) -> None:
    log = tmp_path / "log"
    ours, given = made(most_ends=3), doc("book", pages=30, log=str(log), harm="leave", harm_at=[1, 2, 3])
    for number in (1, 2, 3):
        await refused(read(ours, given, number, limits=ASYNC))
    assert "not tried again after 3" in (await refused(read(ours, given, 4, limits=ASYNC))).reason
    assert lines(log) == ["book 1", "book 2", "book 3"]


async def test_document_limits_are_those_of_call(made: Make) -> None:
    ours, given = made(), doc("book", pages=2)
    assert await ours.pages(given, ASYNC) == 2
    assert await read(ours, given, 2, limits=ASYNC) == "book 2"
    assert await read(ours, given, 1, limits=ASYNC) == "book"
    error = await refused(read(ours, given))
    assert error.failure.code == "UnsupportedDocumentException"


async def test_engine_missing_is_internal_server_error_until_present(
    made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(scripted_reader.BROKEN, "1")
    ours = made()
    with pytest.raises(EngineUnavailable, match="its weights are missing"):
        await ours.warm()
    assert (ours.ready, "its weights are missing" in ours.problem, ours.identity) == (False, True, ("obedient", "1"))
    error = await refused(read(ours, doc()))
    assert (error.failure.code, error.failure.status) == ("InternalServerError", 500)
    # The engine is available now; no restart is needed.
    monkeypatch.delenv(scripted_reader.BROKEN)
    assert await read(ours, doc()) == "a"
    assert (ours.ready, ours.problem) == (True, "")


@pytest.mark.parametrize(
    ("reader", "problem"),
    [
        ("textract_support.scripted_reader:Nobody", "AttributeError"),
        ("textract_support.nowhere:Reader", "ModuleNotFoundError"),
    ],
)
async def test_reader_missing_raises_engine_unavailable(made: Make, reader: str, problem: str) -> None:
    with pytest.raises(EngineUnavailable, match=problem):
        await made(reader=reader).warm()


async def test_reading_process_crash_at_start_is_engine_unavailable(
    made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(scripted_reader.DIES, "1")
    ours = made()
    with pytest.raises(EngineUnavailable, match="SIGSEGV while it started"):
        await ours.warm()
    assert (await refused(read(ours, doc()))).failure.code == "InternalServerError"


async def test_page_blocks_failing_check_are_internal_server_error(made: Make) -> None:
    def check(blocks: Iterable[dict[str, Any]]) -> None:
        raise ValueError("SENTENCE is no block")

    ours = made()
    ours.check = check
    assert (await refused(read(ours, doc()))).failure.code == "InternalServerError"


async def test_pool_process_over_retire_bytes_is_replaced(made: Make) -> None:
    ours = made(retire_bytes=150 * MIB)
    await read(ours, doc())
    before = ours.pool.pids
    assert await read(ours, doc("b")) == "b"
    assert ours.pool.pids == before
    await read(ours, doc(harm="swell"))
    await until(lambda: ours.ready and len(ours.pool.pids) == 1 and ours.pool.pids != before)
    assert not alive(before[0])


async def test_pool_idle_grown_processes_are_retired(made: Make, tmp_path: Path) -> None:
    gate, log = tmp_path / "gate", tmp_path / "log"
    ours = made(processes=2, idle_seconds=0.4)
    calls = [
        asyncio.create_task(read(ours, doc(f"{n}", log=str(log), wait_for=str(gate), harm="swell"))) for n in range(2)
    ]
    await until(lambda: len(lines(log)) == 2)
    before = ours.pool.pids
    gate.touch()
    await asyncio.gather(*calls)
    await until(lambda: len(ours.pool.pids) == 1 and ours.ready and ours.pool.pids[0] not in before)
    (kept,) = ours.pool.pids
    assert psutil.Process(kept).memory_info().rss < 150 * MIB
    assert await read(ours, doc("c")) == "c"
