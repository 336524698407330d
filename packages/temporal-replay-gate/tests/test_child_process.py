"""A child's last response is read, whenever the child exits."""

from __future__ import annotations

import selectors
import subprocess
from typing import Any

import pytest

from temporal_replay_gate.child_process import ChildProcess
from temporal_replay_gate.defaults import CONVERTER


def test_response_of_child_that_exits_during_a_wait_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that is not scheduled for long, as on a loaded machine, finds at once the response and the exit."""
    started: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    class Late(selectors.DefaultSelector):
        waited = False

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if self.waited:
                return super().select(timeout)
            self.waited = True
            started[0].wait(100)
            return []

    monkeypatch.setattr("temporal_replay_gate.child_process.subprocess.Popen", Recorded)
    monkeypatch.setattr("temporal_replay_gate.child_process.selectors.DefaultSelector", Late)
    about = {"workflows": "json:nope", "converter": CONVERTER, "options": "", "prepare": True}
    child = ChildProcess(about, (), 0)
    try:
        response = child.receive(100, lambda response: response)
    finally:
        child.end()
    assert "json" in response["refused"]
