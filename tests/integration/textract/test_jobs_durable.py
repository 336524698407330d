"""Jobs and their tokens survive any end of the emulator."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.integration.textract.jobs_world import ANALYSIS, Channel, World, world_in
from tests.support.proxy import Proxy, proxy_to
from textract_support.emulator import DEADLINE_SECONDS, document, until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.stack

Begin = Callable[..., AbstractContextManager[World]]


@pytest.fixture
def begin(stack_env: dict[str, str], s3_client: S3Client, bucket: str, tmp_path: Path) -> Begin:
    """Return a function that starts an emulator on the test's data directory."""

    def begun(**variables: str) -> AbstractContextManager[World]:
        return world_in(tmp_path / "emulator", stack_env, s3_client, bucket, **variables)

    return begun


def end(world: World, number: signal.Signals) -> None:
    world.running.process.send_signal(number)
    world.running.process.wait(timeout=DEADLINE_SECONDS)


def pages_done(world: World, job_id: str, pages: int) -> Callable[[], bool]:
    return lambda: bool(world.jobs()[job_id]["PagesDone"] == pages)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_job_resumes_from_done_pages_after_signal(
    begin: Begin, channel: Channel, tmp_path: Path, number: signal.Signals
) -> None:
    gate, log = tmp_path / "gate", tmp_path / "read.log"
    # Pages are read in any order: while one waits, the other process reads the rest.
    content = document("Oats", pages=6, log=str(log), wait_for=str(gate), wait_from=6)
    given = {"NotificationChannel": channel.member, "ClientRequestToken": "token", "JobTag": "tag"}
    with begin() as world:
        key = world.stored(content)
        job_id = world.start(key, **given)
        until(pages_done(world, job_id, 5))
        end(world, number)
    # The object is replaced in the meantime.
    world.stored(document("Other"), key)
    gate.touch()
    with begin() as world:
        assert world.start(key, **given) == job_id
        response = world.ended(job_id)
        assert [block["Text"] for block in response["Blocks"] if block["BlockType"] == "LINE"] == [
            "Oats",
            *(f"Oats {page}" for page in range(2, 7)),
        ]
        assert world.tally(hashlib.sha256(content).hexdigest())["billed"] == 1
        fence = world.start(key, NotificationChannel=channel.member)
        assert [message["JobId"] for message in channel.until(fence)] == [job_id, fence]
    read = log.read_text("utf-8").splitlines()
    assert [read.count(f"Oats {page}") for page in range(1, 6)] == [1] * 5


def test_job_results_and_tokens_survive_kill(begin: Begin) -> None:
    with begin() as world:
        key = world.stored(document("Oats and barley", pages=3))
        job_id = world.start(key, ANALYSIS, ClientRequestToken="token")
        whole = world.ended(job_id, ANALYSIS)
        token = world.get(job_id, ANALYSIS, MaxResults=4)["NextToken"]
        rest = world.get(job_id, ANALYSIS, NextToken=token)
        end(world, signal.SIGKILL)
    with begin() as world:
        assert world.get(job_id, ANALYSIS) == whole
        assert world.get(job_id, ANALYSIS, NextToken=token) == rest
        assert rest["Blocks"] == whole["Blocks"][4:]
        assert world.start(key, ANALYSIS, ClientRequestToken="token") == job_id


@pytest.fixture
def sns_proxy(stack_env: dict[str, str]) -> Iterator[Proxy]:
    with proxy_of(stack_env, "AWS_ENDPOINT_URL_SNS") as proxy:
        yield proxy


@pytest.fixture
def s3_proxy(stack_env: dict[str, str]) -> Iterator[Proxy]:
    with proxy_of(stack_env, "AWS_ENDPOINT_URL_S3") as proxy:
        yield proxy


def proxy_of(stack_env: dict[str, str], name: str) -> AbstractContextManager[Proxy]:
    address = urlsplit(stack_env[name])
    return proxy_to(address.hostname or "", address.port or 0)


