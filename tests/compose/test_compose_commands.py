"""Every command of the stack on a real Docker engine, with any images."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from botocore.exceptions import ClientError
from psycopg import sql

from photo_worker.devkit.compose import localstack
from photo_worker.devkit.container_engine import ContainerEngine
from photo_worker.devkit.containers import containers, project_name
from photo_worker.devkit.environment import stack_environment
from photo_worker.devkit.errors import (
    ImageMissing,
    PortTaken,
    ServiceFailed,
    ServiceUnknown,
    SnapshotImpossible,
    SnapshotOfOtherKind,
    StackDiffers,
    StackMoved,
    StackNotReady,
    StackNotRunning,
)
from photo_worker.devkit.local_stack import StackOptions, local_stack
from photo_worker.devkit.readiness import ResetFailed
from photo_worker.devkit.stack import Stack
from photo_worker.devkit.state import StackRecord
from tests.compose.support import (
    MakeStack,
    client,
    command_variables,
    elsewhere,
    kill,
    left_of,
    make_stack,
    require_engine,
)

__all__ = ["make_stack"]

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]


def again(stack: Stack, **options: Any) -> Stack:
    """Return the same stack with other options."""
    return Stack(stack.paths.home, stack.name, kind="compose", offline=True, **options)


def command(stack: Stack, *arguments: str, code: int = 0) -> Any:
    """Run a command that prints JSON and return its data, or the code of its error."""
    argv = [sys.executable, "-m", "photo_worker.cli", *arguments, "-o", "json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=command_variables(stack), timeout=200)
    assert done.returncode == code, (done.stdout, done.stderr)
    response = json.loads(done.stdout)
    return response["data"] if response["error"] is None else response["error"]["code"]


def states(data: Any) -> dict[str, str]:
    return {service["name"]: service["state"] for service in data["services"]}


def keep(env: dict[str, str], word: str) -> None:
    """Store a word in Postgres."""
    with psycopg.connect(env["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (word text)")
        connection.execute("INSERT INTO kept VALUES (%s)", [word])


def kept(env: dict[str, str]) -> set[str]:
    with psycopg.connect(env["DATABASE_URL"]) as connection:
        if connection.execute("SELECT to_regclass('kept')").fetchone() == (None,):
            return set()
        return {str(word) for (word,) in connection.execute("SELECT word FROM kept")}


def fail(env: dict[str, str], what: str) -> None:
    """Make Postgres log an error that contains ``what``."""
    with psycopg.connect(env["DATABASE_URL"]) as connection, pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(what)))


def test_stack_commands_through_a_lifecycle_succeed(make_stack: MakeStack) -> None:
    require_engine("temporal", "postgres", "aws", "textract")
    # Durable like the commands' own options, so that they find no difference.
    stack = make_stack(durable=True)
    begun = stack.up()
    assert begun.started
    assert [line.name for line in begun.status.services] == ["temporal", "postgres", "aws", "textract"]
    groups = {span.group for span in begun.timeline.spans()}
    assert groups == {"stack", "temporal", "postgres", "aws", "textract"}, "--timings shows each service"

    again = command(stack, "up", "--offline")
    assert (again["started"], again["running"]) == (False, True)
    assert set(states(command(stack, "wait", "--timeout", "60")).values()) == {"running"}
    env = command(stack, "env")
    assert env == stack.env() == stack_environment(stack.name, stack.paths.home)
    assert local_stack(stack.name, home=stack.paths.home).status().running, "the record says what kind it is"

    keep(env, "first")
    client(env, "s3").put_object(Bucket=env["S3_BUCKET"], Key="k", Body=b"x")
    with pytest.raises(SnapshotImpossible, match="LocalStack"):
        stack.save_snapshot("early")
    assert client(env, "s3").get_object(Bucket=env["S3_BUCKET"], Key="k")["Body"].read() == b"x", "nothing was stopped"

    # Faults, which the next `up` clears.
    assert command(stack, "faults", "set", "textract", "throttle", "--times", "2")["faults"][0]["fault"] == "throttle"
    assert command(stack, "faults", "set", "textract", "--pause") is not None
    assert states(command(stack, "status", code=1))["textract"] == "paused"
    since = datetime.fromisoformat(stack.paused()["textract"] or "")
    assert abs(datetime.now(UTC) - since) < timedelta(minutes=5)
    assert command(stack, "up", "--offline")["started"] is False
    assert stack.paused() == {}
    assert command(stack, "faults", "list")["faults"] == []

    # A reset leaves the stack running, empty, with the same addresses and password.
    keep(env, "second")
    client(env, "s3").create_bucket(Bucket="another-bucket")
    client(env, "s3").put_bucket_versioning(Bucket="another-bucket", VersioningConfiguration={"Status": "Enabled"})
    for body in (b"one", b"two"):
        client(env, "s3").put_object(Bucket="another-bucket", Key="k", Body=body)
    client(env, "sqs").create_queue(QueueName="another-queue")
    before = {name: entry.id for name, entry in containers(ContainerEngine(), project_name(stack.paths)).items()}
    steps = [span["step"] for span in command(stack, "reset", "--yes", "--timings")["timings"]]
    assert "empty" in steps
    assert not [step for step in steps if step.startswith("not emptied")]
    after = {name: entry.id for name, entry in containers(ContainerEngine(), project_name(stack.paths)).items()}
    assert {name for name in after if after[name] != before[name]} == {"temporal"}, "the others went on"
    assert stack.env() == env
    assert kept(env) == set()
    assert [bucket["Name"] for bucket in client(env, "s3").list_buckets()["Buckets"]] == [env["S3_BUCKET"]]
    assert not [url for url in client(env, "sqs").list_queues()["QueueUrls"] if url.endswith("another-queue")]
    # Data in a region that a reset cannot empty is detected, so that it restarts the service.
    client({**env, "AWS_REGION": "eu-west-1"}, "sqs").create_queue(QueueName="far-away")
    record = StackRecord.load(stack.paths)
    assert record is not None
    with pytest.raises(ResetFailed, match="sqs of eu-west-1"):
        localstack.empty(record)

    assert command(stack, "down")["stopped"] is True
    assert sorted(left_of(stack)) == [
        f"{project_name(stack.paths)}_{name}" for name in ("postgres", "temporal", "textract")
    ]
    assert command(stack, "down")["stopped"] is False
    assert command(stack, "env", code=1) == "stack_not_running"
    assert stack_environment(stack.name, stack.paths.home) is None
    assert set(states(command(stack, "status", code=1)).values()) == {"stopped"}
    assert stack.tail("postgres", 5), "what it wrote is kept"


def test_status_when_container_dies_fails_and_up_restarts_all(make_stack: MakeStack, stack_env: dict[str, str]) -> None:
    require_engine("temporal", "postgres")
    stack = make_stack(external=elsewhere(stack_env, "temporal", "postgres"))
    stack.up()
    env = stack.env()
    keep(env, "first")
    before = {entry.id for entry in containers(ContainerEngine(), project_name(stack.paths)).values()}
    kill(stack, "temporal")
    seen = command(stack, "status", code=1)
    assert (states(seen)["temporal"], states(seen)["postgres"]) == ("exited", "running")
    assert next(one["exit_code"] for one in seen["services"] if one["name"] == "temporal") == 137
    assert command(stack, "wait", "--timeout", "60", code=1) == "service_failed"
    assert command(stack, "up", "--offline")["started"] is True
    assert not before & {entry.id for entry in containers(ContainerEngine(), project_name(stack.paths)).values()}
    assert stack.env() == env
    assert kept(env) == {"first"}


def test_minio_stack_down_up_and_snapshot_preserve_objects(make_stack: MakeStack, stack_env: dict[str, str]) -> None:
    require_engine("postgres", "s3")
    stack = make_stack(s3="minio", external=elsewhere(stack_env, "postgres", "s3"))
    report = stack.up()
    assert {line.name: line.version for line in report.status.services if line.version == "external"}.keys() == {
        "temporal",
        "sns",
        "sqs",
        "textract",
    }
    assert stack.services == ("postgres", "s3")
    env = stack.env()
    s3 = client(env, "s3")
    keep(env, "saved")
    s3.put_object(Bucket=env["S3_BUCKET"], Key="k", Body=b"saved")
    saved = stack.save_snapshot("seeded")
    assert (saved.kind, saved.s3) == ("compose", "minio")
    assert saved.bytes > 1_000_000
    assert stack.status().running, "it runs again"
    keep(env, "later")
    s3.put_object(Bucket=env["S3_BUCKET"], Key="k", Body=b"later")

    # A stop and start loses nothing: MinIO keeps objects on disk.
    stack.down()
    stack.up()
    assert kept(env) == {"saved", "later"}
    assert s3.get_object(Bucket=env["S3_BUCKET"], Key="k")["Body"].read() == b"later"

    stack.load_snapshot("seeded")
    assert stack.env() == env
    assert kept(env) == {"saved"}
    assert s3.get_object(Bucket=env["S3_BUCKET"], Key="k")["Body"].read() == b"saved"
    stack.reset()
    assert kept(env) == set()
    with pytest.raises(ClientError):
        s3.get_object(Bucket=env["S3_BUCKET"], Key="k")
    stack.load_snapshot("seeded")
    assert kept(env) == {"saved"}, "a reset leaves snapshots alone"

    # A snapshot belongs to one kind of stack and one S3 server.
    before = {entry.id for entry in containers(ContainerEngine(), project_name(stack.paths)).values()}
    native = local_stack(stack.name, StackOptions(kind="native"), home=stack.paths.home)
    with pytest.raises(SnapshotOfOtherKind, match="compose"):
        native.load_snapshot("seeded")
    with pytest.raises(StackDiffers):
        again(stack, s3="localstack").up()
    with pytest.raises(SnapshotOfOtherKind, match="minio"):
        again(stack, s3="localstack").load_snapshot("seeded")
    assert before == {entry.id for entry in containers(ContainerEngine(), project_name(stack.paths)).values()}, (
        "nothing was touched"
    )


def test_two_stacks_at_once_share_no_data_or_ports(make_stack: MakeStack, stack_env: dict[str, str]) -> None:
    require_engine("postgres")
    external = elsewhere(stack_env, "postgres")
    one, other = make_stack(external=external), make_stack(external=external)
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda stack: stack.up(), (one, other)))
    assert all(report.status.running for report in reports)
    first, second = one.env(), other.env()
    assert first["DATABASE_URL"] != second["DATABASE_URL"]
    assert first["S3_BUCKET"] != second["S3_BUCKET"]
    keep(first, "of the first")
    assert kept(second) == set()
    # A third stack on the first one's ports names the container that has them.
    base = int(first["DATABASE_URL"].rpartition(":")[2].partition("/")[0]) - 4
    with pytest.raises(PortTaken, match=f"container {project_name(one.paths)}-postgres-1"):
        make_stack(external=external, base_port=base).up()
    with pytest.raises(StackMoved):
        again(one, base_port=base + 20).up()
    one.down()
    assert other.status().running
    assert kept(second) == set()


def test_up_interrupted_leaves_no_container(make_stack: MakeStack, stack_env: dict[str, str]) -> None:
    require_engine("temporal", "postgres")
    stack = make_stack()
    external = [f"--external={name}={where}" for name, where in elsewhere(stack_env, "temporal", "postgres").items()]
    argv = [sys.executable, "-m", "photo_worker.cli", "up", "--offline", *external]
    child = subprocess.Popen(
        argv, env=command_variables(stack), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    eventually(lambda: bool(containers(ContainerEngine(), project_name(stack.paths))), child)
    child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert containers(ContainerEngine(), project_name(stack.paths)) == {}
    assert stack.status().running is False
    # Nothing prevents another start.
    assert again(stack).up().status.running


def eventually(seen: Callable[[], bool], child: subprocess.Popen[bytes] | None = None, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline
        assert child is None or child.poll() is None, child.communicate()
        time.sleep(0.05)


def test_up_when_service_exits_names_it_and_keeps_container(
    make_stack: MakeStack, stack_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    require_engine("temporal", "postgres")
    stack = make_stack(external=elsewhere(stack_env, "temporal", "postgres"))
    # Another program's image: it ends at once with an error.
    monkeypatch.setenv("PW_POSTGRES_IMAGE", "photo-worker-textract:dev")
    with pytest.raises(ServiceFailed, match=r"(?s)postgres is not ready: its container ended.*postgres \| "):
        stack.up()
    left = {line.name: line.state for line in stack.status().services if line.name in stack.services}
    assert left["postgres"] == "exited"
    assert left["temporal"] in {"starting", "running"}
    assert stack.tail("postgres", 20)
    monkeypatch.delenv("PW_POSTGRES_IMAGE")
    assert stack.up().status.running, "with the cause removed it starts"


def test_up_offline_with_missing_image_fails(
    make_stack: MakeStack, stack_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    require_engine("postgres")
    stack = make_stack(external=elsewhere(stack_env, "postgres"))
    monkeypatch.setenv("PW_POSTGRES_IMAGE", "photo-worker-there-is-no-such-image:1")
    with pytest.raises(ImageMissing, match="photo-worker-there-is-no-such-image:1 of the service postgres"):
        stack.up()
    assert left_of(stack) == []


def test_logs_follow_continues_after_restart(make_stack: MakeStack, stack_env: dict[str, str]) -> None:
    require_engine("postgres")
    stack = make_stack(external=elsewhere(stack_env, "postgres"))
    stack.up()
    old = set(stack.tail("postgres", 1000))
    assert old
    stopped = threading.Event()
    lines: list[str] = []
    news = stack.follow(["postgres", "temporal"], stopped.is_set)

    def read() -> None:
        lines.extend(line for service, line in news if service == "postgres")

    reader = threading.Thread(target=read)
    reader.start()
    try:
        fail(stack.env(), "a_first_thing")
        eventually(lambda: any("a_first_thing" in line for line in lines))
        stack.down()
        stack.up()
        fail(stack.env(), "a_second_thing")
        eventually(lambda: any("a_second_thing" in line for line in lines))
    finally:
        stopped.set()
        reader.join(30)
    assert sum("a_first_thing" in line and "ERROR" in line for line in lines) == 1, "each line once"
    assert not any(line in old for line in lines[:1]), "and none that was there before"


def test_up_and_down_after_lost_record_find_containers(make_stack: MakeStack, stack_env: dict[str, str]) -> None:
    require_engine("postgres")
    external = elsewhere(stack_env, "postgres")
    stack = make_stack(external=external)
    stack.up()
    env = stack.env()
    keep(env, "still here")
    # Like `git clean` while the stack runs.
    shutil.rmtree(stack.paths.root)
    with pytest.raises(StackNotRunning):
        stack.env()
    stack.up()
    assert kept(stack.env()) == {"still here"}
    shutil.rmtree(stack.paths.root)
    assert command(stack, "down")["stopped"] is True, "containers are found without the record"
    assert containers(ContainerEngine(), project_name(stack.paths)) == {}


def test_stopped_stack_wait_and_pause_are_refused(make_stack: MakeStack, stack_env: dict[str, str]) -> None:
    require_engine("postgres")
    stack = make_stack(external=elsewhere(stack_env, "postgres"))
    with pytest.raises(StackNotReady, match="postgres is stopped"):
        stack.wait(0.2)
    with pytest.raises(ServiceUnknown, match="has no service 'temporal' of its own"):
        stack.pause("temporal")
    with pytest.raises(StackNotRunning):
        stack.pause("postgres")
    stack.resume("postgres")
    assert stack.down() is False
