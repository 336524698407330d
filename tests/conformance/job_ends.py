"""How jobs end: failures, notifications and output."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from tests.conformance import documents
from tests.conformance.service import ANALYSE, GET, START, Service
from textract_support import bad_inputs


def figure() -> str:
    return str(secrets.randbelow(9000) + 1000)


def one_page() -> bytes:
    return documents.png(f"JOB {figure()}", "FLOUR 1357")


def fails(service: Service, *, make: Callable[[], bytes]) -> None:
    """Accept a refusal by Start or a failed job for an unreadable file: which of them is right is not known."""
    location = service.stored(make())
    response = service.send(START, {"DocumentLocation": location})
    if response.status != 200:
        assert response.json["__type"] in {"UnsupportedDocumentException", "BadDocumentException"}
        return
    finished = service.finished(response.json["JobId"])
    assert finished["JobStatus"] == "FAILED"
    assert finished["StatusMessage"]
    assert not {"Blocks", "NextToken"} & set(finished)


def failure_is_told(service: Service) -> None:
    channel = service.channel()
    response = service.send(
        START,
        {"DocumentLocation": service.stored(bad_inputs.truncated_pdf()), "NotificationChannel": channel.member},
    )
    assert response.status == 200, response.body
    message = service.until_told(channel, response.json["JobId"])[-1]
    assert message["Status"] == "FAILED"
    assert service.ask(GET[START], JobId=response.json["JobId"])["JobStatus"] == "FAILED"


def message(service: Service, *, operation: str) -> None:
    channel, document = service.channel(), service.stored(one_page())
    began = time.time()
    job_id = service.start(document, operation, NotificationChannel=channel.member, JobTag="card:1.2-3_4")
    message = service.until_told(channel, job_id)[-1]
    # Get reports the end already.
    assert service.ask(GET[operation], JobId=job_id)["JobStatus"] == "SUCCEEDED"
    assert set(message) == {"JobId", "Status", "API", "JobTag", "Timestamp", "DocumentLocation"}
    assert (message["Status"], message["API"], message["JobTag"]) == ("SUCCEEDED", operation, "card:1.2-3_4")
    where = document["S3Object"]
    assert message["DocumentLocation"] == {"S3ObjectName": where["Name"], "S3Bucket": where["Bucket"]}
    assert type(message["Timestamp"]) is int
    # The clock of another machine may differ.
    assert began - 60 < message["Timestamp"] / 1000 < time.time() + 60


def output_is_stored(service: Service, *, prefix: str | None, folder: str, operation: str) -> None:
    content = documents.many_pages("TIFF", [["ONE 1111"], ["TWO 2222"]])
    config = {"S3Bucket": service.bucket}
    root = f"{service.prefix}-{secrets.token_hex(4)}"
    if prefix is not None:
        config["S3Prefix"] = prefix.replace("ROOT", root)
    job_id = service.start(content, operation, OutputConfig=config)
    blocks = service.blocks_of(job_id, operation)
    where = f"{folder.replace('ROOT', root)}/{job_id}/"
    listed = service.s3.list_objects_v2(Bucket=service.bucket, Prefix=where).get("Contents", [])
    assert listed, f"there is nothing below {where}"
    sizes = {item["Key"].removeprefix(where): item["Size"] for item in listed}
    assert sizes.pop(".s3_access_check") == 0
    assert sorted(sizes, key=int) == [str(number) for number in range(1, len(sizes) + 1)]
    parts = [
        json.loads(service.s3.get_object(Bucket=service.bucket, Key=f"{where}{name}")["Body"].read())
        for name in sorted(sizes, key=int)
    ]
    assert [block for part in parts for block in part["Blocks"]] == blocks
    for part in parts:
        assert (part["JobStatus"], part["DocumentMetadata"]) == ("SUCCEEDED", {"Pages": 2})


def output_refused(service: Service, *, given: Mapping[str, Any], codes: set[str]) -> None:
    code, _ = service.refused(START, DocumentLocation=service.stored(one_page()), **given)
    assert code in codes


def message_without_tag(service: Service) -> None:
    channel = service.channel()
    job_id = service.start(one_page(), NotificationChannel=channel.member)
    message = service.until_told(channel, job_id)[-1]
    assert list(message) == ["JobId", "Status", "API", "Timestamp", "DocumentLocation"]


def queries_by_page(service: Service) -> None:
    content = documents.many_pages("TIFF", [["ONE 1111"], ["TWO 2222"], ["THREE 3333"]])
    queries: list[dict[str, Any]] = [
        {"Text": "What is first?"},
        {"Text": "What is next?", "Pages": ["2-*"]},
        {"Text": "All?", "Pages": ["*"]},
    ]
    job_id = service.start(content, ANALYSE, FeatureTypes=["QUERIES"], QueriesConfig={"Queries": queries})
    asked = [
        (block["Page"], block["Query"]["Text"])
        for block in service.blocks_of(job_id, ANALYSE)
        if block["BlockType"] == "QUERY"
    ]
    first, following, every = (query["Text"] for query in queries)
    assert asked == [(1, first), (1, every), (2, following), (2, every), (3, following), (3, every)]
