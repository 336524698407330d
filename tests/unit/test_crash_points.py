"""Crash points: each is used in one place, and has no effect unless armed."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import photo_worker
from photo_worker.crash_points import CrashPoint, Phase, armed, crash_point

PACKAGE = Path(photo_worker.__file__).parent


def places() -> Iterator[str]:
    """Yield the point of each ``crash_point(CrashPoint.X)`` in the package's source."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.With | ast.AsyncWith):
                for item in node.items:
                    match item.context_expr:
                        case ast.Call(
                            func=ast.Name(id="crash_point"),
                            args=[ast.Attribute(value=ast.Name(id="CrashPoint"), attr=name)],
                        ):
                            yield name


def test_crash_points_are_each_used_once() -> None:
    assert Counter(places()) == dict.fromkeys(CrashPoint.__members__, 1)


def test_crash_point_reports_before_and_after() -> None:
    told: list[object] = []
    with armed(lambda point, phase: told.append((point, phase))), crash_point(CrashPoint.JOB_QUEUED):
        told.append("effect")
    assert told == [(CrashPoint.JOB_QUEUED, Phase.BEFORE), "effect", (CrashPoint.JOB_QUEUED, Phase.AFTER)]


def test_crash_point_failed_effect_reports_no_after() -> None:
    told: list[Phase] = []
    with armed(lambda point, phase: told.append(phase)):
        with pytest.raises(ZeroDivisionError), crash_point(CrashPoint.JOB_QUEUED):
            raise ZeroDivisionError
        assert told == [Phase.BEFORE]


def test_crash_point_unarmed_reports_nothing() -> None:
    told: list[Phase] = []
    with armed(lambda point, phase: told.append(phase)):
        pass
    with crash_point(CrashPoint.JOB_QUEUED):
        pass
    assert told == []


def test_crash_point_innermost_listener_may_raise() -> None:
    def die(point: CrashPoint, phase: Phase) -> None:
        raise KeyboardInterrupt

    told: list[Phase] = []
    with armed(lambda point, phase: told.append(phase)):
        with armed(die), pytest.raises(KeyboardInterrupt), crash_point(CrashPoint.JOB_QUEUED):
            told.append(Phase.AFTER)
        assert told == []
