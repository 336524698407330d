from __future__ import annotations

import io
import json
import shlex
import stat
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from dotenv import dotenv_values

from photo_worker.cli.output import env_lines
from photo_worker.config import Settings
from photo_worker.devkit.environment import environment_of, stack_environment
from photo_worker.devkit.errors import DataMismatch
from photo_worker.devkit.layout import StackPaths, exclusive
from photo_worker.devkit.state import Processes, StackRecord


@pytest.fixture
def paths(tmp_path: Path) -> StackPaths:
    paths = StackPaths(tmp_path, "dev")
    paths.create()
    return paths


def record(name: str = "dev", base_port: int = 20_000) -> StackRecord:
    return StackRecord.new(name, base_port, durable=True)


def test_stack_record_round_trip_in_private_file(paths: StackPaths) -> None:
    written = record()
    written.save(paths)
    assert StackRecord.load(paths) == written
    assert stat.S_IMODE(paths.record.stat().st_mode) == 0o600
    assert not list(paths.root.glob(".stack.json.*"))


def test_stack_record_without_extras_has_fields_of_older_version(paths: StackPaths) -> None:
    """The version that had none reads such a record; one with them it refuses as another version's."""
    written = record()
    written.save(paths)
    fields = ["name", "base_port", "password", "durable", "versions", "kind", "s3", "external", "region", "found"]
    assert list(json.loads(paths.record.read_text())) == [*fields, "format"]
    pooled = written.with_(extras=["pgbouncer"])
    pooled.save(paths)
    assert StackRecord.load(paths) == pooled


def test_stack_record_password_is_random_and_not_in_repr() -> None:
    first, second = record(), record()
    assert first.password != second.password
    assert len(first.password) >= 24
    assert first.password not in repr(first)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99}', '{"format": 1}', '{"format": 1, "other": 2}'])
def test_stack_record_load_unknown_format_names_path(paths: StackPaths, content: str) -> None:
    paths.record.write_text(content)
    with pytest.raises(DataMismatch, match=r"stack\.json"):
        StackRecord.load(paths)


@pytest.mark.parametrize(
    "changed",
    [
        {"base_port": "20000"},
        {"base_port": 65_517},
        {"base_port": -20},
        {"password": 5},
        {"external": []},
        {"external": {"s3": None}},
        {"durable": "yes"},
        {"region": None},
    ],
    ids=str,
)
def test_stack_record_load_invalid_value_names_path(paths: StackPaths, changed: dict[str, object]) -> None:
    paths.record.write_text(json.dumps({**asdict(record()), **changed}))
    with pytest.raises(DataMismatch, match=r"stack\.json"):
        StackRecord.load(paths)


def test_stack_record_load_accepts_highest_base_port(paths: StackPaths) -> None:
    highest = record(base_port=65_516)
    highest.save(paths)
    assert StackRecord.load(paths) == highest


def test_stack_record_load_missing_returns_none(paths: StackPaths) -> None:
    assert StackRecord.load(paths) is None
    assert not Processes.load(paths).alive


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"pid": [1]}', '{"services": {}}'])
def test_processes_load_damaged_file_is_empty(paths: StackPaths, content: str) -> None:
    paths.processes.write_text(content)
    assert Processes.load(paths).services == {}


def test_environment_of_differs_between_stacks() -> None:
    first, second = environment_of(record("one")), environment_of(record("two", 20_010))
    same = {"TEMPORAL_TASK_QUEUE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"}
    for variable in first.keys() - same - {"AWS_EC2_METADATA_DISABLED"}:
        assert first[variable] != second[variable], variable


def test_environment_of_is_valid_as_settings() -> None:
    made = record("a" * 30)
    variables = environment_of(made)
    settings = Settings.model_validate(variables)
    assert settings.s3_bucket == f"photo-worker-{'a' * 30}-photos"
    assert settings.temporal_target == "127.0.0.1:20000"
    assert unquote(urlsplit(settings.require_database_url()).password or "") == made.password


def test_env_lines_same_for_shell_and_dotenv(tmp_path: Path) -> None:
    variables = environment_of(record()) | {"ODD": "a b'c\"$HOME`x`#d"}
    text = env_lines(variables)
    file = tmp_path / ".env"
    file.write_text(text + "\n")
    show = shlex.join([sys.executable, "-I", "-S", "-c", "import json, os; print(json.dumps(dict(os.environ)))"])
    script = f"set -a; . {shlex.quote(str(file))}; {show}"
    shown = subprocess.run(["sh", "-c", script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=True)
    assert variables.items() <= json.loads(shown.stdout).items()
    plain = environment_of(record())
    assert dotenv_values(stream=io.StringIO(env_lines(plain))) == plain


def test_stack_environment_requires_live_supervisor(paths: StackPaths) -> None:
    made = record()
    made.save(paths)
    paths.processes.write_text(json.dumps({"token": "t", "pid": 1, "phase": "kept", "reaper": 2, "services": []}))
    assert stack_environment("dev", paths.home) is None
    with exclusive(paths.supervisor_lock, timeout=1, doing="test"):
        assert stack_environment("dev", paths.home) == environment_of(made)
        assert stack_environment("other", paths.home) is None
