"""The newest boto3, which has two protocols: `python with_boto3.py TASK`, with its parameters as JSON on stdin."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions

DEADLINE_SECONDS = 90
MISSING_JOB = "0" * 64


def location(given: dict[str, Any]) -> dict[str, Any]:
    return {"S3Object": {"Bucket": given["bucket"], "Name": given["key"]}}


def read(given: dict[str, Any]) -> Any:
    """Read a file and an object, and report whether the results are equal."""
    client: Any = boto3.client("textract")
    inline = client.detect_document_text(Document={"Bytes": Path(given["file"]).read_bytes()})
    stored = client.detect_document_text(Document=location(given))
    return {
        "alike": inline["Blocks"] == stored["Blocks"],
        "pages": inline["DocumentMetadata"]["Pages"],
        "lines": [block["Text"] for block in inline["Blocks"] if block["BlockType"] == "LINE"],
        "requests": [response["ResponseMetadata"]["RequestId"] for response in (inline, stored)],
        "content_type": inline["ResponseMetadata"]["HTTPHeaders"]["content-type"],
    }


def job(given: dict[str, Any]) -> Any:
    """Start one job twice with one token, wait for it, and page through it twice."""
    client: Any = boto3.client("textract")
    asked = {"DocumentLocation": location(given), "ClientRequestToken": uuid.uuid4().hex, "JobTag": "lemon"}
    identifiers = [client.start_document_text_detection(**asked)["JobId"] for _ in range(2)]
    statuses: list[str] = []
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not statuses or statuses[-1] == "IN_PROGRESS":
        response = client.get_document_text_detection(JobId=identifiers[0], MaxResults=1)
        statuses.append(response["JobStatus"])
        if time.monotonic() > deadline:
            sys.exit("the job does not end")
        time.sleep(0.2)
    rounds = [pages_of(client, identifiers[0], given["results"]) for _ in range(2)]
    blocks = [block for page in rounds[0] for block in page["Blocks"]]
    return {
        "jobs": identifiers,
        "status": statuses[-1],
        "sizes": [len(page["Blocks"]) for page in rounds[0]],
        "pages": rounds[0][0]["DocumentMetadata"]["Pages"],
        "same_again": [page["Blocks"] for page in rounds[0]] == [page["Blocks"] for page in rounds[1]],
        "identifiers": len({block["Id"] for block in blocks}),
        "lines": [[block["Page"], block["Text"]] for block in blocks if block["BlockType"] == "LINE"],
    }


def pages_of(client: Any, job_id: str, results: int) -> list[Any]:
    responses = [client.get_document_text_detection(JobId=job_id, MaxResults=results)]
    while "NextToken" in responses[-1]:
        token = responses[-1]["NextToken"]
        responses.append(client.get_document_text_detection(JobId=job_id, MaxResults=results, NextToken=token))
    return responses


def errors(given: dict[str, Any]) -> Any:
    """Make calls that are refused, and report the classes of their exceptions."""
    client: Any = boto3.client("textract")
    missing = {"S3Object": {"Bucket": given["bucket"], "Name": "missing"}}
    attempts: dict[str, Callable[[], Any]] = {
        "no such object": lambda: client.detect_document_text(Document=missing),
        "no such object at the start": lambda: client.start_document_text_detection(DocumentLocation=missing),
        "no such job": lambda: client.get_document_text_detection(JobId=MISSING_JOB),
        "no document": lambda: client.detect_document_text(Document={"Bytes": b"lemon"}),
        "neither": lambda: client.detect_document_text(Document={}),
        "another operation's job": lambda: client.get_document_analysis(
            JobId=client.start_document_text_detection(DocumentLocation=location(given))["JobId"]
        ),
        "an operation that is not emulated": client.list_adapters,
    }
    seen = {}
    for name, attempt in attempts.items():
        try:
            attempt()
        except botocore.exceptions.ClientError as error:
            caught = [
                kind for kind in client.meta.service_model.error_shapes
                if isinstance(error, getattr(client.exceptions, kind.name))
            ]  # fmt: skip
            seen[name] = {
                "class": type(error).__name__,
                "known": [shape.name for shape in caught],
                "message": error.response["Error"]["Message"],
                "status": error.response["ResponseMetadata"]["HTTPStatusCode"],
                "request": bool(error.response["ResponseMetadata"].get("RequestId")),
            }
    return seen


if __name__ == "__main__":
    json.dump({"read": read, "job": job, "errors": errors}[sys.argv[1]](json.load(sys.stdin)), sys.stdout)
