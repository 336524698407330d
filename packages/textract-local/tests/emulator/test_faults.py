"""Faults from a client's view: configured by the control interface, and observed in the service."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import cbor2
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from textract_support.clients import DETECT, call, error_of, post, send, sent, session_of
from textract_support.emulator import RunningEmulator, document
from textract_support.http_exchange import HttpResponse

if TYPE_CHECKING:
    from mypy_boto3_textract import TextractClient

Tell = Callable[[dict[str, Any]], HttpResponse]


@pytest.fixture
def tell(emulator: RunningEmulator) -> Iterator[Tell]:
    """Return a function that sets the emulator's fault script, which is removed after the test."""
    yield lambda script: send(emulator.port, "PUT", "/_emulator/faults", json.dumps(script).encode())
    send(emulator.port, "DELETE", "/_emulator/faults")


def statuses(port: int, calls: int) -> list[int]:
    return [call(port, DETECT, sent(document())).status for _ in range(calls)]


def test_faults_raise_modelled_exceptions_in_client(textract: TextractClient, tell: Tell) -> None:
    rules = [
        {"kind": "throttle", "calls": [1]},
        {"kind": "provisioned-throughput", "calls": [1]},
        {"kind": "internal-error", "calls": [1]},
    ]
    assert tell({"rules": rules}).status == 200
    failures = []
    for _ in rules:
        with pytest.raises(ClientError) as caught:
            textract.detect_document_text(Document={"Bytes": document()})
        metadata = caught.value.response["ResponseMetadata"]
        failures.append((type(caught.value).__name__, metadata["HTTPStatusCode"], caught.value.response["Error"]))
    assert [failure[:2] for failure in failures] == [
        ("ThrottlingException", 500),
        ("ProvisionedThroughputExceededException", 400),
        ("InternalServerError", 500),
    ]
    assert failures[1][2]["Message"] == "Provisioned rate exceeded"
    assert textract.detect_document_text(Document={"Bytes": document()})["Blocks"]


def test_faults_throttle_is_overcome_by_client_retries(
    emulator: RunningEmulator, aws_variables: dict[str, str], tell: Tell
) -> None:
    tell({"rules": [{"kind": "throttle", "calls": [1, 2]}]})
    config = Config(retries={"total_max_attempts": 4, "mode": "standard"})
    client = session_of(dict(aws_variables)).client("textract", endpoint_url=emulator.url, config=config)
    response = client.detect_document_text(Document={"Bytes": document()})
    client.close()
    assert response["ResponseMetadata"]["RetryAttempts"] == 2


def test_faults_are_sent_over_cbor(emulator: RunningEmulator, tell: Tell) -> None:
    tell({"rules": [{"kind": "throttle"}]})
    body = cbor2.dumps({"Document": {"Bytes": document()}})
    assert error_of(post(emulator.port, "DetectDocumentText", body)) == (
        500,
        "com.amazonaws.textract#ThrottlingException",
    )


def test_faults_slow_delays_response(emulator: RunningEmulator, tell: Tell) -> None:
    tell({"rules": [{"kind": "slow", "seconds": 0.5, "times": 1, "operation": "DetectDocumentText"}]})
    began = time.monotonic()
    assert statuses(emulator.port, 1) == [200]
    assert time.monotonic() - began >= 0.5


def test_faults_same_seed_and_calls_repeat(emulator: RunningEmulator, tell: Tell) -> None:
    script = {"seed": 7, "rules": [{"kind": "provisioned-throughput", "probability": 0.5}]}
    runs = []
    for _ in range(2):
        tell(script)
        runs.append(statuses(emulator.port, 12))
    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 400}


def test_faults_show_counts_until_deleted(emulator: RunningEmulator, tell: Tell) -> None:
    told = tell({"seed": 3, "rules": [{"kind": "throttle", "operation": "DetectDocumentText", "times": 1}]})
    rule = {"kind": "throttle", "operations": ["DetectDocumentText"], "probability": 1.0, "times": 1}
    since = told.json["rules"][0]["since"]
    assert datetime.now(UTC) - datetime.fromisoformat(since) < timedelta(minutes=5)
    assert told.json == {"seed": 3, "rules": [{**rule, "since": since, "seen": 0, "taken": 0}]}
    assert statuses(emulator.port, 2) == [500, 200]
    shown = send(emulator.port, "GET", "/_emulator/faults").json
    assert shown == {"seed": 3, "rules": [{**rule, "since": since, "seen": 2, "taken": 1}]}
    assert send(emulator.port, "DELETE", "/_emulator/faults").json == {"seed": 0, "rules": []}
    assert statuses(emulator.port, 1) == [200]


def test_faults_patch_adds_rules_and_keeps_counts(emulator: RunningEmulator, tell: Tell) -> None:
    def add(script: dict[str, Any]) -> HttpResponse:
        return send(emulator.port, "PATCH", "/_emulator/faults", json.dumps(script).encode())

    tell({"seed": 3, "rules": [{"kind": "throttle", "calls": [1]}]})
    assert statuses(emulator.port, 1) == [500]
    added = add({"rules": [{"kind": "provisioned-throughput", "calls": [2]}]}).json
    assert [(rule["kind"], rule["taken"]) for rule in added["rules"]] == [
        ("throttle", 1),
        ("provisioned-throughput", 0),
    ]
    assert added["seed"] == 3
    # The first rule has had its call; the second starts to count.
    assert statuses(emulator.port, 3) == [200, 400, 200]
    assert add({"seed": 4, "rules": []}).json["seed"] == 4
    assert add({"rules": [{"kind": "unheard-of"}]}).status == 400
    assert add({"rules": [{"kind": "slow", "seconds": 0}] * 999}).status == 400, "more than there may be together"
    assert len(send(emulator.port, "GET", "/_emulator/faults").json["rules"]) == 2


def test_reset_removes_faults(emulator: RunningEmulator, tell: Tell) -> None:
    tell({"rules": [{"kind": "throttle"}]})
    assert send(emulator.port, "POST", "/_emulator/reset").status == 200
    assert statuses(emulator.port, 1) == [200]


def test_faults_wrong_script_is_refused_and_changes_nothing(emulator: RunningEmulator, tell: Tell) -> None:
    tell({"rules": [{"kind": "throttle"}]})
    refused = tell({"rules": [{"kind": "throttle", "operation": "ReadMinds"}]})
    assert refused.status == 400
    assert refused.json == {"message": "rules[0].operation: there is no operation 'ReadMinds'"}
    assert statuses(emulator.port, 1) == [500]
