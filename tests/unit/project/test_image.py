"""The worker's Dockerfile, as far as it can be judged without a container engine."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def last(instructions: list[tuple[str, str]], word: str) -> str:
    return [rest for name, rest in instructions if name == word][-1]


def test_the_base_is_one_release(instructions: list[tuple[str, str]]) -> None:
    base = last(instructions, "ARG").removeprefix("BASE=")
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", base)
    assert {rest.split()[0] for word, rest in instructions if word == "FROM"} == {"${BASE}"}


def test_it_runs_as_a_numbered_user_that_is_not_root(instructions: list[tuple[str, str]]) -> None:
    user, _, group = last(instructions, "USER").partition(":")
    assert int(user) >= 1000
    assert int(group) >= 1000
    words = [word for word, _ in instructions]
    assert words.index("USER") > words.index("FROM", words.index("FROM") + 1)


def test_the_worker_itself_gets_the_signal(instructions: list[tuple[str, str]]) -> None:
    assert json.loads(last(instructions, "ENTRYPOINT")) == ["photo-worker"]
    assert json.loads(last(instructions, "CMD")) == ["worker"]
    assert last(instructions, "STOPSIGNAL") == "SIGTERM"


def test_the_health_check_asks_a_module_that_is_there(instructions: list[tuple[str, str]]) -> None:
    command = json.loads(last(instructions, "HEALTHCHECK").partition("CMD ")[2])
    assert command[:2] == ["python", "-m"]
    assert callable(importlib.import_module(command[2]).main)


def test_every_download_is_pinned_by_hash(instructions: list[tuple[str, str]]) -> None:
    installs = [
        part
        for word, rest in instructions
        if word == "RUN"
        for part in rest.split("&&")
        if re.search(r"pip (install|wheel)", part)
    ]
    assert len(installs) == 4
    for install in installs:
        assert "--no-index" in install or {"--require-hashes", "--only-binary"} <= set(install.split()), install


def test_what_it_copies_is_what_the_builder_is_given(instructions: list[tuple[str, str]]) -> None:
    copied = {
        name for word, rest in instructions if word == "COPY" and "--from" not in rest for name in rest.split()[:-1]
    }
    given = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{name}" for name in copied} == {line for line in given if line.startswith("!")}
    assert "*" in given
    assert all((ROOT / name).exists() for name in copied)
