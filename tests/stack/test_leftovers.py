"""Remains of crashes, restarts of the machine and manual deletions prevent no start and lose no data."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from photo_worker.devkit import disk, ports, postgres
from photo_worker.devkit.errors import DataMismatch, DataUnwritable, DiskFull, PortTaken, ServiceFailed, StackNotReady
from photo_worker.devkit.layout import StackPaths, is_locked
from photo_worker.devkit.plan import ServicePlan
from photo_worker.devkit.service_registry import default_services
from photo_worker.devkit.stack import Stack
from photo_worker.devkit.state import Processes, StackRecord
from tests.integration.devkit.fake_services import FakeService, has_ended, nothing_left, processes_of, wait_until
from tests.stack.support import RED, Ledger, LedgerStack, begun, command, lines, pids_of, put, record_of

__all__ = ["nothing_left"]

pytestmark = pytest.mark.usefixtures("nothing_left")

KEPT = [["kept"], ["kept"]]
Damage = Callable[[LedgerStack], None]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LedgerStack]:
    """A running stack that holds a line."""
    stack = LedgerStack(tmp_path / "home", f"t-{secrets.token_hex(4)}", base_port=0)
    stack.up()
    try:
        put(stack, "kept")
        yield stack
    finally:
        stack.delete()


def test_stack_of_the_version_before_comes_up_with_its_data(stack: LedgerStack) -> None:
    """Its record as that version wrote it, and its data, while it runs and after a stop."""
    known = record_of(stack)
    old = {
        "name": known.name,
        "base_port": known.base_port,
        "password": known.password,
        "durable": True,
        "versions": {"blue": "toy 1", "red": "toy 1"},
        "kind": "native",
        "s3": "ministack",
        "external": {},
        "region": "us-east-1",
        "found": {},
        "format": 1,
    }
    stack.paths.record.write_text(json.dumps(old, indent=1))
    again = LedgerStack(stack.paths.home, stack.name)
    before = pids_of(again)
    assert again.status().running
    assert again.up().started is False
    assert pids_of(again) == before
    assert lines(again) == KEPT
    assert again.down() is True
    stack.paths.record.write_text(json.dumps(old, indent=1))
    assert again.up().started is True
    assert lines(again) == KEPT
    assert again.env()["DATABASE_URL"].startswith(f"postgresql://photo_worker:{known.password}@")
    assert record_of(again).base_port == known.base_port


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that belongs to no stack; it must survive the test."""
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"])
    yield process
    assert process.poll() is None, "it still runs"
    process.kill()
    process.wait()


def end_all_at_once(stack: LedgerStack) -> None:
    """Kill every process without cleanup, as when the machine loses power."""
    pids = pids_of(stack)
    for pid in pids.values():
        os.kill(pid, signal.SIGSTOP)
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    # A process that ends has no command line any more while it still holds its lock.
    wait_until(lambda: processes_of(stack.paths.root) == [] and not is_locked(stack.paths.supervisor_lock), "gone")


