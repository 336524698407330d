"""Data that the real services have acknowledged survives kills, a full disk, and other stacks."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import psutil
import psycopg
import pytest

from photo_worker.devkit import disk, ports, postgres
from photo_worker.devkit.errors import ServiceFailed, StackNotReady
from photo_worker.devkit.service_registry import default_services
from photo_worker.devkit.stack import Stack
from photo_worker.services.binding import MARKER_KEY
from tests.integration.devkit.fake_services import processes_of, wait_until
from tests.stack.support import pids_of
from tests.support import workflows

pytestmark = [pytest.mark.stack, pytest.mark.io_bound, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
SERVICES = ("temporal", "postgres", "aws", "textract")
MEGABYTE = disk.MEGABYTE
ADDRESSES = ("TEMPORAL_TARGET", "DATABASE_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_TEXTRACT", "SQS_QUEUE_URL")
INSERT = "INSERT INTO recipes (id, s3_raw_bucket, s3_raw_key, content_sha256) VALUES (%s, %s, 'k', '')"

# Variables of a user's shell for a real cloud; 192.0.2.0/24 is reserved for documentation (RFC 5737).
ELSEWHERE = {
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://192.0.2.1:3128"),
    **dict.fromkeys(("ALL_PROXY", "all_proxy"), "socks5://192.0.2.1:1080"),
    "AWS_PROFILE": "production",
    "AWS_ENDPOINT_URL": "http://192.0.2.1",
    "AWS_CA_BUNDLE": "/nowhere/bundle.pem",
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "AWS_SESSION_TOKEN": "token",
    "AWS_EC2_METADATA_DISABLED": "false",
    "PGHOSTADDR": "192.0.2.1",
    "PGSSLMODE": "verify-full",
    "PGOPTIONS": "-c no.such=1 -X",
    "PGCHANNELBINDING": "require",
    "TEMPORAL_ADDRESS": "production.example.tmprl.cloud:7233",
    "TEMPORAL_API_KEY": "key",
    "TEMPORAL_TLS": "true",
    "TEMPORAL_NAMESPACE": "production",
    "DOCKER_HOST": "tcp://192.0.2.1:2375",
    "TZ": "Asia/Kathmandu",
}
AWS_CONFIG = """
[profile production]
region = eu-central-1
sso_session = work
sso_account_id = 111122223333
endpoint_url = http://192.0.2.1
[sso-session work]
sso_start_url = https://example.awsapps.com/start
sso_region = eu-central-1
"""
# Runs a command in a mount namespace in which no name resolves, not even localhost.
_WITHOUT_NAMES = """
import os, subprocess, sys
empty, *argv = sys.argv[1:]
for file in ("/etc/hosts", "/etc/resolv.conf"):
    subprocess.run(["mount", "--bind", empty, file], check=True)
os.execv(argv[0], argv)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that other users can traverse, like most worktrees."""
    directory = Path(tempfile.mkdtemp(prefix="pw-")).resolve()
    directory.chmod(0o755)
    yield directory
    left = processes_of(directory)
    for process in left:
        process.kill()
    shutil.rmtree(directory, ignore_errors=True)
    assert left == []


@pytest.fixture
def small_disk(place: Path) -> Iterator[Path | None]:
    """A 400 MB disk in memory if this user may mount one; otherwise None."""
    mountpoint = place / "disk"
    mountpoint.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=400m,mode=755", "none", str(mountpoint)]
    mounted = os.geteuid() == 0 and subprocess.run(argv, capture_output=True, check=False).returncode == 0
    yield mountpoint if mounted else None
    if mounted:
        subprocess.run(["umount", "--lazy", str(mountpoint)], check=True)


def user_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a user without endpoints of services, with ``changes``."""
    kept = {name: value for name, value in os.environ.items() if name != "TEMPORAL_CONFIG_FILE"}
    return {**kept, "PYTHONPATH": str(ROOT), **changes}


