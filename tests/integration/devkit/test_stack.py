"""Stacks of the real services: what they store and keep, access to them, and that nothing is left of them."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from benchmarks.concurrent_stacks import MEMORY_BAR_MIB, resident_mib
from photo_worker.devkit import database
from photo_worker.devkit.layout import StackPaths
from photo_worker.devkit.ports import free_base
from photo_worker.devkit.postgres import User, reachable
from photo_worker.devkit.readiness import ResetFailed
from photo_worker.devkit.stack import Stack
from photo_worker.devkit.state import Processes
from photo_worker.services.binding import MARKER_KEY
from tests.integration.devkit.clients import client
from tests.integration.devkit.fake_services import processes_of, wait_until
from tests.support import workflows

pytestmark = pytest.mark.stack

ROOT = Path(__file__).parents[3]
NOBODY = 65_534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs commands as another user")


@pytest.fixture
def home() -> Iterator[Path]:
    """A short path that other users can pass through, like most worktrees."""
    directory = Path(tempfile.mkdtemp(prefix="pw-")).resolve()
    directory.chmod(0o755)
    yield directory
    left = processes_of(directory)
    for process in left:
        process.kill()
    shutil.rmtree(directory)
    assert left == []


def cli(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "photo_worker.cli", *arguments],
        env={**os.environ, "PHOTO_WORKER_HOME": str(home)},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def cli_as_nobody(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as an unprivileged user, with an interpreter of this version that the user can reach."""
    user = User(NOBODY, NOBODY)
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [Path(sys.executable), *(Path(directory, name) for directory in ("/usr/bin", "/usr/local/bin"))]
    python = next((path for path in candidates if path.exists() and reachable(path, user)), None)
    own = str(ROOT / "packages")
    packages = [str(ROOT), *(path for path in sys.path if path.endswith("-packages") or path.startswith(own))]
    if python is None or not all(reachable(Path(path), user) for path in packages):
        pytest.skip("no interpreter or packages that another user can reach")
    return subprocess.run(
        [python, "-m", "photo_worker.cli", *arguments],
        env={"PHOTO_WORKER_HOME": str(home), "PYTHONPATH": os.pathsep.join(packages), "HOME": str(home)},
        cwd="/",
        user=user.uid,
        group=user.gid,
        extra_groups=[],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def deployment(env: Mapping[str, str]) -> str:
    """Return the deployment id, after checking that database and bucket have the same one."""
    marker = json.loads(client("s3", env).get_object(Bucket=env["S3_BUCKET"], Key=MARKER_KEY)["Body"].read())
    with psycopg.connect(env["DATABASE_URL"]) as connection:
        assert connection.execute("SELECT id::text FROM deployment").fetchall() == [(marker["deployment"],)]
    return str(marker["deployment"])


def family(stack: Stack) -> list[psutil.Process]:
    known = Processes.load(stack.paths)
    supervisor = psutil.Process(known.pid)
    return [supervisor, *supervisor.children(recursive=True)]


def listening_on(process: psutil.Process) -> list[Any]:
    """Return the addresses a process listens on; none if it has ended, as a connection's Postgres does at any time."""
    try:
        return [found.laddr for found in process.net_connections("inet") if found.status == psutil.CONN_LISTEN]
    except psutil.NoSuchProcess:
        return []


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


@pytest.mark.io_bound
def test_stack_lifecycle_on_real_services(home: Path) -> None:
    stack = Stack(home, f"t-{secrets.token_hex(3)}", base_port=0, durable=False)
    report = stack.up()
    assert report.started
    assert {service.name for service in report.status.services} == {"temporal", "postgres", "aws", "textract"}
    env = stack.env()
    password = psycopg.conninfo.conninfo_to_dict(env["DATABASE_URL"])["password"]
    assert isinstance(password, str)

    memory = resident_mib(stack)
    assert set(memory) == {"temporal", "postgres", "aws", "textract", "supervisor"}
    assert sum(memory.values()) <= MEMORY_BAR_MIB, memory

    processes = family(stack)
    listening = [address for process in processes for address in listening_on(process)]
    assert len(listening) >= 7
    assert all(address[0].startswith("127.") for address in listening)
    assert not [process for process in processes if password in command_line(process)]
    assert password not in json.dumps([str(service) for service in report.status.services])
    for log in stack.paths.logs.iterdir():
        assert password not in log.read_text(errors="replace")
    assert stat.S_IMODE(stack.paths.record.stat().st_mode) == 0o600
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(env["DATABASE_URL"].replace(password, "wrong"))

    s3, sqs, sns = client("s3", env), client("sqs", env), client("sns", env)
    first = deployment(env)
    s3.put_object(Bucket=env["S3_BUCKET"], Key="kept/é +.txt", Body=b"bytes")
    # The job fails, since this is no document, but a failed job is kept as well.
    textract = client("textract", env)
    location = {"S3Object": {"Bucket": env["S3_BUCKET"], "Name": "kept/é +.txt"}}
    job = textract.start_document_text_detection(DocumentLocation=location)["JobId"]
    insert = (
        "INSERT INTO recipes (id, s3_raw_bucket, s3_raw_key, content_sha256) VALUES (gen_random_uuid(), 'b', 'k', '')"
    )
    with psycopg.connect(env["DATABASE_URL"]) as connection:
        connection.execute(insert)
    sns.publish(TopicArn=env["SNS_TOPIC_ARN"], Message="hello")
    received = sqs.receive_message(QueueUrl=env["SQS_QUEUE_URL"], WaitTimeSeconds=5)["Messages"]
    assert [json.loads(message["Body"])["Message"] for message in received] == ["hello"]

    workflows.start(env, "kept")
    assert workflows.is_kept(env, "kept")

    # ministack loses queues and subscriptions when it is killed; the next `up` has to create them again.
    victim = Processes.load(stack.paths).services["aws"].pid
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: not stack.status().running, "the death is noticed")
    assert stack.up().started
    assert len(sns.list_subscriptions_by_topic(TopicArn=env["SNS_TOPIC_ARN"])["Subscriptions"]) == 1
    assert not stack.up().started
    assert len(sns.list_subscriptions_by_topic(TopicArn=env["SNS_TOPIC_ARN"])["Subscriptions"]) == 1

    processes = family(stack)
    assert stack.down()
    wait_until(lambda: not [process for process in processes if process.is_running()], "every process has ended")
    assert processes_of(stack.paths.root) == []
    stack.save_snapshot("kept")

    stack.up()
    assert stack.env() == env
    assert deployment(env) == first
    assert s3.get_object(Bucket=env["S3_BUCKET"], Key="kept/é +.txt")["Body"].read() == b"bytes"
    with psycopg.connect(env["DATABASE_URL"]) as connection:
        assert connection.execute("SELECT count(*) FROM recipes").fetchone() == (1,)
    wait_until(lambda: textract.get_document_text_detection(JobId=job)["JobStatus"] == "FAILED", "the job is known")

    with server(env) as connection:
        connection.execute("CREATE DATABASE mine")
        connection.execute("COMMENT ON DATABASE photo_worker_pristine IS 'made by other steps'")
    before = {service.name: service.pid for service in stack.status().services}

    stack.reset()
    assert stack.env() == env
    same = {service.name for service in stack.status().services if service.pid == before[service.name]}
    assert same == {"postgres", "aws", "textract"}, "of a stack that runs, Temporal alone begins anew"
    assert not workflows.is_kept(env, "kept")
    with server(env) as connection:
        databases: list[tuple[str, str]] = connection.execute(
            "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database WHERE NOT datistemplate"
        ).fetchall()
    comments = dict(databases)
    assert comments.keys() == {"postgres", "photo_worker", "photo_worker_pristine"}
    assert comments["photo_worker"] == comments["photo_worker_pristine"] != "made by other steps"
    assert len(sns.list_subscriptions_by_topic(TopicArn=env["SNS_TOPIC_ARN"])["Subscriptions"]) == 1
    with pytest.raises(textract.exceptions.InvalidJobIdException):
        textract.get_document_text_detection(JobId=job)
    listed = s3.list_objects_v2(Bucket=env["S3_BUCKET"])["Contents"]
    assert [entry["Key"] for entry in listed] == [MARKER_KEY]
    assert deployment(env) != first, "a database that was made anew is another one"
    with psycopg.connect(stack.env()["DATABASE_URL"]) as connection:
        assert connection.execute("SELECT count(*) FROM recipes").fetchone() == (0,)

    assert stack.load_snapshot("kept").status.running
    assert stack.env() == env
    assert deployment(env) == first
    assert s3.get_object(Bucket=env["S3_BUCKET"], Key="kept/é +.txt")["Body"].read() == b"bytes"
    with psycopg.connect(env["DATABASE_URL"]) as connection:
        assert connection.execute("SELECT count(*) FROM recipes").fetchone() == (1,)
    assert workflows.is_kept(env, "kept")
    assert textract.get_document_text_detection(JobId=job)["JobStatus"] == "FAILED"
    for change, undo in (
        ("CREATE ROLE guest", "DROP ROLE guest"),
        ("ALTER ROLE photo_worker SET work_mem = '1MB'", "ALTER ROLE photo_worker RESET ALL"),
        ("ALTER SYSTEM SET work_mem = '1MB'", "ALTER SYSTEM RESET ALL"),
        ("CREATE TABLE guest ()", "DROP TABLE guest"),
        ("CREATE FUNCTION guest() RETURNS int RETURN 1", "DROP FUNCTION guest"),
    ):
        with server(env) as connection:
            connection.execute(change)
        # A reset then restarts Postgres without data, as it does with every service that it cannot empty.
        with pytest.raises(ResetFailed):
            database.empty(env)
        with server(env) as connection:
            connection.execute(undo)
    database.empty(env)
    stack.delete()
    assert not stack.paths.root.exists()


