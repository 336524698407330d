"""Faults: pausing and resuming services, Textract's rules, and that ending a stack ends them."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Timer

import psutil
import psycopg
import pytest
from click.testing import CliRunner, Result

from photo_worker.cli import cli
from photo_worker.devkit import faults, pausing
from photo_worker.devkit.errors import FaultNotSet, ServiceUnknown, StackNotReady, StackNotRunning
from photo_worker.devkit.layout import StackPaths
from photo_worker.devkit.plan import ServicePlan
from photo_worker.devkit.service_registry import default_services
from photo_worker.devkit.stack import Stack
from photo_worker.devkit.state import Processes, StackRecord
from photo_worker.sources import expand_sources
from tests.integration.devkit.fake_services import FakeService, processes_of, wait_until
from tests.support.harness import FIXTURES, open_harness

# As in Postgres, the child leads its own session, and ends when it sees that its parent has ended.
_FAMILY = """
import os, signal, socket, subprocess, sys, time
CHILD = "import os, sys, time\\nwhile os.getppid() == int(sys.argv[1]): time.sleep(0.02)"
def bye(*_):
    print("toy ends in order", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, bye)
child = [sys.executable, "-I", "-S", "-c", CHILD, str(os.getpid()), sys.argv[2]]
subprocess.Popen(child, start_new_session=True)
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    client, _ = server.accept()
    client.close()
"""


@dataclass(frozen=True)
class Family(FakeService):
    """A fake service of two processes in different process groups, as in Postgres."""

    mode: str = "empties"

    def plan(self, record: StackRecord, paths: StackPaths) -> ServicePlan:
        code = [sys.executable, "-I", "-S", "-c", _FAMILY, str(record.ports[self.uses[0]]), str(paths.root)]
        return replace(super().plan(record, paths), argv=code)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A running stack of a ``Family`` and a second fake service."""
    toys = (Family(), FakeService(name="second", uses=("postgres",), mode="empties"))
    made = Stack(tmp_path, f"t-{secrets.token_hex(4)}", base_port=0, services=toys, timeout=30.0)
    made.up()
    yield made
    made.delete()
    left = processes_of(made.paths.root)
    for process in left:
        process.kill()
    assert left == []


def family(stack: Stack) -> list[psutil.Process]:
    """Return the two processes of ``toy``, once both exist."""
    entry = Processes.load(stack.paths).services["toy"]
    assert entry.pid is not None
    first = psutil.Process(entry.pid)
    wait_until(lambda: len(first.children()) == 1, "the toy has its child")
    return [first, *first.children()]


def states(stack: Stack) -> dict[str, str]:
    return {service.name: service.state for service in stack.status().services}


def test_pause_stops_all_processes_until_resume(stack: Stack) -> None:
    processes = family(stack)
    stack.pause("toy")
    assert [process.status() for process in processes] == [psutil.STATUS_STOPPED] * 2
    status = stack.status()
    assert not status.running
    assert states(stack) == {"toy": "paused", "second": "running"}
    with pytest.raises(StackNotReady, match="toy is paused"):
        stack.wait(0)
    since = stack.paused()
    assert set(since) == {"toy"}
    stack.pause("toy")
    assert stack.paused() == since, "a second pause changes nothing"
    stack.resume("toy")
    assert stack.paused() == {}
    wait_until(lambda: stack.status().running, "the toy responds again")
    assert processes == family(stack), "nothing was started anew"
    stack.resume("toy")
    assert faults.faults_of(stack).faults == []