def photo_worker(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, prefix: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a command in a directory, as a user would."""
    return subprocess.run(
        [*prefix, sys.executable, "-m", "photo_worker.cli", *arguments],
        cwd=cwd,
        env=user_environment(env or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def s3_of(env: Mapping[str, str]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=env["AWS_ENDPOINT_URL_S3"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        region_name=env["AWS_REGION"],
    )


class Kept:
    """Acknowledged data in each service: a row, an object, and a workflow's history."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self.mark = secrets.token_hex(8)
        self._id = f"{secrets.token_hex(4)}-0000-4000-8000-{secrets.token_hex(6)}"
        with psycopg.connect(env["DATABASE_URL"]) as connection:
            connection.execute(INSERT, [self._id, self.mark])
        s3_of(env).put_object(Bucket=env["S3_BUCKET"], Key=self.mark, Body=self.mark.encode())
        workflows.start(env, self.mark)

    def found(self) -> tuple[bool, bool, bool]:
        """Return for each whether it still exists."""
        with psycopg.connect(self._env["DATABASE_URL"]) as connection:
            row = connection.execute("SELECT s3_raw_bucket FROM recipes WHERE id = %s", [self._id]).fetchone()
        content = s3_of(self._env).get_object(Bucket=self._env["S3_BUCKET"], Key=self.mark)["Body"].read()
        return row == (self.mark,), content == self.mark.encode(), workflows.is_kept(self._env, self.mark)


def without_names(directory: Path) -> tuple[str, ...]:
    """Return a command prefix under which no name resolves; empty if this user may not set that up."""
    empty = directory / "empty"
    empty.touch()
    prefix = ("unshare", "--mount", sys.executable, "-I", "-c", _WITHOUT_NAMES, str(empty))
    tried = os.geteuid() == 0 and shutil.which("unshare") is not None
    if not tried or subprocess.run([*prefix, "/bin/true"], capture_output=True, check=False).returncode != 0:
        return ()
    return prefix


def test_acknowledged_data_survives_every_kill(place: Path, small_disk: Path | None) -> None:
    """Uses one stack for all of it, as each start takes seconds."""
    home = (small_disk or place) / "home"
    config = place / "aws-config"
    config.write_text(AWS_CONFIG)
    elsewhere = {**ELSEWHERE, "AWS_CONFIG_FILE": str(config), "PHOTO_WORKER_HOME": str(home)}
    up = photo_worker(
        *("up", "--base-port", str(ports.free_base()), "-o", "json"),
        cwd=place,
        env=elsewhere,
        prefix=without_names(place),
    )
    stack = Stack(home, "dev")
    try:
        assert up.returncode == 0, up.stderr
        env = stack.env()
        kept = Kept(env)
        for service in SERVICES:
            service_is_killed(stack, service, kept)
        supervisor_is_killed(stack, kept)
        reaper_is_killed(stack)
        machine_restarts(stack, kept)
        if small_disk is not None:
            disk_fills_up(stack, small_disk, kept)
        assert stack.env() == env, "what a shell has of it stayed true all the time"
        assert stack.down()
        assert processes_of(home) == []
    finally:
        stack.delete()


def service_is_killed(stack: Stack, service: str, kept: Kept) -> None:
    os.kill(pids_of(stack)[service], signal.SIGKILL)
    wait_until(lambda: state_of(stack, service) == "exited", f"the death of {service} shows")
    status = photo_worker("status", "-o", "json", cwd=stack.paths.home, env=here(stack))
    assert status.returncode == 1
    states = {
        entry["name"]: (entry["state"], entry["exit_code"]) for entry in json.loads(status.stdout)["data"]["services"]
    }
    assert states.pop(service) == ("exited", -signal.SIGKILL)
    assert {state for state, _ in states.values()} <= {"running", "silent"}, "the others are as they were"
    with pytest.raises(ServiceFailed, match=f"{service} is not ready: it ended with code -9"):
        stack.wait(10)
    assert isinstance(stack.tail(service, 5), list)
    assert stack.up().started
    assert kept.found() == (True, True, True)


def supervisor_is_killed(stack: Stack, kept: Kept) -> None:
    os.kill(pids_of(stack)["supervisor"], signal.SIGKILL)
    wait_until(lambda: processes_of(stack.paths.root) == [], "the services ended with it")
    status = photo_worker("status", cwd=stack.paths.home, env=here(stack))
    assert status.returncode == 1
    assert "was killed, or the machine restarted; `photo-worker up` starts it again" in status.stderr
    with pytest.raises(StackNotReady, match="was killed"):
        stack.wait(0)
    assert any("database system is ready" in line for line in stack.tail("postgres", 100)), "logs are still there"
    assert stack.up().started
    assert kept.found() == (True, True, True)


def reaper_is_killed(stack: Stack) -> None:
    first = pids_of(stack)["reaper"]
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: pids_of(stack)["reaper"] != first, "another takes its place")
    assert stack.wait(30).running


