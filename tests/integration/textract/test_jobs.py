"""Jobs over the wire: from Start to Get, the notification and the output, with real S3, SNS and SQS."""

from __future__ import annotations

import hashlib
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.textract.jobs_world import ANALYSIS, ROLE, TEXT, Channel, World
from textract_support.emulator import RunningEmulator, document, until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_textract import TextractClient

pytestmark = pytest.mark.stack

NO_TOPIC = "arn:aws:sns:us-east-1:000000000000:there-is-no-such-topic"


@pytest.fixture
def world(emulator: RunningEmulator, textract: TextractClient, s3_client: S3Client, bucket: str) -> World:
    return World(emulator, textract, s3_client, bucket)


def code_of(error: ClientError) -> tuple[str, str]:
    return error.response["Error"]["Code"], error.response["Error"]["Message"]


def texts(response: dict[str, Any]) -> list[str]:
    return [block["Text"] for block in response["Blocks"] if block["BlockType"] == "LINE"]


def test_job_in_progress_then_returns_all_pages(world: World, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job_id = world.start(world.stored(document("Lemon Oats", pages=3, wait_for=str(gate))))
    assert re.fullmatch("[0-9a-f]{64}", job_id)
    assert world.get(job_id) == {"JobStatus": "IN_PROGRESS", "DetectDocumentTextModelVersion": "1.0"}
    gate.touch()
    response = world.ended(job_id)
    assert (response["JobStatus"], response["DocumentMetadata"]) == ("SUCCEEDED", {"Pages": 3})
    assert texts(response) == ["Lemon Oats", "Lemon Oats 2", "Lemon Oats 3"]
    assert [block["Page"] for block in response["Blocks"]] == [1] * 4 + [2] * 5 + [3] * 5
    assert [list(block)[-1] for block in response["Blocks"]] == ["Page"] * 14


def test_job_crashing_pages_are_lost_alone(world: World) -> None:
    job_id = world.start(world.stored(document("Oats", pages=6, harm="leave", harm_at=[1, 2, 3])))
    response = world.ended(job_id)
    assert (response["JobStatus"], response["Warnings"]) == (
        "PARTIAL_SUCCESS",
        [{"ErrorCode": "BAD_DOCUMENT", "Pages": [1, 2, 3]}],
    )
    assert texts(response) == ["Oats 4", "Oats 5", "Oats 6"]


def test_analysis_job_reads_requested_features(world: World) -> None:
    job_id = world.start(world.stored(document("Oats")), ANALYSIS, FeatureTypes=["FORMS", "TABLES"])
    response = world.ended(job_id, ANALYSIS)
    assert texts(response) == ["Oats FORMS TABLES"]
    assert response["AnalyzeDocumentModelVersion"] == "1.0"
    with pytest.raises(world.textract.exceptions.InvalidJobIdException):
        world.get(job_id, TEXT)


def test_start_missing_object_or_bucket_is_refused(world: World) -> None:
    for bucket, key in ((world.bucket, "nothing"), (f"{world.bucket}-not", "nothing")):
        with pytest.raises(ClientError) as raised:
            world.textract.start_document_text_detection(DocumentLocation={"S3Object": {"Bucket": bucket, "Name": key}})
        assert code_of(raised.value) == (
            "InvalidS3ObjectException",
            "Unable to get object metadata from S3. Check object key, region and/or access permissions.",
        )


def test_job_plain_text_fails_and_notifies(world: World, channel: Channel) -> None:
    job_id = world.start(world.stored(b"plain text"), NotificationChannel=channel.member)
    assert world.ended(job_id) == {
        "JobStatus": "FAILED",
        "StatusMessage": "Request has unsupported document format: no image",
        "DetectDocumentTextModelVersion": "1.0",
    }
    assert channel.until(job_id)[-1]["Status"] == "FAILED"


def test_job_reads_given_object_version(world: World) -> None:
    world.s3.put_bucket_versioning(Bucket=world.bucket, VersioningConfiguration={"Status": "Enabled"})
    first = world.s3.put_object(Bucket=world.bucket, Key="a", Body=document("First"))["VersionId"]
    second = world.s3.put_object(Bucket=world.bucket, Key="a", Body=document("Second"))["VersionId"]
    location = {"S3Object": {"Bucket": world.bucket, "Name": "a", "Version": first}}
    job_id = world.textract.start_document_text_detection(DocumentLocation=location)["JobId"]  # type: ignore[arg-type]
    assert texts(world.ended(job_id)) == ["First"]
    for version in (first, second):
        world.s3.delete_object(Bucket=world.bucket, Key="a", VersionId=version)


def test_notification_has_message_of_service_after_job_ended(world: World, channel: Channel) -> None:
    began = time.time()
    key = world.stored(document(), "folder/scan ü+1.png")
    job_id = world.start(key, ANALYSIS, NotificationChannel=channel.member, JobTag="card:1.2-3_4")
    envelopes: list[Any] = []

    def arrived() -> bool:
        envelopes.extend(channel.take(wait_seconds=1))
        return bool(envelopes)

    until(arrived)
    assert world.get(job_id, ANALYSIS)["JobStatus"] == "SUCCEEDED"
    assert envelopes[0].get("Subject") is None
    message = json.loads(envelopes[0]["Message"])
    assert began * 1000 - 1 <= message["Timestamp"] <= time.time() * 1000
    assert envelopes[0]["Message"] == (
        f'{{"JobId":"{job_id}","Status":"SUCCEEDED","API":"StartDocumentAnalysis","JobTag":"card:1.2-3_4",'
        f'"Timestamp":{message["Timestamp"]},"DocumentLocation":{{"S3ObjectName":"folder/scan ü+1.png",'
        f'"S3Bucket":"{world.bucket}"}}}}'
    )


def test_notification_without_job_tag_omits_it(world: World, channel: Channel) -> None:
    job_id = world.start(world.stored(document()), NotificationChannel=channel.member)
    assert list(channel.until(job_id)[-1]) == ["JobId", "Status", "API", "Timestamp", "DocumentLocation"]


def test_start_16_concurrent_are_one_job_and_one_notification(world: World, channel: Channel) -> None:
    content = document()
    key = world.stored(content)
    with ThreadPoolExecutor(16) as threads:
        starts = [
            threads.submit(world.start, key, NotificationChannel=channel.member, ClientRequestToken=f"t-{world.bucket}")
            for _ in range(16)
        ]
        ids = {start.result() for start in starts}
    assert len(ids) == 1
    job_id = ids.pop()
    world.ended(job_id)
    assert world.start(key, NotificationChannel=channel.member, ClientRequestToken=f"t-{world.bucket}") == job_id
    fence = world.start(world.stored(document()), NotificationChannel=channel.member)
    assert [message["JobId"] for message in channel.until(fence)] == [job_id, fence]
    assert world.tally(hashlib.sha256(content).hexdigest()) == {"requests": 1, "billed": 1, "recognised": 1}
    assert [job for job in world.jobs().values() if job["Document"] == f"s3://{world.bucket}/{key}"] == [
        world.jobs()[job_id]
    ]


def test_start_known_token_with_other_input_is_mismatch(world: World) -> None:
    key, token = world.stored(document()), f"t-{world.bucket}"
    job_id = world.start(key, ClientRequestToken=token)
    with pytest.raises(world.textract.exceptions.IdempotentParameterMismatchException):
        world.start(key, ClientRequestToken=token, JobTag="another")
    assert world.start(key, ANALYSIS, ClientRequestToken=token) != job_id
    assert world.start(key, ClientRequestToken=token) == job_id


def test_start_missing_topic_is_refused(world: World) -> None:
    key = world.stored(document())
    with pytest.raises(world.textract.exceptions.InvalidParameterException):
        world.start(key, NotificationChannel={"SNSTopicArn": NO_TOPIC, "RoleArn": ROLE})


def test_job_topic_deleted_still_succeeds(world: World, channel: Channel, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job_id = world.start(world.stored(document(wait_for=str(gate))), NotificationChannel=channel.member)
    channel.sns.delete_topic(TopicArn=channel.topic)
    gate.touch()
    assert world.ended(job_id)["JobStatus"] == "SUCCEEDED"
    until(lambda: f"refuses the notification of job {job_id}" in world.running.log.read_text("utf-8"))


@pytest.mark.parametrize(
    ("prefix", "folder"), [(None, "textract_output/"), ("results", "results/"), ("results/", "results//")]
)
def test_job_output_equals_parts_of_get(world: World, prefix: str | None, folder: str) -> None:
    config: dict[str, str] = {"S3Bucket": world.bucket}
    if prefix is not None:
        config["S3Prefix"] = prefix
    key = world.stored(document("word " * 450 + "end", pages=5))
    job_id = world.start(key, OutputConfig=config)
    response = world.ended(job_id)
    parts = [response]
    while "NextToken" in parts[-1]:
        parts.append(world.get(job_id, NextToken=parts[-1]["NextToken"]))
    assert [len(part["Blocks"]) for part in parts] == [1000, 1000, 269]
    root = f"{folder}{job_id}/"
    found = world.s3.list_objects_v2(Bucket=world.bucket, Prefix=root)["Contents"]
    assert sorted(item["Key"].removeprefix(root) for item in found) == [".s3_access_check", "1", "2", "3"]
    assert next(item["Size"] for item in found if item["Key"].endswith(".s3_access_check")) == 0
    for number, part in enumerate(parts, start=1):
        written = json.loads(world.s3.get_object(Bucket=world.bucket, Key=f"{root}{number}")["Body"].read())
        part.pop("NextToken", None)
        assert written == part
        assert list(written) == ["DocumentMetadata", "JobStatus", "Blocks", "DetectDocumentTextModelVersion"]


def test_start_missing_output_bucket_is_refused(world: World) -> None:
    key, token = world.stored(document()), f"t-{world.bucket}"
    with pytest.raises(world.textract.exceptions.InvalidS3ObjectException):
        world.start(key, OutputConfig={"S3Bucket": f"{world.bucket}-not"}, ClientRequestToken=token)
    assert [job for job in world.jobs().values() if job["Document"].startswith(f"s3://{world.bucket}/")] == []
    # The token has no job.
    world.start(key, ClientRequestToken=token)


def test_job_output_is_encrypted_with_given_key(world: World) -> None:
    job_id = world.start(world.stored(document()), OutputConfig={"S3Bucket": world.bucket}, KMSKeyId="alias/scans")
    world.ended(job_id)
    head = world.s3.head_object(Bucket=world.bucket, Key=f"textract_output/{job_id}/1")
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "alias/scans")


def test_age_past_expiry_makes_job_unknown(world: World) -> None:
    key, token = world.stored(document()), f"t-{world.bucket}"
    job_id = world.start(key, ClientRequestToken=token)
    world.ended(job_id)
    week = 7 * 24 * 3600
    assert world.control("jobs/age", JobId=job_id, seconds=week - 600) == {"aged": 1}
    assert world.start(key, ClientRequestToken=token) == job_id
    world.control("jobs/age", JobId=job_id, seconds=600)
    with pytest.raises(ClientError) as raised:
        world.get(job_id)
    assert code_of(raised.value) == ("InvalidJobIdException", "Request has invalid Job Id")
    assert world.start(key, ClientRequestToken=token) != job_id
