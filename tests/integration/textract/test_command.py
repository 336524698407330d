"""The emulator as a command and as a module: its output, its errors, and the files and processes it leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.integration.textract.test_own_reader import picture
from textract_support.clients import client_of, send
from textract_support.emulator import DEADLINE_SECONDS, until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROOT = Path(__file__).resolve().parents[3]

COMMANDS = {
    "command": ("-m", "photo_worker.cli", "textract-emulator"),
    "module": ("-m", "textract_local.server"),
}
FIRST_LINE = re.compile(r"listening on (\S+):(\d+); .*export AWS_ENDPOINT_URL_TEXTRACT=(http://\S+)")


def environment(home: Path, **variables: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    return {**kept, "HOME": str(home), "AWS_CONFIG_FILE": os.devnull, "PYTHONUNBUFFERED": "1", **variables}


def ended(how: str, home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the emulator in a case in which it cannot start, and return the ended process."""
    return subprocess.run(
        [sys.executable, *COMMANDS[how], *arguments],
        env=environment(home, **variables),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def alone(home: Path, *arguments: str, how: str = "command", **variables: str) -> Iterator[tuple[psutil.Popen, str]]:
    """Run the emulator; yield the process and its first line."""
    log = home / f"log-{time.monotonic_ns()}"
    with log.open("wb") as output:
        process = psutil.Popen(
            [sys.executable, *COMMANDS[how], *arguments],
            env=environment(home, **variables),
            cwd=home,
            stdout=output,
            stderr=output,
        )
    family: list[psutil.Process] = []
    try:
        until(lambda: "\n" in log.read_text("utf-8") or process.poll() is not None)
        yield process, log.read_text("utf-8").splitlines()[0]
    finally:
        if process.is_running():
            family = [process, *process.children(recursive=True)]
            for member in family:
                member.kill()
        process.wait()


def url_of(line: str) -> str:
    found = FIRST_LINE.search(line)
    assert found, line
    return found[3]


def port_of(line: str) -> int:
    return int(url_of(line).rpartition(":")[2])


@pytest.mark.parametrize("how", list(COMMANDS))
def test_command_first_line_names_usable_endpoint(tmp_path: Path, how: str, stack_env: dict[str, str]) -> None:
    began = time.monotonic()
    with alone(tmp_path, "--port", "0", how=how) as (_, line):
        client = client_of(stack_env, url_of(line))
        response = client.detect_document_text(Document={"Bytes": picture("CARD 2468")})
        client.close()
        seconds = time.monotonic() - began
    assert [block["Text"] for block in response["Blocks"] if block["BlockType"] == "LINE"] == ["CARD 2468"]
    # Three seconds on an idle machine; this detects an engine that loads twice, or a wait that times out.
    assert seconds < 15


def test_command_sigterm_ends_all_processes(tmp_path: Path) -> None:
    with alone(tmp_path, "--port", "0") as (process, line):
        until(lambda: bool(send(port_of(line), "GET", "/_emulator/health").json["ready"]))
        family = process.children(recursive=True)
        assert family
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0
        assert time.monotonic() - began < 2
        gone, left = psutil.wait_procs(family, timeout=2)
        assert len(gone) == len(family)
        assert left == []


def test_command_killed_leaves_no_process(tmp_path: Path) -> None:
    with alone(tmp_path, "--port", "0", "--data", "data") as (process, line):
        until(lambda: bool(send(port_of(line), "GET", "/_emulator/health").json["ready"]))
        family = process.children(recursive=True)
        process.kill()
        process.wait()
        assert psutil.wait_procs(family, timeout=DEADLINE_SECONDS)[1] == []


@pytest.mark.stack
def test_command_restart_keeps_jobs_in_data_directory(
    tmp_path: Path, stack_env: dict[str, str], s3_client: S3Client, bucket: str
) -> None:
    s3_client.put_object(Bucket=bucket, Key="card.png", Body=picture("CARD 1357"))
    variables = {name: value for name, value in stack_env.items() if name.startswith("AWS_")}
    location: Any = {"S3Object": {"Bucket": bucket, "Name": "card.png"}}
    with alone(tmp_path, "--port", "0", "--data", "data", **variables) as (process, line):
        client = client_of(stack_env, url_of(line))
        job = client.start_document_text_detection(DocumentLocation=location)["JobId"]
        until(lambda: client.get_document_text_detection(JobId=job)["JobStatus"] == "SUCCEEDED")
        client.close()
        process.kill()
        process.wait()
    with alone(tmp_path, "--port", "0", "--data", "data", **variables) as (_, line):
        client = client_of(stack_env, url_of(line))
        blocks = client.get_document_text_detection(JobId=job)["Blocks"]
        assert [block["Text"] for block in blocks if block["BlockType"] == "LINE"] == ["CARD 1357"]
        shown = send(port_of(line), "GET", "/_emulator/jobs").json["jobs"]
        assert [(known["JobId"], known["JobStatus"], known["PagesDone"]) for known in shown] == [(job, "SUCCEEDED", 1)]
        assert send(port_of(line), "POST", "/_emulator/reset").status == 200
        with pytest.raises(client.exceptions.InvalidJobIdException):
            client.get_document_text_detection(JobId=job)
        client.close()


@pytest.mark.stack
@pytest.mark.parametrize("how", list(COMMANDS))
def test_command_most_open_jobs_limits_open_jobs(
    tmp_path: Path, stack_env: dict[str, str], s3_client: S3Client, bucket: str, how: str
) -> None:
    s3_client.put_object(Bucket=bucket, Key="card.png", Body=picture("CARD 1357"))
    variables = {name: value for name, value in stack_env.items() if name.startswith("AWS_")}
    location: Any = {"S3Object": {"Bucket": bucket, "Name": "card.png"}}
    with alone(tmp_path, "--port", "0", "--most-open-jobs", "1", how=how, **variables) as (_, line):
        slow = json.dumps({"rules": [{"kind": "job-slow", "seconds": 600}]}).encode()
        assert send(port_of(line), "PUT", "/_emulator/faults", slow).status == 200
        client = client_of(stack_env, url_of(line))
        assert client.start_document_text_detection(DocumentLocation=location)["JobId"]
        with pytest.raises(client.exceptions.LimitExceededException):
            client.start_document_text_detection(DocumentLocation=location)
        client.close()


@pytest.mark.parametrize(
    ("variables", "directory"),
    [
        ({}, ".local/state/photo-worker/textract-{port}"),
        ({"XDG_STATE_HOME": "{home}/state"}, "state/photo-worker/textract-{port}"),
        ({"PHOTO_WORKER_HOME": "{home}/stacks"}, "stacks/Textract-{port}"),
    ],
    ids=["home", "xdg", "stacks"],
)
def test_command_default_data_directory_is_named_for_port(
    tmp_path: Path, variables: dict[str, str], directory: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = {name: value.format(home=tmp_path) for name, value in variables.items()}
    with alone(tmp_path, "--port", str(port), **told) as (_, line):
        assert port_of(line) == port
        until(lambda: send(port, "GET", "/_emulator/jobs").status == 200)
        data = tmp_path / directory.format(port=port)
        assert (data / "jobs" / "jobs.sqlite3").is_file()
        assert data.stat().st_mode & 0o077 == 0


def test_command_port_0_leaves_no_data_directory(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    with alone(tmp_path, "--port", "0", TMPDIR=str(tmp_path / "tmp")) as (process, line):
        until(lambda: send(port_of(line), "GET", "/_emulator/jobs").status == 200)
        assert list((tmp_path / "tmp").glob("textract-local*"))
        process.terminate()
        process.wait()
    assert list((tmp_path / "tmp").glob("textract-local*")) == []
    assert not (tmp_path / ".local").exists()


@pytest.mark.parametrize("how", list(COMMANDS))
def test_command_port_in_use_is_refused_with_hint(tmp_path: Path, how: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = ended(how, tmp_path, "--port", str(port))
    assert_refused(done, "address_unusable", f"127.0.0.1:{port}")


@pytest.mark.parametrize("how", list(COMMANDS))
def test_command_foreign_address_is_refused_with_hint(tmp_path: Path, how: str) -> None:
    assert_refused(ended(how, tmp_path, "--host", "192.0.2.1"), "address_unusable", "192.0.2.1:8765")


@pytest.mark.parametrize("how", list(COMMANDS))
def test_command_data_in_use_is_refused_with_hint(tmp_path: Path, how: str) -> None:
    with alone(tmp_path, "--port", "0", "--data", str(tmp_path / "data")) as (_, line):
        until(lambda: send(port_of(line), "GET", "/_emulator/jobs").status == 200)
        done = ended(how, tmp_path, "--port", "0", "--data", str(tmp_path / "data"))
    assert_refused(done, "data_in_use", str(tmp_path / "data"))


@pytest.mark.parametrize("how", list(COMMANDS))
def test_command_data_unwritable_is_refused_with_hint(tmp_path: Path, how: str) -> None:
    (tmp_path / "file").touch()
    done = ended(how, tmp_path, "--port", "0", "--data", str(tmp_path / "file" / "data"))
    assert_refused(done, "data_unwritable", str(tmp_path / "file"))


def test_command_missing_extra_is_refused_with_hint(tmp_path: Path) -> None:
    (tmp_path / "uvicorn.py").write_text("raise ImportError('no uvicorn here')")
    done = ended("command", tmp_path, "--port", "0", PYTHONPATH=str(tmp_path))
    assert_refused(done, "extra_missing", "photo-worker[textract-emulator]")


def assert_refused(done: subprocess.CompletedProcess[str], code: str, said: str) -> None:
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    told = done.stderr.partition("error [")[2]
    assert told.startswith(f"{code}]: ")
    assert said in told
    assert "\nhint: " in told
    assert done.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [["--port", "x"], ["--port", "65536"], ["--processes", "0"], ["--most-open-jobs", "0"], ["--threads", "2"]],
)
@pytest.mark.parametrize("how", list(COMMANDS))
def test_command_wrong_arguments_exit_with_status_2(tmp_path: Path, how: str, arguments: list[str]) -> None:
    done = ended(how, tmp_path, *arguments)
    assert (done.returncode, "Usage:" in done.stderr or "usage:" in done.stderr) == (2, True)


def test_command_and_module_take_same_options(tmp_path: Path) -> None:
    options = [set(re.findall(r"--[a-z-]+", ended(how, tmp_path, "--help").stdout)) for how in COMMANDS]
    assert (
        options[0]
        == options[1]
        == {"--host", "--port", "--data", "--processes", "--most-open-jobs", "--allow-host", "--help"}
    )


@pytest.mark.parametrize("how", list(COMMANDS))
def test_command_starts_reading_process_before_other_imports(tmp_path: Path, how: str) -> None:
    # The first slow import of the server.
    (tmp_path / "asyncio.py").write_text(
        "import psutil, sys\n"
        "commands = [' '.join(each.cmdline()) for each in psutil.Process().children()]\n"
        "sys.exit('started' if any('reading_process' in each for each in commands) else 'not started')"
    )
    assert ended(how, tmp_path, "--port", "0", PYTHONPATH=str(tmp_path)).stderr.splitlines()[-1] == "started"
