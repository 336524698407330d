"""Shell completion of commands, options, services and stack names, without slow imports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from photo_worker.cli import cli
from photo_worker.devkit import snapshots
from photo_worker.devkit.layout import StackPaths
from photo_worker.devkit.state import StackRecord

MODULE = [sys.executable, "-m", "photo_worker.cli"]


def run(command: list[str], **variables: str) -> str:
    done = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout


def completed(words: str) -> list[str]:
    """Return what bash completion offers for the last of these words."""
    variables = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_PHOTO_WORKER_COMPLETE": "bash_complete"}
    return [line.partition(",")[2] for line in run(MODULE, **variables).splitlines() if line]


def test_bash_completion_prints_one_value_per_line() -> None:
    assert completed("photo-worker status --output ") == ["text", "json"]


def offered(words: str) -> list[str]:
    """Return the same as ``completed`` within this process, which is half a second faster."""
    *before, last = words.split(" ")[1:]
    found = ShellComplete(cli, {}, "photo-worker", "_X").get_completions(before, last)
    return [item.value for item in found]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("photo-worker re", ["reset", "replay"]),
        ("photo-worker config ", ["show"]),
        ("photo-worker logs te", ["temporal", "textract"]),
        ("photo-worker --env", ["--env-file"]),
        ("photo-worker faults ", ["clear", "list", "set"]),
        ("photo-worker faults set po", ["postgres"]),
        ("photo-worker faults set textract notification-l", ["notification-late", "notification-lost"]),
        ("photo-worker faults clear te", ["temporal", "textract"]),
        ("photo-worker logs s", ["s3", "supervisor"]),
        ("photo-worker up --stack co", ["compose"]),
        ("photo-worker up --s3 m", ["ministack", "minio"]),
        ("photo-worker up --external s", ["s3=", "sns=", "sqs="]),
    ],
)
def test_completion_offers_commands_options_and_values(
    words: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHOTO_WORKER_HOME", str(tmp_path))
    assert offered(words) == expected


def test_completion_offers_stack_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTO_WORKER_HOME", str(tmp_path))
    for name in ("review", "release"):
        StackPaths(tmp_path, name).create()
    (tmp_path / "recipes").mkdir()
    assert offered("photo-worker status --name re") == ["release", "review"]
    assert offered("photo-worker show --name rev") == ["review"]
    monkeypatch.setenv("PHOTO_WORKER_HOME", str(tmp_path / "absent"))
    assert offered("photo-worker down --name ") == []


def test_completion_offers_snapshots_and_services_of_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTO_WORKER_HOME", str(tmp_path))
    paths = StackPaths(tmp_path, "review")
    paths.create()
    record = StackRecord.new("review", 20_000, durable=True).with_(s3="seaweedfs")
    record.save(paths)
    for name in ("second", "seeded"):
        snapshots.write(paths, record, name, lambda _: None)
    assert offered("photo-worker snapshot load --name review se") == ["second", "seeded"]
    assert offered("photo-worker snapshot load se") == []
    assert offered("photo-worker faults set --name review s") == ["s3"]
    assert offered("photo-worker faults set s") == []
    paths.record.write_text("{")
    assert offered("photo-worker faults set --name review s") == []


@pytest.mark.parametrize(
    ("shell", "variables", "expected"),
    [
        ("zsh", {"COMP_WORDS": "photo-worker sta", "COMP_CWORD": "1"}, "plain\nstatus\nShow the state"),
        ("fish", {"COMP_WORDS": "photo-worker sta", "COMP_CWORD": "sta"}, "plain\nstatus\nShow the state"),
    ],
)
def test_zsh_and_fish_completion_use_their_formats(shell: str, variables: dict[str, str], expected: str) -> None:
    told = run(MODULE, _PHOTO_WORKER_COMPLETE=f"{shell}_complete", **variables)
    assert told.replace(",", "\n").replace("\t", "\n").startswith(expected)
    script = run(MODULE, _PHOTO_WORKER_COMPLETE=f"{shell}_source")
    assert f"_PHOTO_WORKER_COMPLETE={shell}_complete" in script


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completion_in_real_bash(tmp_path: Path) -> None:
    program = tmp_path / "photo-worker"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m photo_worker.cli "$@"\n')
    program.chmod(0o755)
    version = run(["bash", "-c", "echo ${BASH_VERSINFO[0]}${BASH_VERSINFO[1]}"])
    if int(version) < 44:
        pytest.skip("this bash is older than 4.4, which click needs")
    script = """
        eval "$(_PHOTO_WORKER_COMPLETE=bash_source photo-worker)"
        complete -p photo-worker >/dev/null || exit 3
        COMP_WORDS=(photo-worker dow) COMP_CWORD=1
        _photo_worker_completion photo-worker dow photo-worker
        echo "${COMPREPLY[*]}"
    """
    assert run(["bash", "-c", script], PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}") == "down\n"


def test_completion_imports_no_command_module() -> None:
    code = (
        "import sys\n"
        "from photo_worker.cli import cli\n"
        "from click.shell_completion import ShellComplete\n"
        "items = ShellComplete(cli, {}, 'photo-worker', '_X').get_completions([], '')\n"
        "assert len(items) > 10, items\n"
        "print([name for name in sys.modules if name.startswith('photo_worker.cli.')])\n"
    )
    assert run([sys.executable, "-c", code]) == "[]\n"


def test_stack_status_imports_no_slow_module() -> None:
    """`photo-worker status` may take 200 ms, and each of these modules would take half of that."""
    code = (
        "import sys\n"
        "import photo_worker.cli.stack, photo_worker.devkit.stack\n"
        "slow = {'pydantic', 'boto3', 'botocore', 'psycopg', 'sqlalchemy', 'temporalio', 'rich'}\n"
        "print(sorted(slow & set(sys.modules)))\n"
    )
    assert run([sys.executable, "-c", code]) == "[]\n"