def server(env: Mapping[str, str]) -> psycopg.Connection[Any]:
    """Connect to the database that every server has."""
    url = psycopg.conninfo.make_conninfo(env["DATABASE_URL"], dbname="postgres")
    return psycopg.connect(url, autocommit=True)


def test_stack_commands_agree_on_running_stack(stack_env: dict[str, str]) -> None:
    home, name = Path(os.environ["PHOTO_WORKER_TEST_HOME"]), os.environ["PHOTO_WORKER_TEST_STACK"]
    up = json.loads(cli("up", "--name", name, "-o", "json", "--timings", home=home).stdout)
    assert up["status"] == "ok"
    assert up["data"]["started"] is False
    assert up["data"]["env"] == stack_env
    assert {span["group"] for span in up["data"]["timings"]} == {"temporal", "postgres", "aws", "textract", "stack"}

    status = cli("status", "--name", name, "-o", "json", home=home)
    assert status.returncode == 0
    services = json.loads(status.stdout)["data"]["services"]
    assert [service["state"] for service in services] == ["running"] * 4
    keys = {"name", "state", "version", "url", "port", "pid", "uptime_seconds", "exit_code"}
    assert all(service.keys() == keys for service in services)

    waited = cli("wait", "--name", name, "-o", "json", home=home)
    assert waited.returncode == 0
    assert json.loads(waited.stdout)["data"]["running"] is True
    text = cli("status", "--name", name, home=home).stdout
    assert text.splitlines()[0].split() == ["SERVICE", "STATE", "VERSION", "URL", "PORT", "PID", "UPTIME"]
    assert json.loads(cli("env", "--name", name, "-o", "json", home=home).stdout)["data"] == stack_env
    assert "TEMPORAL_NAMESPACE=" in cli("up", "--name", name, "-o", "env", home=home).stdout
    # The suggested next commands name this stack.
    assert f"stop it: photo-worker down --name {name}\n" in cli("up", "--name", name, home=home).stdout
    assert "database system is ready" in cli("logs", "--name", name, "-n", "100000", "postgres", home=home).stdout


