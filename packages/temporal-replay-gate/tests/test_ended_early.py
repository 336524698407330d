"""Code of the project that ends the gate's own process: never exit code 0 without the gate's verdict."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gate_support.command import ROOT
from gate_support.histories import GOOD, copy
from temporal_replay_gate import Hooks, command_group
from temporal_replay_gate.scenarios import ScenarioSuite

# Each as the source text of a module; all but the last ends the process before the gate can be done.
EXIT = "import os\nos._exit(0)\n"
EXEC = "import os, sys\nos.execv(sys.executable, [sys.executable, '-c', ''])\n"
KILL = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
TERM = "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n"
THREAD = "import os, threading\nthreading.Thread(target=os._exit, args=(0,)).start()\n"
DAEMONISED = "import os\nif os.fork():\n    os._exit(0)\nos._exit(0)\n"
AT_EXIT = "import atexit, os\natexit.register(os._exit, 0)\n"
HOOKS = "from temporal_replay_gate import Hooks\nHOOKS = Hooks()\n"
WORKFLOWS = "gate_support.kitchen:Kitchen"

ENDS = {
    "exit": (EXIT, 1),
    "exec": (EXEC, 1),
    "kill": (KILL, -signal.SIGKILL),
    "term": (TERM, -signal.SIGTERM),
    "thread": (THREAD, 1),
    "daemonised": (DAEMONISED, 1),
}


# The real command line: what pip installs.
PROGRAM = str(Path(sys.executable).with_name("replay-gate"))


def replay_gate(directory: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *arguments],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def configure(directory: Path, module: str, setting: str) -> None:
    (directory / "own_code.py").write_text(module, encoding="utf-8")
    (directory / "pyproject.toml").write_text(f"[tool.replay-gate]\n{setting}\n", encoding="utf-8")


@pytest.mark.parametrize("setting", ['hooks = "own_code:HOOKS"', 'release = "own_code:HOOKS"'])
@pytest.mark.parametrize("name", ENDS)
def test_check_ended_by_hooks_on_import_is_no_success(tmp_path: Path, name: str, setting: str) -> None:
    module, code = ENDS[name]
    configure(tmp_path, module + HOOKS, setting)
    done = replay_gate(tmp_path, "check", str(GOOD), "--workflows", WORKFLOWS, "--no-static")
    assert (done.returncode, done.stdout) == (code, "")
    assert "error [replay_ended_early]" in done.stderr
    assert "hint: " in done.stderr


@pytest.mark.parametrize("name", ENDS)
def test_record_ended_by_scenarios_on_import_is_no_success(tmp_path: Path, name: str) -> None:
    module, code = ENDS[name]
    configure(tmp_path, module + "import time\ntime.sleep(20)\n", 'scenarios = "own_code:SUITE"')
    done = replay_gate(tmp_path, "record", "--list")
    assert (done.returncode, done.stdout) == (code, "")
    assert "error [replay_ended_early]" in done.stderr


@pytest.mark.parametrize("name", ["exit", "exec", "kill", "thread"])
def test_check_of_workflows_that_end_their_process_is_red(tmp_path: Path, name: str) -> None:
    (tmp_path / "own_code.py").write_text(ENDS[name][0] + "import time\ntime.sleep(20)\n", encoding="utf-8")
    done = replay_gate(tmp_path, "check", str(GOOD), "--workflows", "own_code:X", "--format", "json")
    (finding,) = json.loads(done.stdout)["data"]["findings"]
    assert (done.returncode, finding["code"]) == (1, "replay_target_broken")


@pytest.mark.parametrize("dish", ["leek", "other"], ids=["green", "red"])
def test_check_with_exit_handler_has_exit_code_of_its_verdict(tmp_path: Path, dish: str) -> None:
    configure(tmp_path, AT_EXIT + HOOKS, 'hooks = "own_code:HOOKS"')
    history = copy(tmp_path, "run", dish=dish)
    if dish == "other":
        history.write_text(history.read_text(encoding="utf-8")[:1000], encoding="utf-8")
    done = replay_gate(tmp_path, "check", str(history), "--workflows", WORKFLOWS, "--no-static", "--format", "json")
    green = not json.loads(done.stdout)["data"]["findings"]
    assert (done.returncode, green) == ((0, True) if dish == "leek" else (1, False))


def test_unusable_setting_with_exit_handler_exits_2(tmp_path: Path) -> None:
    configure(tmp_path, AT_EXIT, 'hooks = "own_code:HOOKS"')
    done = replay_gate(tmp_path, "list")
    assert done.returncode == 2
    assert "replay_config_invalid" in done.stderr


def test_help_and_completion_with_own_hooks_exit_0(tmp_path: Path) -> None:
    configure(tmp_path, HOOKS, 'hooks = "own_code:HOOKS"')
    for arguments in (["--help"], ["check", "--help"], ["--version"]):
        done = replay_gate(tmp_path, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
    words = {"COMP_WORDS": "replay-gate check --no-s", "COMP_CWORD": "2", "_REPLAY_GATE_COMPLETE": "bash_complete"}
    done = replay_gate(tmp_path, **words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "plain,--no-static\n", "")


def exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_killed_supervisor_ends_forked_process(tmp_path: Path) -> None:
    configure(
        tmp_path,
        "import os, pathlib, time\npathlib.Path('started').write_text(str(os.getpid()))\ntime.sleep(600)\n",
        'hooks = "own_code:HOOKS"',
    )
    process = subprocess.Popen([PROGRAM, "list"], cwd=tmp_path, stdout=subprocess.PIPE)
    started, ends = tmp_path / "started", time.monotonic() + 120
    while not (started.exists() and started.read_text()) and time.monotonic() < ends:
        time.sleep(0.05)
    process.kill()
    # The forked process has the same pipe, which is at its end when both are gone.
    output, _ = process.communicate(timeout=60)
    assert (output, process.returncode) == (b"", -signal.SIGKILL)
    ends = time.monotonic() + 60
    while exists(int(started.read_text())) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not exists(int(started.read_text()))


@pytest.mark.parametrize("raised", [SystemExit, SystemExit(0), click.exceptions.Exit(0)], ids=["none", "0", "click"])
def test_function_of_hooks_that_exits_is_no_success(raised: BaseException) -> None:
    def scenarios(options: object) -> ScenarioSuite:
        raise raised

    outcome = CliRunner().invoke(command_group(Hooks(scenarios=scenarios)), ["record", "--list"])
    assert outcome.exit_code == 1
    assert "error [replay_ended_early]" in outcome.stderr
