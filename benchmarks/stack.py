"""The time of a cold `photo-worker up`, compared with the slowest of its services started alone and bare.

Bare means the service's own command without this project, timed from its start to its first
successful round trip, with the client already imported. `up` is timed as users see it, including the
interpreter, imports and migrations. Both start without data, in turn, in one run. The other commands
are timed on the stack that this leaves.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from photo_worker.devkit.layout import StackPaths
from photo_worker.devkit.plan import ServicePlan
from photo_worker.devkit.ports import free_base
from photo_worker.devkit.readiness import NotReady
from photo_worker.devkit.service import Service
from photo_worker.devkit.service_registry import default_services
from photo_worker.devkit.stack import Stack
from photo_worker.devkit.state import StackRecord

BAR = 2.0
# The seconds that a user waits, on an idle machine with two cores.
SECONDS_BARS = {"up_cold": 5.0, "up_warm": 2.5, "status": 0.2, "reset": 2.0}
_TIMEOUT_SECONDS = 120.0
_STEPS = ("up_cold", "reset", "status", "down", "up_warm")


def measure(rounds: int = 3) -> dict[str, Any]:
    """Return seconds of `up`, of each service alone, and their ratio (medians over ``rounds``)."""
    alone: dict[str, list[float]] = {service.name: [] for service in default_services()}
    whole: dict[str, list[float]] = {step: [] for step in _STEPS}
    for service in default_services():
        service.warm_imports()
    for _ in range(rounds):
        for service in default_services():
            alone[service.name].append(_in_new_home(lambda home, service=service: _start_alone(service, home)))
        for step, seconds in _in_new_home(_use_all).items():
            whole[step].append(seconds)
    medians = {name: statistics.median(times) for name, times in alone.items()}
    slowest = max(medians, key=medians.__getitem__)
    steps = {step: statistics.median(times) for step, times in whole.items()}
    ratio = steps["up_cold"] / medians[slowest]
    return {
        "rounds": rounds,
        **{f"{step}_seconds": seconds for step, seconds in steps.items()},
        "alone_seconds": medians,
        "slowest": slowest,
        "ratio": ratio,
        "bar": BAR,
        "seconds_bars": SECONDS_BARS,
        "met": ratio <= BAR and all(steps[step] <= bar for step, bar in SECONDS_BARS.items()),
    }


def _in_new_home(action: Any) -> Any:
    home = Path(tempfile.mkdtemp(prefix="pw-bench-"))
    # Postgres, which root starts as another user, must be able to traverse it; otherwise its data would be elsewhere.
    home.chmod(0o711)
    try:
        return action(home)
    finally:
        shutil.rmtree(home)


def _start_alone(service: Service, home: Path) -> float:
    paths = StackPaths(home, "bench")
    paths.create()
    record = StackRecord.new("bench", free_base(), durable=True)
    plan = service.plan(record, paths)
    begin = time.monotonic()
    if plan.prepare is not None:
        _spawn(plan, plan.prepare.argv).wait(timeout=_TIMEOUT_SECONDS)
        Path(plan.prepare.into).rename(plan.prepare.creates)
    process = _spawn(plan, plan.argv)
    try:
        while True:
            try:
                service.probe_ready(record)
            except NotReady:
                if process.poll() is not None or time.monotonic() - begin > _TIMEOUT_SECONDS:
                    raise
                time.sleep(0.01)
            else:
                return time.monotonic() - begin
    finally:
        os.killpg(process.pid, plan.stop_signal)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _spawn(plan: ServicePlan, argv: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv,
        env=plan.env,
        cwd=plan.cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        user=None if plan.user is None else plan.user[0],
        group=None if plan.user is None else plan.user[1],
        extra_groups=None if plan.user is None else [],
    )


def _use_all(home: Path) -> dict[str, float]:
    """Return the seconds that each command of ``_STEPS`` takes for its user."""
    stack = Stack(home, "bench")
    environment = {**os.environ, "PHOTO_WORKER_HOME": str(home)}

    def timed(*arguments: str) -> float:
        command = [sys.executable, "-m", "photo_worker.cli", *arguments, "--name", "bench"]
        begin = time.monotonic()
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=_TIMEOUT_SECONDS)
        return time.monotonic() - begin

    try:
        times = {"up_cold": timed("up", "--base-port", str(free_base()))}
        times["reset"] = timed("reset", "--yes")
        times["status"] = timed("status")
        times["down"] = timed("down")
        times["up_warm"] = timed("up")
    finally:
        stack.delete()
    return times


def table(result: dict[str, Any]) -> Sequence[tuple[str, str]]:
    """Return the lines to show."""
    alone = sorted(result["alone_seconds"].items(), key=lambda item: item[1])
    shown = {
        "up_cold": "up, s",
        "up_warm": "up, data present, s",
        "reset": "reset, s",
        "status": "status, s",
        "down": "down, s",
    }
    lines = [(f"{name} alone, bare, s", f"{seconds:.2f}") for name, seconds in alone]
    for step, label in shown.items():
        bar = f" (bar {SECONDS_BARS[step]:g} at most)" if step in SECONDS_BARS else ""
        lines.append((label, f"{result[f'{step}_seconds']:.2f}{bar}"))
    return [*lines, (f"up / {result['slowest']} alone", f"{result['ratio']:.2f} (bar {result['bar']:.1f} at most)")]
