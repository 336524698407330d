"""The Dockerfiles of the worker and of the emulator, as far as they can be checked without a container engine."""

from __future__ import annotations

import importlib
import json
import re
import tomllib
from pathlib import Path

import pytest

from photo_worker.cli.textract_emulator import textract_emulator
from standins.recipes import sent_files
from textract_local.server.control import PREFIX

ROOT = Path(__file__).resolve().parents[3]


FILES = {"worker": "Dockerfile", "emulator": "compose/textract-emulator/Dockerfile"}


@pytest.fixture(scope="module", params=list(FILES))
def image(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def instructions(image: str) -> list[tuple[str, str]]:
    return instructions_of(FILES[image])


def instructions_of(file: str) -> list[tuple[str, str]]:
    text = (ROOT / file).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def last(instructions: list[tuple[str, str]], word: str) -> str:
    return [rest for name, rest in instructions if name == word][-1]


def test_dockerfile_base_is_one_pinned_release(instructions: list[tuple[str, str]]) -> None:
    base = last(instructions, "ARG").removeprefix("BASE=")
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", base)
    assert {rest.split()[0] for word, rest in instructions if word == "FROM"} == {"${BASE}"}


def test_dockerfile_user_is_numeric_and_not_root(instructions: list[tuple[str, str]]) -> None:
    user, _, group = last(instructions, "USER").partition(":")
    assert int(user) >= 1000
    assert int(group) >= 1000
    words = [word for word, _ in instructions]
    assert words.index("USER") > words.index("FROM", words.index("FROM") + 1)


def test_dockerfile_entrypoint_is_exec_form_with_sigterm(instructions: list[tuple[str, str]], image: str) -> None:
    program = ["photo-worker", "textract-emulator", "--data", "/data", "--port", "8765"]
    entry, command = json.loads(last(instructions, "ENTRYPOINT")), json.loads(last(instructions, "CMD"))
    assert (entry, command) == ((program[:1], ["worker"]) if image == "worker" else (program, ["--host", "0.0.0.0"]))  # noqa: S104
    assert last(instructions, "STOPSIGNAL") == "SIGTERM"


def test_emulator_dockerfile_arguments_match_cli_and_ports() -> None:
    instructions = instructions_of(FILES["emulator"])
    arguments = json.loads(last(instructions, "ENTRYPOINT"))[2:] + json.loads(last(instructions, "CMD"))
    given = textract_emulator.make_context("textract-emulator", arguments).params
    chosen = {"host": "0.0.0.0", "port": 8765, "data": Path("/data")}  # noqa: S104
    defaults = textract_emulator.make_context("textract-emulator", []).params
    assert given == {**defaults, **chosen}
    assert int(last(instructions, "EXPOSE")) == given["port"]
    assert last(instructions, "VOLUME") == str(given["data"])
    # The health check imports no project package, and uses the emulator's path and port.
    asked = json.loads(last(instructions, "HEALTHCHECK").partition("CMD ")[2])[-1]
    assert f"http://127.0.0.1:{given['port']}{PREFIX}/health" in asked


def test_worker_dockerfile_healthcheck_module_exists() -> None:
    instructions = instructions_of(FILES["worker"])
    command = json.loads(last(instructions, "HEALTHCHECK").partition("CMD ")[2])
    assert command[:2] == ["python", "-m"]
    assert callable(importlib.import_module(command[2]).main)


def test_dockerfile_pip_installs_require_hashes(instructions: list[tuple[str, str]]) -> None:
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


def test_dockerignore_allows_exactly_what_is_copied() -> None:
    copied = {
        name
        for file in FILES.values()
        for word, rest in instructions_of(file)
        if word == "COPY" and "--from" not in rest
        for name in rest.split()[:-1]
    }
    given = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{name}" for name in copied} == {line for line in given if line.startswith("!")}
    assert "*" in given
    assert all((ROOT / name).exists() for name in copied)


def test_dockerignore_sends_what_the_packages_wheels_need() -> None:
    sent = {path.relative_to(ROOT).as_posix() for path in sent_files() if ROOT / "packages" in path.parents}
    assert not [path for path in sent if path.split("/")[2] in {"scripts", "tests"}]
    for package in (ROOT / "packages").glob("*/pyproject.toml"):
        files = [package, *(package.parent / name for name in ("LICENSE", "README.md"))]
        files += [path for path in (package.parent / "src").rglob("*") if path.suffix in {".py", ".typed"}]
        assert {path.relative_to(ROOT).as_posix() for path in files} <= sent


@pytest.mark.parametrize("file", FILES.values())
def test_dockerfile_copies_all_inputs_of_the_wheel(file: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    wanted = {*wheel["packages"], *wheel["force-include"], project["project"]["readme"], "LICENSE", "pyproject.toml"}
    given = {
        name
        for word, rest in instructions_of(file)
        if word == "COPY" and "--from" not in rest
        for name in rest.split()[:-1]
    }
    assert wanted <= given