def test_pause_when_child_stops_late_waits_for_it(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    first, child = family(stack)
    suspend = psutil.Process.suspend

    def late(process: psutil.Process) -> None:
        if process == child:
            Timer(0.2, suspend, [process]).start()
        else:
            suspend(process)

    monkeypatch.setattr(psutil.Process, "suspend", late)
    stack.pause("toy")
    assert [process.status() for process in (first, child)] == [psutil.STATUS_STOPPED] * 2


@pytest.mark.parametrize("end", [Stack.up, Stack.down, Stack.reset, Stack.delete])
def test_stack_commands_end_pause(stack: Stack, end: Callable[[Stack], object]) -> None:
    processes = family(stack)
    stack.pause("toy")
    stack.pause("second")
    log = stack.paths.log("toy")
    end(stack)
    assert stack.paused() == {}
    if end in {Stack.up, Stack.reset}:
        assert stack.status().running
        assert processes == family(stack)
    elif end is Stack.down:
        assert "toy ends in order" in log.read_text(), "it was let go on to end, and not killed"
    if end in {Stack.down, Stack.delete}:
        assert processes_of(stack.paths.root) == []


def test_pause_then_killed_supervisor_leaves_no_process(stack: Stack) -> None:
    family(stack)
    stack.pause("toy")
    supervisor = Processes.load(stack.paths).pid
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: processes_of(stack.paths.root) == [], "all processes have ended")


def test_pause_then_killed_service_resumes_its_children(stack: Stack) -> None:
    first, child = family(stack)
    stack.pause("toy")
    first.kill()
    wait_until(lambda: not child.is_running(), "the child has seen it")
    assert states(stack)["toy"] == "exited"
    assert stack.paused() == {}


def test_down_works_with_damaged_pause_file(stack: Stack) -> None:
    stack.pause("toy")
    (stack.paths.run / pausing.FILE).write_text('{"toy": {"since": 1, "processes": "?"}, "other": 7}')
    assert stack.paused() == {}
    assert stack.down()
    assert processes_of(stack.paths.root) == []


def test_pause_requires_known_running_service(stack: Stack) -> None:
    with pytest.raises(ServiceUnknown, match="has no service 'mailserver' of its own; it has toy, second"):
        faults.pause(stack, "mailserver")
    with pytest.raises(ServiceUnknown):
        faults.clear(stack, "mailserver")
    with pytest.raises(ServiceUnknown, match="textract"):
        faults.set_rule(stack, {"kind": "throttle"})
    first, _ = family(stack)
    first.kill()
    wait_until(lambda: states(stack)["toy"] == "exited", "its death is noticed")
    with pytest.raises(FaultNotSet, match="it is exited"):
        stack.pause("toy")
    stack.down()
    with pytest.raises(StackNotRunning):
        stack.pause("toy")
    assert faults.clear(stack).faults == []


def run(*arguments: str, code: int = 0, given: str | None = None) -> Result:
    result = CliRunner().invoke(cli, ["faults", *arguments], input=given)
    assert result.exit_code == code, result.output
    return result


def listed() -> list[tuple[str, str]]:
    data = json.loads(run("list", "-o", "json").stdout)["data"]
    return [(fault["service"], fault["fault"]) for fault in data["faults"]]