def test_job_output_write_retries_until_s3_returns(begin: Begin, s3_proxy: Proxy, tmp_path: Path, bucket: str) -> None:
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    with begin(AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{s3_proxy.port}") as world:
        key = world.stored(document("Oats", wait_for=str(gate), begun=str(begun)))
        job_id = world.start(key, OutputConfig={"S3Bucket": bucket, "S3Prefix": "out"})
        until(begun.exists)
        s3_proxy.down()
        gate.touch()
        until(lambda: "tried again in 0.5 s: InternalServerError" in world.running.log.read_text("utf-8"))
        s3_proxy.up()
        assert world.ended(job_id)["JobStatus"] == "SUCCEEDED"
        written = world.s3.get_object(Bucket=bucket, Key=f"out/{job_id}/1")["Body"].read()
    assert json.loads(written)["JobStatus"] == "SUCCEEDED"


def test_job_document_download_retries_until_s3_returns(begin: Begin, s3_proxy: Proxy, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with begin(AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{s3_proxy.port}") as world:
        # As many as run at once: the next one downloads its document after them.
        first = [world.start(world.stored(document(f"{n}", wait_for=str(gate)))) for n in range(16)]
        until(lambda: all(world.jobs()[job_id]["Pages"] == 1 for job_id in first))
        job_id = world.start(world.stored(document("Oats")))
        s3_proxy.down()
        gate.touch()
        until(lambda: "tried again in 0.5 s: InternalServerError" in world.running.log.read_text("utf-8"))
        s3_proxy.up()
        assert world.ended(job_id)["JobStatus"] == "SUCCEEDED"


@pytest.mark.parametrize("killed", [False, True])
def test_notification_retries_until_sns_returns(
    begin: Begin, channel: Channel, sns_proxy: Proxy, *, killed: bool
) -> None:
    variables = {"AWS_ENDPOINT_URL_SNS": f"http://127.0.0.1:{sns_proxy.port}"}
    with begin(**variables) as world:
        sns_proxy.down()
        # The job starts even if the topic cannot be checked.
        job_id = world.start(world.stored(document()), NotificationChannel=channel.member)
        assert world.ended(job_id)["JobStatus"] == "SUCCEEDED"
        until(lambda: f"notification of job {job_id} is tried again" in world.running.log.read_text("utf-8"))
        if killed:
            end(world, signal.SIGKILL)
        else:
            sns_proxy.up()
            assert [message["JobId"] for message in channel.until(job_id)] == [job_id]
    if killed:
        sns_proxy.up()
        with begin(**variables):
            assert [message["JobId"] for message in channel.until(job_id)] == [job_id]


def test_emulator_data_directory_in_use_is_refused(begin: Begin, tmp_path: Path) -> None:
    data = tmp_path / "emulator" / "data"
    with begin():
        done = subprocess.run(
            [sys.executable, "-m", "textract_local.server", "--port", "0", "--data", str(data)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode != 0
    assert f"Another Textract emulator uses the data folder '{data}" in done.stderr
    assert "Traceback" not in done.stderr


def test_reset_forgets_running_jobs(begin: Begin, channel: Channel, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with begin() as world:
        key = world.stored(document(wait_for=str(gate)))
        given = {"NotificationChannel": channel.member, "ClientRequestToken": "token"}
        job_id = world.start(key, **given)
        world.control("reset")
        with pytest.raises(world.textract.exceptions.InvalidJobIdException):
            world.get(job_id)
        assert world.jobs() == {}
        gate.touch()
        again = world.start(key, **given)
        assert again != job_id
        assert [message["JobId"] for message in channel.until(again)] == [again]


SCRIPTED = ["late", "doubled", "lost", "out-of-order"]


@pytest.mark.parametrize("kind", SCRIPTED)
def test_notification_faults_follow_script(begin: Begin, channel: Channel, kind: str) -> None:
    with begin() as world:
        rule = {"kind": f"notification-{kind}", "calls": [1]}
        world.control("faults", "PUT", rules=[rule | ({"seconds": 2} if kind == "late" else {})])
        ids = []
        for _ in range(3):
            ids.append(world.start(world.stored(document()), NotificationChannel=channel.member))
            world.ended(ids[-1])
        first, second, third = ids
        expected = {
            "late": [second, third, first],
            "doubled": [first, first, second, third],
            "lost": [second, third],
            "out-of-order": [second, first, third],
        }
        assert [message["JobId"] for message in channel.until(expected[kind][-1])] == expected[kind]
        sent = {"lost": 0, "doubled": 2}.get(kind, 1)
        until(lambda: bool(world.jobs()[first]["NotificationsSent"] == sent))
        assert channel.take() == []


def test_job_faults_follow_script(begin: Begin) -> None:
    with begin() as world:
        rules = [
            {"kind": "job-fails", "document": "bad-*", "message": "out of paper"},
            {"kind": "job-partial", "document": "half-*", "pages": 1, "message": "out of ink"},
        ]
        world.control("faults", "PUT", rules=rules)
        failed = world.ended(world.start(world.stored(document(), "bad-1")))
        assert (failed["JobStatus"], failed["StatusMessage"]) == ("FAILED", "out of paper")
        half = world.ended(world.start(world.stored(document(pages=3), "half-1")))
        assert (half["JobStatus"], half["StatusMessage"]) == ("PARTIAL_SUCCESS", "out of ink")
        assert half["Warnings"] == [{"ErrorCode": "INTERNAL_SERVER_ERROR", "Pages": [2, 3]}]
        assert {block["Page"] for block in half["Blocks"]} == {1}
        assert json.dumps(half).count("null") == 0
        assert world.ended(world.start(world.stored(document(), "good-1")))["JobStatus"] == "SUCCEEDED"
