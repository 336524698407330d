"""Code that changes its own process, and code that can be imported in one process and not in the next."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gate_support.command import ROOT, head
from gate_support.histories import GOOD, codes, copy, loose
from temporal_replay_gate.errors import ReplayTargetBroken
from temporal_replay_gate.gate import check
from temporal_replay_gate.replay_pool import CodeUnderTest, ReplayPool

_END = "\nfrom gate_support.kitchen import Kitchen\n"

HARMLESS = {
    "another folder": "import os\nos.chdir('/')",
    "json with line breaks": "import functools, json\njson.dumps = functools.partial(json.dumps, indent=2)",
    "a fork that goes on beside it": "import os\nos.fork()",
    "streams and signals": (
        "import io, logging, os, signal, sys, warnings\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "sys.stdout = sys.stderr = io.StringIO()\n"
        "for each in (1, 2):\n    os.write(each, b'{\"types\": {}}\\n')\n"
        "os.close(0)\nwarnings.simplefilter('error')\nlogging.disable()\nos.environ.clear()"
    ),
}


def gate(directory: Path, history: str, workflows: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run ``replay check`` on a history, in a directory."""
    command = [sys.executable, "-m", "temporal_replay_gate.main", "check", history, "--no-static"]
    return subprocess.run(
        [*command, "--workflows", workflows, *options],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize("name", HARMLESS)
def test_check_of_code_that_changes_its_process_is_green(tmp_path: Path, name: str) -> None:
    (tmp_path / "hostile_code.py").write_text(HARMLESS[name] + _END, encoding="utf-8")
    copy(tmp_path, "run")
    done = gate(tmp_path, "run.json", "hostile_code:Kitchen", "--format", "json", "--limit-seconds", "60")
    assert done.stdout, done.stderr
    data = json.loads(done.stdout)["data"]
    assert (done.returncode, data["findings"]) == (0, [])
    assert data["controls"] == {"planted_kitchen": {"command": True, "drift": True}}


def responding(directory: Path, *lines: bytes) -> CodeUnderTest:
    """Return code that writes ``lines`` to every open file descriptor, in place of the child's responses."""
    text = (
        "import os\nfrom pathlib import Path\n"
        "for each in range(3, 64):\n"
        f"    try:\n        os.write(each, {b''.join(line + chr(10).encode() for line in lines)!r})\n"
        "    except OSError:\n        pass\n"
    )
    (directory / "writing_code.py").write_text(text + _END, encoding="utf-8")
    return CodeUnderTest("writing_code:Kitchen", path=(str(directory),))


NO_RESPONSES = [b"no answer", b"{}", b"[]", b'{"types": 1}', b'{"types": {"planted_kitchen": null}}']
TYPES = b'{"types": {"planted_kitchen": {}}}'
NO_OUTCOMES = [b"{}", b'{"findings": [{"code": "x"}]}', b'{"findings": []}', b'{"findings": [], "commands": []}']


@pytest.mark.parametrize("response", NO_RESPONSES)
def test_malformed_response_to_import_is_broken_target(tmp_path: Path, response: bytes) -> None:
    with pytest.raises(ReplayTargetBroken, match="answered with what is none"):
        check(loose(GOOD, code=responding(tmp_path, response)))


@pytest.mark.parametrize("response", NO_OUTCOMES)
def test_malformed_response_to_replay_is_crash(tmp_path: Path, response: bytes) -> None:
    report = check(replace(loose(GOOD, code=responding(tmp_path, TYPES, response)), static=False))
    assert codes(report) == {"replay_crash"}
    assert "answered with what is none" in report.findings[0].what


@pytest.mark.parametrize("response", NO_OUTCOMES[:2])
def test_malformed_response_to_static_check_is_broken_target(tmp_path: Path, response: bytes) -> None:
    with ReplayPool(responding(tmp_path, TYPES, response)) as engine:
        engine.types()
        with pytest.raises(ReplayTargetBroken, match="answered with what is none"):
            engine.read_code()


class TestOtherOrder:
    """Faults that occur only under the other order of sets."""

    def test_other_seed_import_error_is_reported_beside_results(self, tmp_path: Path) -> None:
        text = "import os\nif os.environ['PYTHONHASHSEED'] == '1':\n    raise RuntimeError('not in this order')\n"
        (tmp_path / "seed_code.py").write_text(text + _END, encoding="utf-8")
        report = check(
            replace(loose(GOOD, code=CodeUnderTest("seed_code:Kitchen", path=(str(tmp_path),))), static=False)
        )
        assert codes(report) == {"replay_target_broken"}
        assert "not in this order" in report.findings[0].what
        assert [entry.state for entry in report.checked] == ["ok"]
        assert report.controls == {"planted_kitchen": {"command": True, "drift": True}}

    def test_other_seed_task_failure_is_order_finding(self, tmp_path: Path) -> None:
        names = {"leek", "plum", "fig", "pea"}
        firsts = [self.first(names, seed) for seed in ("0", "1")]
        assert firsts[0] != firsts[1]
        text = (
            "from temporalio import workflow\n\n@workflow.defn(name='waits')\nclass Waits:\n"
            "    @workflow.run\n    async def run(self) -> None:\n"
            f"        if next(iter({{'leek', 'plum', 'fig', 'pea'}})) == {firsts[1]!r}:\n"
            "            raise ValueError('order')\n"
            "        await workflow.wait_condition(lambda: False)\n"
        )
        (tmp_path / "picks_code.py").write_text(text, encoding="utf-8")
        code = CodeUnderTest("picks_code:Waits", path=(str(tmp_path),))
        report = check(replace(loose(head(tmp_path / "run.json", "waits"), code=code), static=False))
        assert codes(report) == {"order"}
        assert "workflow_task_failed" in report.findings[0].what

    def first(self, names: set[str], seed: str) -> str:
        told = subprocess.run(
            [sys.executable, "-c", "print(next(iter({'leek', 'plum', 'fig', 'pea'})))"],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        assert told in names
        return told


def test_replacement_process_failing_to_start_is_crash(tmp_path: Path) -> None:
    """The first history ends its child; the code lets no second child start for the other history."""
    text = (
        "import os\nfrom pathlib import Path\nfrom temporalio.converter import DataConverter, PayloadCodec\n"
        "HERE = Path(__file__).parent / f'up-{os.environ[\"PYTHONHASHSEED\"]}'\n"
        "if HERE.exists():\n    raise RuntimeError('the port is taken')\n"
        "HERE.touch()\n"
        "class Codec(PayloadCodec):\n"
        "    async def encode(self, payloads):\n        return list(payloads)\n"
        "    async def decode(self, payloads):\n"
        "        if any(b'crash' in payload.data for payload in payloads):\n            os._exit(7)\n"
        "        return list(payloads)\n"
        "converter = DataConverter(payload_codec=Codec())\n"
    )
    (tmp_path / "once_code.py").write_text(text, encoding="utf-8")
    dying, good = copy(tmp_path, "a", dish="crash"), copy(tmp_path, "b")
    code = CodeUnderTest("gate_support.kitchen:Kitchen", "once_code:converter", (str(tmp_path),))
    report = check(replace(loose(dying, good, code=code, jobs=1), static=False))
    of_good = next(entry for entry in report.checked if entry.path == good)
    assert [finding.code for finding in of_good.findings] == ["replay_crash"]
    assert "the port is taken" in of_good.findings[0].what


def written(directory: Path, *options: str) -> tuple[int, str, dict[str, Any]]:
    workflows = "gate_support.kitchen:Kitchen"
    done = gate(directory, str(GOOD), workflows, "--format", "json=report.json", *options)
    return done.returncode, done.stderr, json.loads((directory / "report.json").read_text(encoding="utf-8"))["data"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_unwritable_report_is_named_and_others_are_written(tmp_path: Path) -> None:
    code, errors, data = written(tmp_path, "--format", "junit=/dev/full", "--format", "text")
    assert (code, "replay_report_unwritable" in errors, "Traceback" in errors) == (1, True, False), errors
    assert data["green"]


def test_workflow_type_with_brackets_is_printed_as_is(tmp_path: Path) -> None:
    text = (
        "from temporalio import workflow\n\n@workflow.defn(name='a[/b]')\nclass Waits:\n"
        "    @workflow.run\n    async def run(self) -> None:\n"
        "        await workflow.wait_condition(lambda: False)\n"
    )
    (tmp_path / "brackets_code.py").write_text(text, encoding="utf-8")
    head(tmp_path / "run.json", "a[/b]")
    for command in (["check", "--no-static", "--workflows", "brackets_code:Waits"], ["list"]):
        done = subprocess.run(
            [sys.executable, "-m", "temporal_replay_gate.main", *command, "run.json"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert (done.returncode, "a[/b]" in done.stdout) == (0, True), done.stdout + done.stderr