@pytest.mark.stack
@pytest.mark.io_bound
async def test_job_completes_despite_throttling_and_paused_postgres(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the real services: throttled calls are retried, a paused Postgres delays the job, and clear ends both."""
    name = f"t-{secrets.token_hex(4)}"
    monkeypatch.setenv("PHOTO_WORKER_HOME", str(tmp_path))
    monkeypatch.setenv("PHOTO_WORKER_STACK", name)
    stack = Stack(tmp_path, name, base_port=0, durable=False, services=default_services())
    try:
        await asyncio.to_thread(stack.up)
        await _meet_faults(stack)
    finally:
        await asyncio.to_thread(stack.delete)


async def _meet_faults(stack: Stack) -> None:
    run("set", "textract", "ThrottlingException", "--operation", "Start*", "--times", "2", "--seed", "7")
    run("set", "textract", "slow", "--seconds", "0.05")
    refused = run("set", "textract", "throttle", "--seconds", "1", code=2)
    assert "error [fault_not_set]: The fault of textract cannot be set: seconds: throttle has no use" in refused.stderr
    assert listed() == [("textract", "throttle"), ("textract", "slow")], "a refused rule changes nothing"
    photo, other = (FIXTURES / "photos" / name for name in ("clean-print.png", "noisy-print.jpg"))
    async with (
        open_harness({**stack.env(), "MAX_ACTIVITIES": "2", "OCR_RECORDED_DIR": str(FIXTURES / "recorded")}) as harness,
        harness.worker(),
    ):
        (source,) = expand_sources([str(photo)]).sources
        job = await harness.service.submit(source, engine="textract")
        report = await harness.service.wait(job.job_id)
        assert report.record.status == "succeeded"
        throttle, slow = json.loads(run("list", "-o", "json").stdout)["data"]["faults"]
        assert throttle["rule"]["taken"] == 2, "both were met and got over"
        assert slow["rule"]["taken"] >= 1

        run("set", "postgres", "--pause")
        status = CliRunner().invoke(cli, ["status", "-o", "json"])
        assert status.exit_code == 1
        found = json.loads(status.stdout)["data"]
        assert {service["name"]: service["state"] for service in found["services"]}["postgres"] == "paused"
        assert {fault["fault"] for fault in found["faults"]} == {"paused", "throttle", "slow"}
        (source,) = expand_sources([str(other)]).sources
        submitted = asyncio.ensure_future(harness.service.submit(source, engine="recorded"))
        done, _ = await asyncio.wait({submitted}, timeout=1)
        assert not done, "nothing goes on without Postgres"
        cleared = json.loads(run("clear", "-o", "json").stdout)["data"]
        assert (len(cleared["ended"]), cleared["faults"]) == (3, [])
        report = await harness.service.wait((await submitted).job_id)
        assert report.record.status == "succeeded"
    with psycopg.connect(stack.env()["DATABASE_URL"]) as connection:
        assert connection.execute("SELECT count(*) FROM recipes").fetchone() == (2,)

    script = json.dumps({"rules": [{"kind": "throttle"}]})
    run("set", "textract", "--script", "-", given=script)
    run("set", "textract", "--pause")
    run("set", "textract", "slow", "--seconds", "1", code=1)
    assert not (await asyncio.to_thread(stack.up)).started
    assert listed() == [], "up has to use all services"
    run("set", "textract", "--script", "-", given=script)
    for service in ("postgres", "textract"):
        run("set", service, "--pause")
    await asyncio.to_thread(stack.reset)
    assert listed() == []
    assert stack.status().running


@pytest.mark.parametrize(
    "arguments",
    [
        ["textract"],
        ["postgres", "throttle"],
        ["textract", "throttle", "--pause"],
        ["postgres", "--pause", "--times", "1"],
        ["textract", "--script", "-", "--seed", "3"],
        ["textract", "timeout", "--seconds", "3"],
        ["textract", "catches-fire"],
    ],
)
def test_faults_set_unused_argument_is_usage_error(arguments: list[str]) -> None:
    run("set", *arguments, code=2)


def test_faults_set_unreadable_script_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTO_WORKER_HOME", str(tmp_path))
    missing = run("set", "textract", "--script", str(tmp_path / "absent.json"), code=2)
    assert "error [source_unreadable]" in missing.stderr
    assert "error [fault_not_set]" in run("set", "textract", "--script", "-", given="{", code=2).stderr
    assert "error [stack_not_running]" in run("set", "textract", "--script", "-", given="{}", code=1).stderr
    assert list(tmp_path.iterdir()) == []


def test_faults_command_names_match_emulator() -> None:
    from photo_worker.cli.faults import CODES, KINDS
    from textract_local.server.faults import _FAILURES, FaultKind

    assert list(KINDS) == list(FaultKind)
    assert {kind: failure.code for kind, failure in _FAILURES.items()} == {kind: code for code, kind in CODES.items()}
