"""Runs commands of the product in this process, with the settings of the test's deployment."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from photo_worker import cli


@dataclass
class Ended:
    """A command's output and exit code."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def data(self) -> Any:
        return json.loads(self.stdout)["data"]

    @property
    def error(self) -> str:
        return str(json.loads(self.stdout)["error"]["code"])


Run: TypeAlias = Callable[..., Ended]


@pytest.fixture
def run_command(
    stack_variables: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Run:
    """Run a command with this test's settings, some of them changed."""
    monkeypatch.chdir(tmp_path)

    def runs(*arguments: str, **changes: str) -> Ended:
        for name, value in (stack_variables | changes).items():
            monkeypatch.setenv(name, value)
        code = cli.run(arguments)
        said = capsys.readouterr()
        return Ended(code, said.out, said.err)

    return runs
