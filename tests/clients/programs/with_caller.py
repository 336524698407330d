"""amazon-textract-caller with trp: `python with_caller.py TASK`, with its parameters as JSON on stdin."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import boto3
import trp
from textractcaller import t_call
from textractcaller.t_call import NotificationChannel, OutputConfig, Textract_API, Textract_Features, call_textract
from trp import trp2
from trp.t_pipeline import order_blocks_by_geo

DEADLINE_SECONDS = 90
POLL_SECONDS = 0.2


def uri(given: dict[str, Any]) -> str:
    return f"s3://{given['bucket']}/{given['key']}"


def lines(response: dict[str, Any]) -> list[str]:
    return [line.text for page in trp.Document(response).pages for line in page.lines]


def read(given: dict[str, Any]) -> Any:
    """Read a path, bytes and an object, with both versions of trp."""
    path = given["file"]
    responses = [call_textract(path), call_textract(Path(path).read_bytes()), call_textract(uri(given))]
    second = trp2.TDocumentSchema().load(responses[0])
    ordered = order_blocks_by_geo(second)
    return {
        "lines": [lines(response) for response in responses],
        "trp2": [line.text for line in ordered.lines(ordered.pages[0])],
        "back_again": [
            block["Text"] for block in trp2.TDocumentSchema().dump(second)["Blocks"] if block["BlockType"] == "LINE"
        ],
    }


def analyse(given: dict[str, Any]) -> Any:
    """Analyse a file for tables and forms, and read both with trp."""
    response = call_textract(given["file"], features=[Textract_Features.TABLES, Textract_Features.FORMS])
    (page,) = trp.Document(response).pages
    second = trp2.TDocumentSchema().load(response)
    return {
        "tables": [[[cell.text.strip() for cell in row.cells] for row in table.rows] for table in page.tables],
        "fields": {str(field.key): str(field.value) for field in page.form.fields},
        "trp2_tables": len(second.tables(second.pages[0])),
        "trp2_fields": len(second.keys(second.pages[0])),
    }


def job(given: dict[str, Any]) -> Any:
    """Read a document by a job, from Get and from its output in S3."""
    output = OutputConfig(given["bucket"], "results")
    whole = call_textract(uri(given), job_done_polling_interval=POLL_SECONDS)
    started = call_textract(uri(given), output_config=output, return_job_id=True)
    client = boto3.client("textract")
    got = t_call.get_full_json(started["JobId"], Textract_API.DETECT, client, POLL_SECONDS)
    written = t_call.get_full_json_from_output_config(output, started["JobId"])
    return {
        "lines": lines(whole),
        "pages": len(trp.Document(whole).pages),
        "blocks": len(whole["Blocks"]),
        "same_by_get": got["Blocks"] == whole["Blocks"],
        "same_in_output": written["Blocks"] == whole["Blocks"],
        "parts": len(t_call.get_s3_output_config_keys(output, started["JobId"], boto3.client("s3"))),
    }


def told(given: dict[str, Any]) -> Any:
    """Start an analysis, wait for its notification, and only then get the result."""
    started = call_textract(
        uri(given),
        features=[Textract_Features.TABLES],
        notification_channel=NotificationChannel(role_arn=given["role"], sns_topic_arn=given["topic"]),
        job_tag="lemon",
        force_async_api=True,
        return_job_id=True,
    )
    queue = boto3.client("sqs")
    deadline = time.monotonic() + DEADLINE_SECONDS
    messages: list[Any] = []
    while not messages:
        if time.monotonic() > deadline:
            sys.exit("no message says that the job is done")
        messages = queue.receive_message(QueueUrl=given["queue"], WaitTimeSeconds=5).get("Messages", [])
    client = boto3.client("textract")
    response = client.get_document_analysis(JobId=started["JobId"])
    return {
        "job": started["JobId"],
        "message": json.loads(json.loads(messages[0]["Body"])["Message"]),
        "status": response["JobStatus"],
        "tables": sum(block["BlockType"] == "TABLE" for block in response["Blocks"]),
    }


if __name__ == "__main__":
    tasks = {"read": read, "analyse": analyse, "job": job, "told": told}
    json.dump(tasks[sys.argv[1]](json.load(sys.stdin)), sys.stdout)
