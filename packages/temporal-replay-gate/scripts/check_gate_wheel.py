"""Tests the installed wheel without the checkout's modules: `python -I check_gate_wheel.py WHEEL`."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
TOOL = 'workflows = "greetings:WORKFLOWS"\nscenarios = "greetings:SUITE"\nhistories = "histories"\n'


def replay_gate(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("replay-gate")
    return subprocess.run([program, *arguments], cwd=directory, capture_output=True, text=True, check=False)


def problems(wheel: Path) -> list[str]:
    found = [name for name in ("photo_worker", "textract_local", "boto3", "psycopg") if importlib.util.find_spec(name)]
    wrong = [f"{name} is installed, so that independence is not tested" for name in found]
    names = zipfile.ZipFile(wheel).namelist()
    wrong += [f"{name} does not belong into the wheel" for name in names if not name.startswith("temporal_replay_gate")]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        shutil.copytree(TESTS / "histories", directory / "histories")
        code = (TESTS / "greetings.py").read_text(encoding="utf-8")
        (directory / "greetings.py").write_text(code, encoding="utf-8")
        (directory / "pyproject.toml").write_text(f"[tool.replay-gate]\n{TOOL}", encoding="utf-8")
        for arguments in (["check"], ["list"], ["record", "--list"]):
            ran = replay_gate(directory, *arguments)
            if ran.returncode != 0:
                wrong.append(f"{' '.join(arguments)} exits with {ran.returncode}: {ran.stdout}{ran.stderr}")
        changed = code.replace(
            "start_to_close_timeout=timedelta(seconds=10)", "start_to_close_timeout=timedelta(seconds=11)"
        )
        (directory / "greetings.py").write_text(changed, encoding="utf-8")
        ran = replay_gate(directory, "check")
        if ran.returncode != 1 or "drift_start_to_close_timeout" not in ran.stdout:
            wrong.append(f"a changed timeout is not found: {ran.stdout}{ran.stderr}")
    return wrong


def main() -> None:
    wrong = problems(Path(sys.argv[1]))
    for each in wrong:
        print(each, file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