def machine_restarts(stack: Stack, kept: Kept) -> None:
    """Kill all processes at once, reuse their pids and delete the temporary files."""
    family = [psutil.Process(pid) for pid in pids_of(stack).values()]
    family += [child for process in family for child in process.children(recursive=True)]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in family:
            if process.is_running():
                process.send_signal(number)
    wait_until(lambda: processes_of(stack.paths.root) == [], "all are gone")
    places = [stack.paths.data, *postgres.shared_data(stack.paths)]
    (file,) = [file for place in places for file in place.glob("postgres-*/postmaster.pid")]
    # A process of the server's own user: Postgres ignores a process of another user.
    user = file.stat().st_uid if os.geteuid() == 0 else None
    other = subprocess.Popen([shutil.which("sleep") or "/bin/sleep", "600"], user=user)
    try:
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join([f"{other.pid}\n", *lines[1:]]))
        shutil.rmtree(stack.paths.run)
        assert stack.up().started
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
    assert kept.found() == (True, True, True)


def disk_fills_up(stack: Stack, mountpoint: Path, kept: Kept) -> None:
    """Fill the disk while the stack runs and while it is stopped; then free space and continue."""
    env, ballast = stack.env(), mountpoint / "ballast"
    fill(ballast, mountpoint)
    with pytest.raises(psycopg.Error), psycopg.connect(env["DATABASE_URL"]) as connection:
        connection.execute("CREATE TABLE big AS SELECT repeat(md5(i::text), 100) FROM generate_series(1, 20000) AS i")
    down = photo_worker("down", cwd=mountpoint, env=here(stack))
    assert down.returncode == 0, down.stderr
    assert processes_of(stack.paths.root) == []
    fill(ballast, mountpoint)
    up = photo_worker("up", "-o", "json", cwd=mountpoint, env=here(stack))
    assert up.returncode == 1
    assert json.loads(up.stdout)["error"]["code"] == "disk_full"
    assert len(up.stderr.splitlines()) == 2, "a message and a hint"
    assert processes_of(stack.paths.root) == []
    ballast.unlink()
    assert stack.up().status.running
    assert kept.found() == (True, True, True)


def fill(ballast: Path, mountpoint: Path) -> None:
    """Write until the disk is full."""
    block = b"\0" * MEGABYTE
    with ballast.open("ab", buffering=0) as handle:
        for size in (MEGABYTE, 4096):
            try:
                while handle.write(block[:size]) == size:
                    pass
            except OSError:
                continue
    assert shutil.disk_usage(mountpoint).free < MEGABYTE


def state_of(stack: Stack, service: str) -> str:
    return next(entry.state for entry in stack.status().services if entry.name == service)


def here(stack: Stack) -> dict[str, str]:
    return {"PHOTO_WORKER_HOME": str(stack.paths.home)}