def cut_list(stack: LedgerStack) -> None:
    content = stack.paths.processes.read_bytes()
    stack.paths.processes.write_bytes(content[: len(content) // 2])


def remove_list(stack: LedgerStack) -> None:
    stack.paths.processes.unlink()


def remove_lock(stack: LedgerStack) -> None:
    stack.paths.supervisor_lock.unlink()


def remove_all_state(stack: LedgerStack) -> None:
    for path in (stack.paths.processes, stack.paths.supervisor_lock, stack.paths.command_lock):
        path.unlink()


@pytest.mark.parametrize("damage", [cut_list, remove_list, remove_lock, remove_all_state])
def test_up_with_damaged_files_replaces_running_stack(stack: LedgerStack, damage: Damage) -> None:
    before = pids_of(stack)
    damage(stack)
    status = stack.status()
    if is_locked(stack.paths.supervisor_lock):
        assert [service.state for service in status.services] == ["running", "running"], "truth is asked for"
        assert status.problem is not None
        with pytest.raises(StackNotReady, match="damaged"):
            stack.wait(0)
    began = time.monotonic()
    assert stack.up().status.running
    assert time.monotonic() - began < 20
    assert all(has_ended(pid) for pid in before.values()), "nothing of the one before is left"
    assert lines(stack) == KEPT
    assert stack.status().problem is None


def test_down_after_deleted_directory_ends_processes(stack: LedgerStack) -> None:
    before = pids_of(stack)
    # Like `git clean`.
    shutil.rmtree(stack.paths.root)
    with begun(command("down", "--name", stack.name, home=stack.paths.home)) as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert "is stopped" in output
    wait_until(lambda: all(has_ended(pid) for pid in before.values()), "all have ended")
    assert not stack.paths.root.exists(), "looking makes nothing"


def test_up_after_deleted_directory_replaces_stack(stack: LedgerStack) -> None:
    base, before = record_of(stack).base_port, pids_of(stack)
    shutil.rmtree(stack.paths.root)
    again = LedgerStack(stack.paths.home, stack.name, base_port=base)
    assert again.up().status.running
    assert all(has_ended(pid) for pid in before.values())
    assert lines(again) == [[], []]


def test_up_after_machine_restart_keeps_data(stack: LedgerStack, bystander: subprocess.Popen[bytes]) -> None:
    base = record_of(stack).base_port
    end_all_at_once(stack)
    # The pids belong to other processes now, and the temporary files are gone.
    values = json.loads(stack.paths.processes.read_text())
    values |= {"pid": bystander.pid, "reaper": os.getpid()}
    for entry in values["services"]:
        entry |= {"pid": bystander.pid, "started": entry["started"] - 60}
    stack.paths.processes.write_text(json.dumps(values))
    shutil.rmtree(stack.paths.run)
    status = stack.status()
    assert [service.state for service in status.services] == ["stopped", "stopped"]
    assert status.problem is not None
    assert "killed, or the machine restarted" in status.problem
    with begun(command("status", "--name", stack.name, home=stack.paths.home)) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "photo-worker up" in errors
    with pytest.raises(StackNotReady, match="machine restarted"):
        stack.wait(0)
    assert stack.up().status.services[0].port == base
    assert lines(stack) == KEPT


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99, "name": "x"}', '{"format": 1, "colour": "blue"}'])
def test_unreadable_record_is_named_and_data_kept(stack: LedgerStack, content: str) -> None:
    stack.down()
    good = stack.paths.record.read_text()
    stack.paths.record.write_text(content)
    for look in (stack.up, stack.status, stack.env):
        with pytest.raises(DataMismatch, match=r"stack\.json"):
            look()
    assert not stack.down(), "what may be there can be stopped all the same"
    assert processes_of(stack.paths.root) == []
    stack.paths.record.write_text(good)
    stack.up()
    assert lines(stack) == KEPT


def test_up_with_unheld_lock_files_starts(stack: LedgerStack) -> None:
    end_all_at_once(stack)
    for lock in (stack.paths.command_lock, stack.paths.supervisor_lock):
        lock.write_text("31337\n")
    began = time.monotonic()
    assert stack.up().status.running
    assert time.monotonic() - began < 20
    assert lines(stack) == KEPT


def test_up_deletes_remains_of_interrupted_deletion(stack: LedgerStack) -> None:
    stack.down()
    half = stack.paths.root / ".data.deleted" / "toy"
    half.mkdir(parents=True)
    (half / "lines").touch()
    stack.up()
    assert not half.parent.exists()
    assert lines(stack) == KEPT


@pytest.mark.parametrize("content", ["{pid}\n{data}\n1\n", "{pid}", "garbage\n", ""])
def test_forget_reused_pid_replaces_pid_of_other_process(
    tmp_path: Path, bystander: subprocess.Popen[bytes], content: str
) -> None:
    data = tmp_path / "postgres-18"
    data.mkdir()
    file = data / "postmaster.pid"
    file.write_text(content.format(pid=bystander.pid, data=data))
    postgres.forget_reused_pid(data)
    first, *rest = file.read_text().split("\n")
    if content.startswith("{pid}"):
        assert not psutil.pid_exists(int(first))
        assert rest == content.format(pid="", data=data).split("\n")[1:], "Postgres reads the others"
    else:
        assert file.read_text() == content


def test_forget_reused_pid_keeps_running_postgres(tmp_path: Path) -> None:
    data = tmp_path / "postgres-18"
    data.mkdir()
    server = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)", str(data)])
    try:
        content = f"{server.pid}\n{data}\n"
        (data / "postmaster.pid").write_text(content)
        wait_until(lambda: str(data) in psutil.Process(server.pid).cmdline(), "it runs")
        postgres.forget_reused_pid(data)
        assert (data / "postmaster.pid").read_text() == content
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("address", ["127.0.0.1", ""], ids=["loopback", "wildcard"])
@pytest.mark.parametrize("use", [use for service in default_services() for use in service.uses])
def test_up_with_taken_port_names_it_and_starts_nothing(tmp_path: Path, use: str, address: str) -> None:
    base = ports.free_base()
    stack = Stack(tmp_path, "dev", base_port=base)
    port = ports.StackPorts(base)[use]
    with socket.create_server((address, port)), pytest.raises(PortTaken) as refused:
        stack.up()
    service = next(service.name for service in default_services() if use in service.uses)
    assert f"Port {port}, which {service} needs, is taken by process {os.getpid()}" in refused.value.message
    assert processes_of(stack.paths.root) == []
    assert not Processes.load(stack.paths).alive
    assert record_of(stack).base_port == base
    assert list(stack.paths.data.iterdir()) == []


