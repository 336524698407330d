"""An invalid value of any option or argument ends a command with 2 and one message, without any effect."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from photo_worker.cli import cli
from photo_worker.cli.context import ENDPOINT_VARIABLES
from scripts.make_command_pages import ROOT, commands

COMMANDS = {named.slug: named for named in commands()}
JOB = "8c5b4f0e-7a51-4a52-9f3a-2f6f3c1d9b77"
PHOTO = str(ROOT / "fixtures" / "photos" / "clean-print.png")

# Further arguments of a command that are valid.
BESIDE: dict[str, list[str]] = {
    "faults-set": ["textract", "throttle"],
    "snapshot-load": ["kept"],
    "snapshot-save": ["kept"],
    "submit": [PHOTO],
    "show": [JOB],
    "erase": [JOB, "--yes"],
    "replay-show": [str(ROOT / "pyproject.toml")],
    "replay-record": ["--photo", PHOTO],
}
SERVER = ["--from-server"]

# Invalid texts and paths, as whole argument lists that replace those above.
STACK = ["No Name!", "a" * 80]
WORDS: dict[tuple[str, str], list[list[str]]] = {
    ("demo", "--fixtures"): [["--fixtures", "/no/such/folder"]],
    ("demo", "--engine"): [["--engine", "No!"], ["--engine", "nosuch"]],
    ("demo", "--external"): [["--external", "nonsense"], ["--external", "s3="], ["--external", "temporal=no"]],
    ("up", "--external"): [["--external", "nonsense"], ["--external", "s3="], ["--external", "temporal=no"]],
    **{(command, "--with"): [["--with", "nonsense"]] for command in ("demo", "doctor", "prefetch", "up")},
    ("snapshot-load", "snapshot_name"): [["No!"], [""]],
    ("snapshot-save", "snapshot_name"): [["No!"], [""]],
    ("faults-clear", "service"): [["nosuch"]],
    ("faults-set", "service"): [["nosuch", "--pause"], ["nosuch", "throttle"]],
    ("faults-set", "--script"): [
        ["textract", "--script", "/no/such/file"],
        ["textract", "--script", "/"],
        ["textract", "--script", PHOTO],
        ["textract", "--script", str(ROOT / "pyproject.toml")],
    ],
    ("submit", "sources"): [
        ["/no/such/photo.png"],
        ["no/*/such"],
        [""],
        ["a\0b"],
        ["x" * 5000],
        ["s3://"],
        ["s3://bucket"],
        ["s3://bucket/a/../b"],
    ],
    ("submit", "--job-id"): [[PHOTO, "--job-id", "foo"], [PHOTO, "--job-id", JOB.upper()]],
    ("submit", "--engine"): [[PHOTO, "--engine", "No!"]],
    ("submit", "--expect"): [[PHOTO, "--expect", "text/nonsense"]],
    ("replay-check", "paths"): [["/no/such/folder"], ["x" * 5000]],
    ("replay-check", "--format"): [["--format", "yaml"], ["--format", "junit="], ["--format", "json=/no/such/a.json"]],
    ("replay-check", "--workflow"): [[str(ROOT / "tests/replay/histories"), "--no-static", "--workflow", "nosuch"]],
    ("replay-check", "--workflows"): [["--workflows", word] for word in ("nope", "nope:x", ":", "json:nope")],
    ("replay-check", "--converter"): [["--converter", word] for word in ("nope", "nope:x", ":", "json:nope")],
    ("replay-check", "--allow"): [["--allow", "/no/such/file"], ["--allow", "/"], ["--allow", PHOTO]],
    ("replay-check", "--limit-seconds"): [["--limit-seconds", word] for word in ("x", "0", "nan", "inf")],
    ("replay-check", "--run-limit-seconds"): [["--run-limit-seconds", word] for word in ("x", "-1", "nan", "inf")],
    ("replay-check", "--since"): [[*SERVER, "--since", word] for word in ("soon", "0d", "7")],
    ("replay-check", "--cap-of"): [[*SERVER, "--cap-of", word] for word in ("nosuch", "a=x", "=3")],
    ("replay-check", "--keep"): [[*SERVER, "--keep", PHOTO], ["--keep", "without-the-server"]],
    ("replay-list", "paths"): [["/no/such/folder"], [str(ROOT), "/no/such/folder"]],
    ("replay-show", "file"): [["/no/such/file"], ["/"]],
    ("replay-record", "names"): [["nosuch", "--photo", PHOTO]],
    ("replay-record", "--to"): [["--photo", PHOTO, "--to", PHOTO]],
    ("replay-record", "--scenarios"): [
        ["--scenarios", word] for word in ("nope", "nope:x", ":", "json:nope", ".:x", "json:dumps")
    ],
    ("replay-record", "--photo"): [["--photo", "/no/such/file"], ["--photo", "/"]],
    ("show", "job_id"): [["nope"], [""], [JOB.upper()]],
    ("check", "--job"): [["--job", "nope"], ["--job", ""]],
    ("check", "--grace"): [["--grace", "soon"]],
    ("erase", "job_id"): [["nope", "--yes"], ["nope"]],
}

# Any text may be valid here, or only a running service can refuse it: tests with a service cover these.
FREE = {
    ("faults-set", "--operation"),
    ("faults-set", "--document"),
    ("faults-set", "--message"),
    ("replay-check", "--query"),
    ("replay-check", "--task-queue"),
}
OF_A_PROCESS = {
    ("textract-emulator", "--host"): [["--host", "no host"], ["--host", ".."], ["--host", ""]],
    ("textract-emulator", "--data"): [["--data", PHOTO]],
    ("textract-emulator", "--allow-host"): [["--allow-host", "http://here/"], ["--allow-host", ""]],
}


# Parts of messages that name the fault without repeating the whole argument.
TOLD = ("an argument is empty", "The object key", "There is no folder", "The job id", "There is nothing to submit")


def opts_of(param: click.Parameter) -> str:
    return param.opts[-1]


def nonsense(slug: str, param: click.Parameter) -> list[list[str]]:
    """Return the argument lists with an invalid value of a parameter."""
    name, beside = opts_of(param), BESIDE.get(slug, [])
    if (slug, name) in WORDS:
        return WORDS[slug, name]
    if name == "--name":
        return [[*beside, "--name", word] for word in STACK]
    server = SERVER if name in {"--cap-open", "--cap"} else []
    if isinstance(param.type, click.Choice):
        word = ["nonsense"] if isinstance(param, click.Argument) else [name, "nonsense"]
        return [["textract", *word] if name == "kind" else [*beside, *word]]
    if isinstance(param.type, click.IntRange | click.FloatRange):
        words = ["x", "", "nan"]
        words += [] if param.type.min is None else [str(param.type.min - 1)]
        words += [] if param.type.max is None else [str(param.type.max + 1)]
        return [[*beside, *server, name, word] for word in words]
    if param.type is click.INT:
        return [[*beside, name, "x"]]
    return []


def cases() -> Iterator[tuple[str, str, list[str]]]:
    for slug, named in COMMANDS.items():
        for param in named.command.params:
            for arguments in nonsense(slug, param):
                yield slug, opts_of(param), arguments


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a directory without a stack, and settings that lead to no service."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PHOTO_WORKER_HOME", str(tmp_path / "stacks"))
    for name in ENDPOINT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", "postgresql://nowhere.invalid/db")


def test_usage_errors_table_covers_options_and_arguments() -> None:
    named = {(slug, opts_of(param)) for slug, found in COMMANDS.items() for param in found.command.params}
    assert (set(WORDS) | FREE | set(OF_A_PROCESS)) <= named
    flags = {
        (slug, opts_of(param))
        for slug, found in COMMANDS.items()
        for param in found.command.params
        if isinstance(param, click.Option) and param.is_flag
    }
    refused = {(slug, name) for slug, name, _ in cases()}
    assert named - refused - flags - FREE - set(OF_A_PROCESS) == set()


@pytest.mark.parametrize(
    ("slug", "name", "arguments"),
    list(cases()),
    ids=lambda value: str(value)[-60:] if isinstance(value, list) else value,
)
def test_usage_error_invalid_value_exits_2(slug: str, name: str, arguments: list[str], tmp_path: Path) -> None:
    ended = CliRunner().invoke(cli, [*COMMANDS[slug].words, *arguments])
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    assert ended.exit_code == 2, ended.output
    assert "rror" in ended.stderr
    named = [name, name.removesuffix("_name").upper(), *arguments, *TOLD]
    assert any(word[:40] in ended.stderr for word in named if word), f"it does not say what is wrong: {ended.stderr}"
    assert not (tmp_path / "stacks").exists(), "something was begun"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["show", "nope"], "job_id_invalid"),
        (["erase", "nope"], "job_id_invalid"),
        (["check", "--job", "nope"], "job_id_invalid"),
        (["submit", PHOTO, "--job-id", "foo"], "job_id_invalid"),
        (["submit", "/no/such/photo.png"], "source_missing"),
        (["replay", "record", "nosuch", "--photo", PHOTO], "scenario_unknown"),
        (["replay", "record", "--scenarios", "nope:x"], "scenarios_unusable"),
        (["demo", "--engine", "No!"], "engine_invalid"),
        (["demo", "--engine", "nosuch"], "engine_unknown"),
        (["snapshot", "load", "No!"], "snapshot_name_invalid"),
        (["down", "--name", "No Name!"], "stack_name_invalid"),
    ],
)
def test_usage_error_json_output_has_code(arguments: list[str], code: str) -> None:
    ended = CliRunner().invoke(cli, [*arguments, "-o", "json"])
    response = json.loads(ended.stdout)
    assert (ended.exit_code, response["status"], response["error"]["code"]) == (2, "failed", code)


@pytest.mark.parametrize("slug", ["config-show", "doctor", "show", "check", "migrate", "worker"])
@pytest.mark.parametrize("file", ["/no/such/.env", "/"])
def test_env_file_unreadable_is_usage_error(slug: str, file: str) -> None:
    ended = CliRunner().invoke(cli, ["--env-file", file, *COMMANDS[slug].words, *BESIDE.get(slug, [])])
    assert ended.exit_code == 2, ended.output
    assert "[config_invalid]" in ended.stderr


def test_env_file_invalid_setting_exits_1(tmp_path: Path) -> None:
    (tmp_path / "wrong.env").write_text("MAX_ACTIVITIES=none\n", encoding="utf-8")
    assert CliRunner().invoke(cli, ["--env-file", "wrong.env", "show", JOB]).exit_code == 1


@pytest.mark.parametrize("arguments", [words for lists in OF_A_PROCESS.values() for words in lists], ids=str)
def test_textract_emulator_invalid_value_exits_2(arguments: list[str], tmp_path: Path) -> None:
    """Runs in a separate process, because the command installs signal handlers."""
    port = [] if "--port" in arguments else ["--port", "0"]
    ended = subprocess.run(
        [sys.executable, "-m", "photo_worker.cli", "textract-emulator", *port, *arguments],
        cwd=tmp_path,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert "rror" in ended.stderr
    assert "Traceback" not in ended.stderr
