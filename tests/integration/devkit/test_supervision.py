"""No process outlives its stack, whichever process is killed at whichever moment."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

import psutil
import pytest

from photo_worker.devkit.errors import PortTaken, ServiceFailed, StackMoved, StackNotReady
from photo_worker.devkit.layout import exclusive
from photo_worker.devkit.ports import free_base
from photo_worker.devkit.readiness import NotReady
from photo_worker.devkit.stack import Stack
from photo_worker.devkit.state import Processes, StackRecord
from photo_worker.devkit.status import StackStatus, UpReport
from tests.integration.devkit.fake_services import FakeService, has_ended, nothing_left, processes_of, wait_until

__all__ = ["nothing_left"]
pytestmark = pytest.mark.usefixtures("nothing_left")

SECOND = FakeService(name="second", uses=("postgres",))


@pytest.fixture
def name() -> str:
    return f"t-{secrets.token_hex(4)}"


def toy_stack(home: Path, name: str, *toys: FakeService, timeout: float = 30.0) -> Stack:
    return Stack(home, name, base_port=0, services=toys or (FakeService(),), timeout=timeout)


def start_up(home: Path, name: str, mode: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.devkit.fake_services", str(home), name, mode],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )


def supervised(stack: Stack) -> Processes:
    return Processes.load(stack.paths)


def service_pid(stack: Stack, service: str = "toy") -> int:
    pid = supervised(stack).services[service].pid
    assert pid is not None
    return pid


def supervisor_pid(stack: Stack) -> int:
    pid = supervised(stack).pid
    assert pid is not None
    return pid


def test_up_after_down_reuses_port_and_rotates_log(tmp_path: Path, name: str) -> None:
    stack = toy_stack(tmp_path, name)
    first = stack.up()
    assert first.started
    assert first.status.running
    base = first.status.services[0].port
    again = toy_stack(tmp_path, name).up()
    assert not again.started
    assert again.status.services[0].pid == first.status.services[0].pid
    assert stack.down()
    assert processes_of(stack.paths.root) == []
    assert not stack.down()
    assert [service.state for service in stack.status().services] == ["stopped"]
    assert stack.up().status.services[0].port == base
    assert stack.tail("toy", 10) == ["toy starts serves"], "a log tells of one run"
    assert stack.paths.log("toy").with_suffix(".log.1").read_text() == "toy starts serves\n"
    stack.down()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_up_signalled_before_ready_leaves_no_process(tmp_path: Path, name: str, number: signal.Signals) -> None:
    stack = toy_stack(tmp_path, name)
    up = start_up(tmp_path, name, "never")
    wait_until(lambda: "toy" in supervised(stack).services, "the toy was started")
    pid = service_pid(stack)
    up.send_signal(number)
    code = up.wait(timeout=30)
    if up.stdout:
        up.stdout.close()
    assert code == (130 if number == signal.SIGINT else -number)
    wait_until(lambda: has_ended(pid) and processes_of(stack.paths.root) == [], "all processes ended")
    assert not supervised(stack).alive


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.2, 0.3])
def test_up_killed_at_any_moment_leaves_no_process(tmp_path: Path, name: str, delay: float) -> None:
    stack = toy_stack(tmp_path, name)
    up = start_up(tmp_path, name, "never")
    wait_until(stack.paths.root.exists, "the stack's directory is there")
    with pytest.raises(subprocess.TimeoutExpired):
        up.wait(timeout=delay)
    up.kill()
    up.wait(timeout=30)
    if up.stdout:
        up.stdout.close()
    wait_until(lambda: processes_of(stack.paths.root) == [], "all processes ended")
    # The files left on disk do not prevent another start.
    assert stack.up().started
    stack.down()


def test_supervisor_killed_ends_services(tmp_path: Path, name: str) -> None:
    stack = toy_stack(tmp_path, name, FakeService(mode="parent"), SECOND)
    stack.up()
    assert len(processes_of(stack.paths.root)) == 5, "supervisor, reaper, two toys and the child of one"
    os.kill(supervisor_pid(stack), signal.SIGKILL)
    wait_until(lambda: processes_of(stack.paths.root) == [], "the services ended")
    assert {service.state for service in stack.status().services} == {"stopped"}
    assert stack.up().started
    stack.down()


def test_reaper_killed_is_replaced_and_knows_services(tmp_path: Path, name: str) -> None:
    stack = toy_stack(tmp_path, name)
    stack.up()
    first = supervised(stack).reaper
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: supervised(stack).reaper not in {first, None}, "there is a new reaper")
    os.kill(supervisor_pid(stack), signal.SIGKILL)
    wait_until(lambda: processes_of(stack.paths.root) == [], "the services ended")


def test_supervisor_event_without_change_writes_nothing(tmp_path: Path, name: str) -> None:
    """A service that is stopped by a signal is an event, too; commands that only look must find the same file."""
    stack = toy_stack(tmp_path, name)
    stack.up()
    supervisor = psutil.Process(supervised(stack).pid)
    before = stack.paths.processes.stat()
    waits = supervisor.num_ctx_switches().voluntary
    supervisor.send_signal(signal.SIGCHLD)
    # It waits for events again when it has dealt with this one.
    wait_until(lambda: supervisor.num_ctx_switches().voluntary > waits, "the event is dealt with")
    assert stack.paths.processes.stat().st_ino == before.st_ino
    os.kill(service_pid(stack), signal.SIGKILL)
    wait_until(lambda: stack.paths.processes.stat().st_ino != before.st_ino, "the exit is recorded")
    stack.down()


def test_down_ends_services_left_by_killed_supervisor(tmp_path: Path, name: str) -> None:
    stack = toy_stack(tmp_path, name, FakeService(mode="parent"))
    stack.up()
    pid, reaper = service_pid(stack), supervised(stack).reaper
    assert reaper is not None
    # Both are stopped first, so that neither can react to the other's end.
    for victim in (supervisor_pid(stack), reaper):
        os.kill(victim, signal.SIGSTOP)
    for victim in (reaper, supervisor_pid(stack)):
        os.kill(victim, signal.SIGKILL)
    wait_until(lambda: not supervised(stack).alive, "the supervisor is gone")
    assert not has_ended(pid)
    assert stack.down()
    assert has_ended(pid)
    assert processes_of(stack.paths.root) == []


def test_down_ignores_process_with_reused_pid(tmp_path: Path, name: str) -> None:
    stack = toy_stack(tmp_path, name)
    stack.up()
    stack.down()
    bystander = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"])
    try:
        # As after a restart of the machine: other processes have the recorded pids.
        values = json.loads(stack.paths.processes.read_text())
        known = values["services"][0]
        values |= {"pid": bystander.pid, "phase": "kept", "reaper": bystander.pid}
        values["services"] = [{**known, "pid": bystander.pid, "started": known["started"] - 60, "exit_code": None}]
        stack.paths.processes.write_text(json.dumps(values))
        assert [service.state for service in stack.status().services] == ["stopped"]
        assert not stack.down()
        assert stack.up().started
        stack.down()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_down_kills_service_that_ignores_sigterm(tmp_path: Path, name: str) -> None:
    stack = toy_stack(tmp_path, name, FakeService(mode="deaf"))
    stack.up()
    assert stack.down()
    assert supervised(stack).services["toy"].exit_code == -signal.SIGKILL
    assert processes_of(stack.paths.root) == []


def test_service_killed_ends_its_children(tmp_path: Path, name: str) -> None:
    stack = toy_stack(tmp_path, name, FakeService(mode="parent"), SECOND)
    stack.up()
    (child,) = psutil.Process(service_pid(stack)).children()
    os.kill(service_pid(stack), signal.SIGKILL)
    wait_until(lambda: has_ended(child.pid), "the child of the killed service has ended")
    assert stack.status().services[1].state == "running"
    stack.down()


def test_up_failed_service_shows_its_log_and_keeps_others(tmp_path: Path, name: str) -> None:
    stack = toy_stack(tmp_path, name, SECOND, FakeService(mode="fails"))
    with pytest.raises(ServiceFailed) as failure:
        stack.up()
    assert "toy is not ready: its process ended with code 3" in failure.value.message
    assert "toy | the disk of the toy is on fire" in failure.value.message
    second, toy = stack.status().services
    assert (toy.name, toy.state, toy.exit_code) == ("toy", "exited", 3)
    # `up` did not wait for it after the failure: it may still be starting.
    assert (second.name, second.exit_code) == ("second", None)
    wait_until(lambda: stack.status().services[0].state == "running", "the other one serves")
    assert stack.env()["TEMPORAL_NAMESPACE"] == f"photo-worker-{name}"
    stack.down()


def test_up_missing_program_is_named(tmp_path: Path, name: str) -> None:
    stack = toy_stack(tmp_path, name, SECOND, FakeService(mode="missing"))
    with pytest.raises(ServiceFailed, match=r"/nowhere/toy.*No such file"):
        stack.up()
    os.kill(supervisor_pid(stack), signal.SIGKILL)
    wait_until(lambda: processes_of(stack.paths.root) == [], "the other service ended")


def test_up_service_never_ready_times_out_with_reason(tmp_path: Path, name: str) -> None:
    stack = toy_stack(tmp_path, name, FakeService(mode="never"), timeout=0.5)
    with pytest.raises(ServiceFailed, match=r"the toy does not want to after 0\.5 seconds"):
        stack.up()
    stack.down()


def test_up_replaces_stack_with_exited_service(tmp_path: Path, name: str) -> None:
    stack = toy_stack(tmp_path, name, FakeService(), SECOND)
    stack.up()
    os.kill(service_pid(stack, "second"), signal.SIGKILL)
    wait_until(lambda: stack.status().services[1].state == "exited", "the death is noticed")
    assert not stack.status().running
    report = stack.up()
    assert report.started
    assert report.status.running
    stack.down()


def test_up_replaces_stack_before_exit_is_recorded(tmp_path: Path, name: str) -> None:
    stack = toy_stack(tmp_path, name, FakeService(), SECOND)
    stack.up()
    # The supervisor is stopped, so that it cannot record the exit before `up` reads the list.
    os.kill(supervisor_pid(stack), signal.SIGSTOP)
    second = psutil.Process(service_pid(stack, "second"))
    second.kill()
    # On a busy machine, a killed process stays alive for a moment.
    wait_until(lambda: second.status() == psutil.STATUS_ZOMBIE, "the service is dead")
    release = threading.Timer(0.5, os.kill, (supervisor_pid(stack), signal.SIGCONT))
    release.start()
    assert stack.up().started
    release.join()
    stack.down()


def test_up_replaces_stack_with_hanging_service(tmp_path: Path, name: str) -> None:
    """The service runs and accepts connections but does not work: only a restart helps."""
    hanging: list[int | None] = []

    class Hanging(FakeService):
        def probe_ready(self, record: StackRecord) -> None:
            if Processes.load(stack.paths).services[self.name].pid in hanging:
                raise NotReady("the toy hangs")

    stack = Stack(tmp_path, name, base_port=0, services=[Hanging()], timeout=5)
    try:
        stack.up()
        hanging.append(Processes.load(stack.paths).services["toy"].pid)
        report = stack.up()
        assert report.started
        assert report.status.running
        assert Processes.load(stack.paths).services["toy"].pid not in hanging
    finally:
        stack.delete()


def test_up_concurrent_calls_start_stack_once(tmp_path: Path, name: str) -> None:
    reports: list[UpReport] = []
    threads = [threading.Thread(target=lambda: reports.append(toy_stack(tmp_path, name).up())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(report.started for report in reports) == [False, False, True]
    assert len({report.status.services[0].pid for report in reports}) == 1
    toy_stack(tmp_path, name).down()


def test_up_taken_port_names_owner_and_starts_nothing(tmp_path: Path, name: str) -> None:
    base = free_base()
    with socket.create_server(("127.0.0.1", base)):
        stack = Stack(tmp_path, name, base_port=base, services=[FakeService()])
        with pytest.raises(PortTaken) as failure:
            stack.up()
        assert f"Port {base}, which toy needs, is taken by process {os.getpid()}" in failure.value.message
    assert processes_of(stack.paths.root) == []
    assert stack.up().status.services[0].port == base
    with pytest.raises(StackMoved):
        Stack(tmp_path, name, base_port=base + 10, services=[FakeService()]).up()
    stack.down()


def test_reset_starts_empty_on_the_same_ports(tmp_path: Path, name: str) -> None:
    stack = toy_stack(tmp_path, name)
    before = stack.up()
    password = stack.env()["DATABASE_URL"]
    (stack.paths.data / "kept").write_text("x")
    after = stack.reset()
    assert after.status.running
    assert after.status.services[0].port == before.status.services[0].port
    assert after.status.services[0].pid != before.status.services[0].pid, "this toy does not let itself be emptied"
    assert stack.env()["DATABASE_URL"] == password, "what a shell has of it stays true"
    assert not (stack.paths.data / "kept").exists()
    stack.delete()
    assert not stack.paths.root.exists()


def test_reset_wipes_running_services_and_restarts_the_rest(tmp_path: Path, name: str) -> None:
    elephant = FakeService(name="elephant", mode="empties", uses=("postgres",), discards=True)
    stack = toy_stack(tmp_path, name, FakeService(mode="empties"), elephant)
    stack.up()
    before, supervisor = {name: service_pid(stack, name) for name in ("toy", "elephant")}, supervisor_pid(stack)
    memory, kept = stack.paths.data / "elephant" / "memory", stack.paths.data / "kept"
    memory.write_text("x")
    # Deleting it takes longer than the new process needs for its first line.
    kept.mkdir()
    for number in range(5000):
        (kept / str(number)).touch()
    stack.paths.log("worker").write_text("an old line\n")
    assert stack.reset().status.running
    assert supervisor_pid(stack) == supervisor
    assert service_pid(stack) == before["toy"]
    assert has_ended(before["elephant"])
    assert service_pid(stack, "elephant") != before["elephant"]
    assert not memory.exists()
    assert not kept.exists()
    first_line = ["toy starts empties"]
    wait_until(lambda: stack.tail("elephant", 10) == first_line, "its log is that of the new process alone")
    assert stack.tail("toy", 10) == []
    assert not stack.paths.log("worker").exists()
    # The reaper knows the processes that run now.
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: processes_of(stack.paths.root) == [], "the services ended")
    assert stack.reset().status.running, "a stack that does not run is started empty"
    stack.delete()


def test_reset_with_symlinked_data_restarts_whole_stack(tmp_path: Path, name: str) -> None:
    elephant = FakeService(mode="empties", discards=True)
    stack = toy_stack(tmp_path, name, elephant)
    stack.up()
    data = stack.paths.data / "toy"
    data.rmdir()
    data.symlink_to(tmp_path)
    (tmp_path / "not the stack's").touch()
    before = supervisor_pid(stack)
    report = stack.reset()
    assert report.status.running
    assert supervisor_pid(stack) != before
    assert any("not emptied" in span.step for span in report.timeline.spans()), "it says why it took longer"
    assert (tmp_path / "not the stack's").exists(), "what a link points at is not the stack's"
    assert data.is_dir()
    assert not data.is_symlink()
    stack.delete()


def test_follow_yields_new_log_lines_only(tmp_path: Path, name: str) -> None:
    stack = toy_stack(tmp_path, name)
    stack.up()
    assert stack.tail("toy", 10) == ["toy starts serves"]
    with stack.paths.log("toy").open("a") as log:
        news = stack.follow(["toy"], lambda: False)
        log.write("one\x1b[31m line\nhalf a ")
        log.flush()
        assert next(news) == ("toy", "one\ufffd[31m line")
        log.write("line\n")
        log.flush()
        assert next(news) == ("toy", "half a line")
    stack.down()


def test_wait_returns_when_stack_started_elsewhere_is_ready(tmp_path: Path, name: str) -> None:
    stack = toy_stack(tmp_path, name)
    waiting = start_waiting(stack)
    with pytest.raises(TimeoutError):
        waiting.result(timeout=0.3)
    stack.up()
    assert waiting.result(timeout=30).running
    with exclusive(stack.paths.command_lock, timeout=5, doing="reset"), pytest.raises(StackNotReady) as busy:
        # Services may respond while a reset is still going on.
        stack.wait(0.2)
    assert "still at work" in busy.value.message
    os.kill(service_pid(stack), signal.SIGKILL)
    wait_until(lambda: not stack.status().running, "the death shows")
    with pytest.raises(ServiceFailed, match="toy"):
        stack.wait(30)
    stack.delete()


def test_wait_times_out_if_stack_is_never_started(tmp_path: Path, name: str) -> None:
    with pytest.raises(StackNotReady) as failure:
        toy_stack(tmp_path, name).wait(0.2)
    assert "nothing has started it" in failure.value.message
    assert list(tmp_path.iterdir()) == [], "waiting makes nothing"


def start_waiting(stack: Stack) -> Future[StackStatus]:
    """Call ``wait`` in a thread, and return a future of its result."""
    future: Future[StackStatus] = Future()

    def wait() -> None:
        try:
            future.set_result(stack.wait(30))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=wait, daemon=True).start()
    return future