class Impostor(FakeService):
    """A service whose port another program takes after it was found free."""

    held: socket.socket | None = None

    def plan(self, record: StackRecord, paths: StackPaths) -> ServicePlan:
        type(self).held = socket.create_server(("127.0.0.1", record.ports["temporal"]))
        return super().plan(record, paths)


def test_up_when_port_is_taken_after_check_names_process(tmp_path: Path) -> None:
    stack = Stack(tmp_path, "dev", base_port=0, services=[Impostor()])
    try:
        with pytest.raises(PortTaken, match=f"is taken by process {os.getpid()} "):
            stack.up()
        # As after any failure, the other services stay for inspection.
        assert [service.state for service in stack.status().services] == ["exited"]
        with pytest.raises(ServiceFailed):
            stack.wait(5)
    finally:
        assert Impostor.held is not None
        Impostor.held.close()
        stack.down()
    assert processes_of(stack.paths.root) == []
    assert Stack(tmp_path, "dev", services=[FakeService()]).up().status.running
    stack.delete()


def test_up_with_full_disk_is_refused_until_space_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = LedgerStack(tmp_path, "dev", base_port=0)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "free_bytes", lambda _: disk.NEEDED_WITH_DATA - 1)
        with pytest.raises(DiskFull, match="23 MB are free, and a start needs 24"):
            stack.up()
        assert processes_of(stack.paths.root) == []
    assert stack.up().status.running
    put(stack, "kept")
    with monkeypatch.context() as patch:
        patch.setattr(disk, "free_bytes", lambda _: 0)
        assert not stack.up().started, "what runs needs no room"
        assert stack.down()
        with pytest.raises(DiskFull):
            stack.up()
    stack.up()
    assert lines(stack) == KEPT
    stack.delete()


class Speechless(Ledger):
    """A service whose log cannot be created, as on a full disk."""

    def plan(self, record: StackRecord, paths: StackPaths) -> ServicePlan:
        return replace(super().plan(record, paths), log=str(paths.logs / "missing" / "blue.log"))


def test_log_that_cannot_be_created_fails_only_its_service(tmp_path: Path) -> None:
    stack = Stack(tmp_path, "dev", base_port=0, services=[Speechless(name="blue"), RED])
    with pytest.raises(ServiceFailed, match="blue is not ready: its process ended with code 127"):
        stack.up()
    wait_until(lambda: [service.state for service in stack.status().services] == ["exited", "running"], "red goes on")
    assert any("cannot be written: No such file" in line for line in stack.tail("supervisor", 10))
    stack.delete()
    assert processes_of(tmp_path) == []


def test_up_with_directory_in_place_of_log_names_it(stack: LedgerStack) -> None:
    stack.down()
    for name in ("blue.log", "blue.log.1"):
        (stack.paths.logs / name).unlink(missing_ok=True)
        (stack.paths.logs / name / "x").mkdir(parents=True)
    with pytest.raises(DataUnwritable, match=r"blue\.log"):
        stack.up()
    shutil.rmtree(stack.paths.logs)
    stack.up()
    assert lines(stack) == KEPT
