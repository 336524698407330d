"""Limits: neither forked processes, endless output nor many hanging histories delay the gate."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from gate_support.changed_code import kitchen_washing, write
from gate_support.histories import GOOD, codec, codes, copy, loose
from temporal_replay_gate.child_process import LOG_BYTES, ChildGone, ChildProcess
from temporal_replay_gate.gate import GateOptions, check
from temporal_replay_gate.replay_pool import CodeUnderTest

FORKS = """
import multiprocessing, os, time
from gate_support.kitchen import Kitchen
if multiprocessing.current_process().name == "MainProcess":
    forked = os.fork()
    if forked == 0:
        time.sleep(600)
        os._exit(0)
    with open({told!r}, "a") as told:
        told.write(f"{{forked}}\\n")
"""


@pytest.fixture
def forked(tmp_path: Path) -> Iterator[Path]:
    """Yield the file for the process ids of forks; kill the remaining ones at the end."""
    told = tmp_path / "forked.txt"
    yield told
    for line in told.read_text(encoding="utf-8").split() if told.exists() else ():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(line), 9)


def lives(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_check_of_code_that_forks_ends_its_forks(tmp_path: Path, forked: Path) -> None:
    (tmp_path / "forking_code.py").write_text(FORKS.format(told=str(forked)), encoding="utf-8")
    code = CodeUnderTest("forking_code:Kitchen", path=(str(tmp_path),))
    report = check(replace(loose(GOOD, code=code), static=False))
    assert report.green, report.findings
    numbers = [int(line) for line in forked.read_text(encoding="utf-8").split()]
    assert numbers
    assert not [number for number in numbers if lives(number)]


def test_child_endless_output_is_bounded(tmp_path: Path) -> None:
    text = "while True:\n    print('x' * 60000, flush=True)\n"
    (tmp_path / "loud_without_end.py").write_text(text, encoding="utf-8")
    about = {"workflows": "loud_without_end:W", "converter": "loud_without_end:C"}
    child = ChildProcess(about, (str(tmp_path),), 0)
    try:
        with pytest.raises(ChildGone) as gone:
            child.receive(10.0, dict)
        assert gone.value.timed_out
        assert 0 < len(child._log) <= LOG_BYTES
    finally:
        child.end()


def test_run_limit_exceeded_names_unreached_histories(tmp_path: Path) -> None:
    code = codec(tmp_path, "await asyncio.Event().wait() if b'hang' in text else None")
    directory = tmp_path / "histories"
    paths = [copy(directory, f"run{number}", dish="hang") for number in range(5)]
    began = time.monotonic()
    options: GateOptions = replace(loose(directory, code=code, limit_seconds=120.0, jobs=1), run_limit_seconds=15.0)
    report = check(options)
    assert time.monotonic() - began < 60
    assert "run_limit_exceeded" in codes(report)
    (finding,) = [each for each in report.findings if each.code == "run_limit_exceeded"]
    assert all(str(path) in finding.what for path in paths)
    assert not report.green


def test_check_set_order_in_arguments_is_red(tmp_path: Path) -> None:
    # Two orders of five names are equal once in 120; these differ, and the order depends on the seed alone.
    write(kitchen_washing("','.join(set(['leek', 'plum', 'fig', 'pea', 'beet']))"), tmp_path / "set_kitchen.py")
    report = check(replace(loose(GOOD, code=CodeUnderTest("set_kitchen:Kitchen", path=(str(tmp_path),))), static=False))
    assert "order" in {finding.code for finding in report.findings}