def worktree(place: Path, names: tuple[str, ...]) -> Path:
    """Make a worktree in which stacks of these names have free ports."""
    while True:
        directory = place / secrets.token_hex(4)
        blocks = [ports.StackPorts(ports.derived_base(directory / ".photo-worker", name)) for name in names]
        uses = [use for service in default_services() for use in service.uses]
        if not any(ports.is_taken(block[use]) for block in blocks for use in uses):
            directory.mkdir()
            (directory / "pyproject.toml").touch()
            return directory


def test_three_stacks_in_two_worktrees_share_nothing(place: Path) -> None:
    first, second = worktree(place, ("dev", "other")), worktree(place, ("dev",))
    stacks = {("first", "dev"): first, ("first", "other"): first, ("second", "dev"): second}
    environment = {"PHOTO_WORKER_HOME": ""}
    running = [
        (
            directory,
            name,
            subprocess.Popen(
                [sys.executable, "-m", "photo_worker.cli", "up", "--name", name, "-o", "json"],
                cwd=directory,
                env=user_environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ),
        )
        for (_, name), directory in stacks.items()
    ]
    try:
        ups = []
        for _, _, process in running:
            output, errors = process.communicate(timeout=110)
            assert process.returncode == 0, errors
            ups.append(json.loads(output)["data"])
        variables = [up["env"] for up in ups]
        for name in ADDRESSES:
            assert len({env[name] for env in variables}) == 3, f"{name} is of one stack alone"
        assert variables[0]["TEMPORAL_NAMESPACE"] != variables[1]["TEMPORAL_NAMESPACE"]
        assert variables[0]["S3_BUCKET"] != variables[1]["S3_BUCKET"]
        listening = [set(listening_ports(up)) for up in ups]
        assert all(len(found) >= 7 for found in listening)
        assert sum(map(len, listening)) == len(set.union(*listening)), "no port is of two stacks"

        ids = []
        for env in variables:
            job = f"{secrets.token_hex(4)}-0000-4000-8000-{secrets.token_hex(6)}"
            with psycopg.connect(env["DATABASE_URL"]) as connection:
                connection.execute(INSERT, [job, "b"])
            s3_of(env).put_object(Bucket=env["S3_BUCKET"], Key=job, Body=job.encode())
            ids.append(job)
        for number, (directory, name, _) in enumerate(running):
            with psycopg.connect(variables[number]["DATABASE_URL"]) as connection:
                rows = connection.execute("SELECT id::text FROM recipes").fetchall()
            assert rows == [(ids[number],)]
            bucket = variables[number]["S3_BUCKET"]
            objects = s3_of(variables[number]).list_objects_v2(Bucket=bucket)["Contents"]
            assert [entry["Key"] for entry in objects] == [MARKER_KEY, ids[number]]
            # The application's own commands find their own worktree's stack, by its directory and name alone.
            show = photo_worker("show", ids[number], "--name", name, "-o", "json", cwd=directory, env=environment)
            assert ids[number] in show.stdout, show.stderr
        stranger = photo_worker("show", ids[0], "-o", "json", cwd=second, env=environment)
        assert stranger.returncode == 1
        assert json.loads(stranger.stdout)["error"]["code"] == "job_missing"

        down = photo_worker("down", cwd=first, env=environment)
        assert down.returncode == 0
        assert "dev is stopped" in down.stdout
        assert processes_of(first / ".photo-worker" / "dev") == []
        for directory, name in ((first, "other"), (second, "dev")):
            assert photo_worker("status", "--name", name, cwd=directory, env=environment).returncode == 0
    finally:
        for directory, name, process in running:
            if process.poll() is None:
                process.terminate()
                process.communicate()
            Stack(directory / ".photo-worker", name).delete()


def listening_ports(up: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return the addresses and ports on which a stack's processes listen."""
    known = [psutil.Process(entry["pid"]) for entry in up["services"]]
    known += [child for process in known for child in process.children(recursive=True)]
    return [
        (connection.laddr.ip, connection.laddr.port)
        for process in known
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
