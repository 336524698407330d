"""``replay check`` of code that forks: it ends, and at a signal it ends all processes that were started."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from gate_support.histories import GOOD

ROOT = Path(__file__).resolve().parents[2]

# A multiprocessing manager in the module, as worker code creates one for activities in processes.
MANAGER = """
import multiprocessing, os
MANAGER = multiprocessing.Manager()
with open({told!r}, "a") as told:
    told.write(f"{{os.getpid()}} {{MANAGER._process.pid}}\\n")
"""

KITCHEN = """
from temporalio import workflow
with workflow.unsafe.imports_passed_through():
    import manager_code
    from gate_support.kitchen import Kitchen
"""

# Blocks with the GIL held, beside a forked process that keeps all pipes open and ignores SIGTERM.
HANGING_RUN = """
import ctypes, os, signal, time
from temporalio import workflow
with workflow.unsafe.imports_passed_through():
    import manager_code
    from gate_support.kitchen import Order
@workflow.defn(name="planted_kitchen")
class Kitchen:
    @workflow.run
    async def run(self, order: Order) -> str:
        with workflow.unsafe.sandbox_unrestricted():
            forked = os.fork()
            if forked == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                while True:
                    time.sleep(1)
            with open({told!r}, "a") as told:
                told.write(f"{{os.getpid()}} {{forked}} hangs\\n")
            ctypes.PyDLL(None).sleep(600)
        return ""
"""

HANGING_IMPORT = """
import manager_code, os, time
with open({told!r}, "a") as told:
    told.write(f"{{os.getpid()}} hangs\\n")
time.sleep(600)
"""


class Told:
    """The process ids that the code under test writes to a file, and the started commands."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.commands: list[subprocess.Popen[str]] = []

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8") if self.path.exists() else ""

    def living(self) -> list[int]:
        return [number for number in map(int, filter(str.isdigit, self.text.split())) if lives(number)]


def lives(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(true: Callable[[], bool], seconds: float = 100.0) -> bool:
    ends = time.monotonic() + seconds
    while not true() and time.monotonic() < ends:
        time.sleep(0.05)
    return true()


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    found = Told(tmp_path / "told.txt")
    (tmp_path / "manager_code.py").write_text(MANAGER.format(told=str(found.path)), encoding="utf-8")
    yield found
    for process in found.commands:
        if process.poll() is None:
            process.kill()
    for number in found.living():
        os.kill(number, signal.SIGKILL)
    for process in found.commands:
        process.communicate(timeout=60)


def command(directory: Path, text: str, told: Told, *options: str) -> subprocess.Popen[str]:
    (directory / "code_under_test.py").write_text(text.replace("{told!r}", repr(str(told.path))), encoding="utf-8")
    arguments = ["check", str(GOOD), "--workflows", "code_under_test:Kitchen", "--no-static", *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "photo_worker.cli", "replay", *arguments],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    told.commands.append(process)
    return process


def reports(directory: Path) -> Sequence[str]:
    return ("--format", f"json={directory / 'report.json'}", "--format", f"junit={directory / 'report.xml'}")


def findings(directory: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((directory / "report.json").read_text(encoding="utf-8"))["data"][
        "findings"
    ]
    return found


def test_check_of_code_with_manager_ends_it(tmp_path: Path, told: Told) -> None:
    process = command(tmp_path, KITCHEN, told)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, output + errors
    assert "green: 1 of 1" in output
    assert told.text
    assert until(lambda: not told.living(), 10)


def test_check_of_code_refused_by_sandbox_is_broken_target(tmp_path: Path, told: Told) -> None:
    """The sandbox imports the workflow's module again, and a manager cannot start there."""
    manager = "import multiprocessing\nMANAGER = multiprocessing.Manager()\n"
    process = command(
        tmp_path,
        manager
        + (GOOD.with_name("kitchen.py").read_text(encoding="utf-8")).replace(
            "from __future__ import annotations\n", ""
        ),
        told,
        *reports(tmp_path),
        "--limit-seconds",
        "600",
    )
    process.communicate(timeout=120)
    assert process.returncode == 1
    (finding,) = findings(tmp_path)
    assert finding["code"] == "replay_target_broken"
    assert "planted_kitchen cannot be made in the workflow sandbox" in finding["what"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("text", [HANGING_RUN, HANGING_IMPORT], ids=["replay", "import"])
def test_check_on_signal_ends_forks_and_writes_reports(
    tmp_path: Path, told: Told, text: str, number: signal.Signals
) -> None:
    process = command(tmp_path, text, told, *reports(tmp_path), "--limit-seconds", "600")
    assert until(lambda: "hangs" in told.text)
    assert len(told.living()) >= 2
    began = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert process.returncode == 128 + number
    assert f"ended by {number.name}" in errors
    assert until(lambda: not told.living(), 10)
    (finding,) = findings(tmp_path)
    assert finding["code"] == "run_interrupted"
    assert number.name in finding["what"]
    assert re.findall('<failure type="(.*?)"', (tmp_path / "report.xml").read_text()) == ["run_interrupted"]
    if text is HANGING_RUN:
        assert str(GOOD) in finding["what"]


def test_check_killed_during_hanging_import_leaves_no_process(tmp_path: Path, told: Told) -> None:
    process = command(tmp_path, HANGING_IMPORT, told)
    assert until(lambda: "hangs" in told.text)
    process.kill()
    process.communicate(timeout=60)
    assert until(lambda: not told.living(), 30)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--limit-seconds", "nan"), "number of seconds"),
        (("--run-limit-seconds", "inf"), "number of seconds"),
        (("--run-limit-seconds", "0"), "number of seconds"),
        (("--format", "junit="), "names no file"),
        (("--format", "junit=."), "is a folder"),
        (("--format", "junit=one", "--format", "json=one"), "file of its own"),
        (("--workflows", "nowhere:X"), "replay_target_invalid"),
        (("--converter", "json:loads"), "replay_target_invalid"),
        (("--allow", "nowhere.toml"), "replay_allow_list_invalid"),
        (("--from-server", "--workflow", "any", "--task-queue", "any"), "--workflow leaves out"),
    ],
)
def test_check_wrong_option_exits_2(tmp_path: Path, told: Told, options: tuple[str, ...], says: str) -> None:
    arguments = [sys.executable, "-m", "photo_worker.cli", "replay", "check", *options]
    if "--from-server" not in options:
        arguments.append(str(GOOD))
    done = subprocess.run(
        arguments,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, says in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr
