"""The command ``check`` in a process of its own, and histories that a test writes for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from gate_support.histories import copy

# Where the code under test is imported from, beside the directory of the command.
ROOT = Path(__file__).resolve().parents[1]


def check(directory: Path, history: Path, workflows: str, *options: str, seed: str = "0") -> tuple[int, dict[str, Any]]:
    """Run ``replay check`` in the code's directory, as a child process; return the exit code and the report."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "temporal_replay_gate.main", "check", str(history)),
            *("--workflows", workflows, "--no-static", "--format", "json", *options),
        ],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["data"]


def reported(data: dict[str, Any], kind: str = "findings") -> list[str]:
    return [finding["code"] for finding in data[kind]]


def head(path: Path, workflow_type: str, *more: dict[str, Any]) -> Path:
    """Write a run of another type without input: its first workflow task, and the events ``more``."""
    document = json.loads(copy(path.parent, path.stem).read_text(encoding="utf-8"))
    events = document["events"][:4]
    started = events[0]["workflowExecutionStartedEventAttributes"]
    started["workflowType"]["name"] = workflow_type
    del started["input"]
    for number, event in enumerate(more, start=5):
        events.append({"eventId": str(number), "eventTime": events[3]["eventTime"], **event})
    path.write_text(json.dumps({"events": events}), encoding="utf-8")
    return path
