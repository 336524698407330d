"""``photo-worker replay`` of code that ends the program's process: never exit code 0 without a verdict."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gate_support.histories import GOOD

ROOT = Path(__file__).resolve().parents[2]

# Each as the source text of a module.
EXIT = "import os\nos._exit(0)\n"
EXEC = "import os, sys\nos.execv(sys.executable, [sys.executable, '-c', ''])\n"
THREAD = "import os, threading, time\nthreading.Thread(target=os._exit, args=(0,)).start()\ntime.sleep(20)\n"
AT_EXIT = "import atexit, os\natexit.register(os._exit, 0)\n"
ENDS = pytest.mark.parametrize("module", [EXIT, EXEC, THREAD], ids=["exit", "exec", "thread"])


def replay(directory: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (directory / "own_code.py").write_text(module, encoding="utf-8")
    return subprocess.run(
        [Path(sys.executable).with_name("photo-worker"), "replay", *arguments],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@ENDS
@pytest.mark.parametrize("option", ["--workflows", "--converter"])
def test_check_of_code_that_ends_its_process_is_red(tmp_path: Path, module: str, option: str) -> None:
    done = replay(tmp_path, module, "check", str(GOOD), option, "own_code:X", "--format", "json")
    (finding,) = json.loads(done.stdout)["data"]["findings"]
    assert (done.returncode, finding["code"]) == (1, "replay_target_broken")


@ENDS
def test_record_ended_by_scenarios_on_import_is_no_success(tmp_path: Path, module: str) -> None:
    done = replay(tmp_path, module, "record", "--list", "--scenarios", "own_code:X")
    assert (done.returncode, done.stdout) == (1, "")
    assert "error [replay_ended_early]" in done.stderr


def test_refused_scenarios_with_exit_handler_exit_2(tmp_path: Path) -> None:
    done = replay(tmp_path, AT_EXIT, "record", "--list", "--scenarios", "own_code:X")
    assert done.returncode == 2
    assert "scenarios_unusable" in done.stderr