@pytest.mark.parametrize("delay", [0.6, 1.5])
def test_up_killed_on_real_services_leaves_no_process(home: Path, delay: float) -> None:
    up = subprocess.Popen(
        [sys.executable, "-m", "photo_worker.cli", "up", "--base-port", str(free_base())],
        env={**os.environ, "PHOTO_WORKER_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    stack = Stack(home, "dev")
    wait_until(lambda: up.poll() is not None or Processes.load(stack.paths).alive, "the supervisor runs")
    with pytest.raises(subprocess.TimeoutExpired):
        up.wait(timeout=delay)
    processes = family(stack)
    up.kill()
    up.wait(timeout=10)
    wait_until(lambda: not [process for process in processes if process.is_running()], "every process has ended")
    wait_until(lambda: processes_of(home) == [], "nothing mentions the stack any more")


@as_root
def test_up_as_unprivileged_user_runs_all_as_that_user(home: Path) -> None:
    os.chown(home, NOBODY, NOBODY)
    up = cli_as_nobody("up", "--base-port", str(free_base()), "-o", "json", home=home)
    stack = Stack(home, "dev")
    try:
        assert up.returncode == 0, up.stderr
        assert {process.uids().real for process in family(stack)} == {NOBODY}
        assert {path.stat().st_uid for path in stack.paths.root.iterdir()} == {NOBODY}
    finally:
        down = cli_as_nobody("down", home=home)
    assert down.returncode == 0
    assert processes_of(home) == []


@as_root
@pytest.mark.parametrize("command", ["up", "reset"])
def test_up_and_reset_unwritable_home_names_directory(home: Path, command: str) -> None:
    arguments = [command, "--yes"] if command == "reset" else [command]
    response = cli_as_nobody(*arguments, "-o", "json", home=home / "stacks")
    assert response.returncode == 1
    error = json.loads(response.stdout)["error"]
    assert error["code"] == "data_unwritable"
    assert str(home / "stacks") in error["message"]
    assert "Permission denied" in error["message"]


def test_down_and_reset_work_with_damaged_record(home: Path) -> None:
    base = str(free_base())
    assert cli("up", "--base-port", base, home=home).returncode == 0
    record = StackPaths(home, "dev").record
    record.write_text('{"format": 1, "base_port": "15000"}')
    told = cli("up", home=home)
    assert told.returncode == 1
    assert "error [data_mismatch]" in told.stderr
    assert "delete the data with `photo-worker reset`" in told.stderr
    stopped = cli("down", home=home)
    assert (stopped.returncode, stopped.stderr) == (0, "")
    assert processes_of(home) == []
    reset = cli("reset", "--yes", "--base-port", base, home=home)
    assert reset.returncode == 0, reset.stderr
    assert cli("down", home=home).returncode == 0


def test_up_command_taken_port_exits_1(home: Path) -> None:
    base = free_base()
    with socket.create_server(("127.0.0.1", base + 5)):
        response = cli("up", "--base-port", str(base), home=home)
    assert response.returncode == 1
    assert response.stdout == ""
    assert f"error [port_taken]: Port {base + 5}, which aws needs, is taken by process {os.getpid()}" in response.stderr
    assert "--base-port" in response.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["env", "-o", "json"], 1, "stack_not_running"),
        (["wait", "--timeout", "0", "-o", "json"], 1, "stack_not_ready"),
        (["reset", "-o", "json"], 1, "confirmation_required"),
        (["up", "--name", "../up", "-o", "json"], 2, "stack_name_invalid"),
        (["up", "--base-port", "80"], 2, None),
        (["logs", "mailserver"], 2, None),
        (["status", "-o", "yaml"], 2, None),
    ],
)
def test_stack_commands_failure_has_stable_code(home: Path, arguments: list[str], code: int, error: str | None) -> None:
    response = cli(*arguments, home=home)
    assert response.returncode == code
    if error is None:
        assert response.stdout == ""
    else:
        envelope = json.loads(response.stdout)
        assert envelope.keys() == {"schemaVersion", "command", "status", "data", "warnings", "error"}
        assert envelope["status"] == "failed"
        assert envelope["error"]["code"] == error


def test_status_down_logs_without_stack_write_nothing(home: Path) -> None:
    status = cli("status", "-o", "json", home=home)
    assert status.returncode == 1
    assert {service["state"] for service in json.loads(status.stdout)["data"]["services"]} == {"stopped"}
    down = cli("down", "-o", "json", home=home)
    assert down.returncode == 0
    assert json.loads(down.stdout)["data"] == {"name": "dev", "stopped": False}
    assert cli("logs", home=home).stdout == ""
    assert list(home.iterdir()) == []
