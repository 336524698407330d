"""Documents: inline and from S3, refused ones, and their counts."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from botocore.exceptions import ClientError

from textract_local.server.admission import MOST_DOCUMENTS
from textract_support.clients import DETECT, JSON_11, SIGNED, call, client_of, send, sent
from textract_support.document_calls import Tallies, hash_of, refused, words
from textract_support.emulator import RunningEmulator, document, running, until

if TYPE_CHECKING:
    from mypy_boto3_textract import TextractClient


def test_detect_inline_bytes_returns_words(textract: TextractClient) -> None:
    response = textract.detect_document_text(Document={"Bytes": document("80 g brown sugar")})
    assert words(response) == ["80", "g", "brown", "sugar"]
    assert response["DocumentMetadata"] == {"Pages": 1}
    assert response["DetectDocumentTextModelVersion"] == "1.0"


def test_detect_s3_unreachable_is_internal_server_error(aws_variables: dict[str, str], tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoints = {
            f"http://127.0.0.1:{unused.getsockname()[1]}": "S3 does not respond",
            "no address": "S3 cannot be used",
        }
        for endpoint, problem in endpoints.items():
            variables = {name: value for name, value in aws_variables.items() if name.startswith("AWS_")}
            with running(tmp_path, {**variables, "AWS_ENDPOINT_URL_S3": endpoint}) as started:
                client = client_of(aws_variables, started.url)
                error = refused(client, {"S3Object": {"Bucket": "photos", "Name": "a.png"}})
                assert error == ("InternalServerError", problem, 500)
                assert client.detect_document_text(Document={"Bytes": document()})["Blocks"]
                client.close()


@pytest.mark.parametrize(
    ("fail", "details", "code", "message"),
    [
        (
            "UnsupportedDocument",
            {"actual": "a PDF of 2 pages"},
            "UnsupportedDocumentException",
            "Request has unsupported document format",
        ),
        ("UnreadableDocument", {"reason": "it ends in the middle"}, "BadDocumentException", "it ends in the middle"),
        ("DocumentProtected", {"by": "a password"}, "BadDocumentException", "it is protected by a password"),
        (
            "ImageTooLarge",
            {"width": 10_001, "height": 20, "limit": "a side may have 10,000"},
            "UnsupportedDocumentException",
            "The image has 10001 x 20 pixels; a side may have 10,000",
        ),
        (
            "DocumentTooLarge",
            {"size_bytes": 11, "limit_bytes": 10},
            "DocumentTooLargeException",
            "The document has 11 bytes; this operation reads at most 10 bytes",
        ),
    ],
)
def test_detect_reader_refusal_has_code_and_message(
    textract: TextractClient, fail: str, details: dict[str, Any], code: str, message: str
) -> None:
    assert refused(textract, {"Bytes": document(fail=fail, details=details)}) == (code, message, 400)


def test_detect_plain_text_is_unsupported_document(textract: TextractClient) -> None:
    code, message, _ = refused(textract, {"Bytes": b"flour, butter, sugar"})
    assert (code, message) == ("UnsupportedDocumentException", "Request has unsupported document format")


def test_detect_reader_defect_is_internal_server_error(textract: TextractClient, emulator: RunningEmulator) -> None:
    code, message, status = refused(textract, {"Bytes": document(fail="RuntimeError", details={})})
    assert (code, status) == ("InternalServerError", 500)
    assert "RuntimeError" in message
    # The server logs the cause after it has responded.
    until(lambda: "the reader fell over" in emulator.log.read_text("utf-8"))
    assert textract.detect_document_text(Document={"Bytes": document()})["Blocks"]


def test_detect_error_keeps_connection_open(emulator: RunningEmulator) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=30)
    headers = {"X-Amz-Target": DETECT, "Content-Type": JSON_11, "Authorization": SIGNED}
    torn = {"fail": "UnreadableDocument", "details": {"reason": "it is torn"}}
    sockets = set()
    for told, status in (({"fail": "RuntimeError"}, 500), ({}, 200), (torn, 400), ({}, 200)):
        connection.request("POST", "/", body=sent(document(**told)), headers=headers)
        response = connection.getresponse()
        assert (response.status, bool(response.read())) == (status, True)
        assert connection.sock is not None
        sockets.add(connection.sock.getsockname())
        # If the server closes the connection, it has done so by now.
        assert call(emulator.port, DETECT, sent(document())).status == 200
    assert len(sockets) == 1
    connection.close()


def test_detect_invalid_response_is_internal_server_error(textract: TextractClient) -> None:
    code, _, status = refused(textract, {"Bytes": document(block_type="SENTENCE")})
    assert (code, status) == ("InternalServerError", 500)


def test_detect_40_mb_body_is_refused_and_next_call_succeeds(
    textract: TextractClient, emulator: RunningEmulator
) -> None:
    body = sent(bytes(30 * 1024 * 1024))
    assert len(body) > 40_000_000
    response = call(emulator.port, DETECT, body)
    assert (response.status, response.json["__type"]) == (400, "DocumentTooLargeException")
    other = call(emulator.port, "Textract.GetDocumentAnalysis", body)
    assert (other.status, other.json["__type"]) == (400, "InvalidParameterException")
    assert textract.detect_document_text(Document={"Bytes": document()})["Blocks"]


def test_detect_chunked_body_over_limit_is_not_buffered(emulator: RunningEmulator) -> None:
    process = psutil.Process(emulator.process.pid)
    seen: list[int] = []

    def pieces() -> Iterator[bytes]:
        for _ in range(120):
            seen.append(process.memory_info().rss)
            yield bytes(1024 * 1024)

    headers = {"X-Amz-Target": DETECT, "Content-Type": JSON_11, "Authorization": SIGNED}
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=30)
    connection.request("POST", "/", body=pieces(), headers=headers, encode_chunked=True)
    response = connection.getresponse()
    assert (response.status, b"DocumentTooLargeException" in response.read()) == (400, True)
    connection.close()
    assert max(seen) - seen[0] < 60 * 1024 * 1024


@pytest.mark.parametrize(("declared", "expect"), [(40_000_000, "Expect: 100-continue\r\n"), (1 << 40, "")])
def test_detect_content_length_over_limit_is_refused_at_once(
    emulator: RunningEmulator, declared: int, expect: str
) -> None:
    with socket.create_connection(("127.0.0.1", emulator.port), timeout=10) as connection:
        connection.sendall(
            f"POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: {DETECT}\r\nAuthorization: {SIGNED}\r\n"
            f"{expect}Content-Length: {declared}\r\n\r\n".encode()
        )
        received = b""
        while b"DocumentTooLarge" not in received:
            piece = connection.recv(4096)
            assert piece, received
            received += piece
    assert received.startswith(b"HTTP/1.1 400")


def test_detect_same_document_is_recognised_once(textract: TextractClient, tallies: Tallies) -> None:
    content = document()
    first, second = (textract.detect_document_text(Document={"Bytes": content}) for _ in range(2))
    assert first["ResponseMetadata"]["RequestId"] != second["ResponseMetadata"]["RequestId"]
    assert first["Blocks"] == second["Blocks"]
    assert tallies(hash_of(content)) == {"requests": 2, "billed": 2, "recognised": 1}


def test_detect_failure_is_neither_billed_nor_cached(textract: TextractClient, tallies: Tallies) -> None:
    content = document(fail="UnreadableDocument", details={"reason": "it is torn"})
    for _ in range(2):
        refused(textract, {"Bytes": content})
    assert tallies(hash_of(content)) == {"requests": 2, "billed": 0, "recognised": 2}


def test_detect_16_concurrent_calls_share_one_recognition(
    textract: TextractClient, emulator: RunningEmulator, tallies: Tallies, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    content = document("one response for all", wait_for=str(gate))
    with ThreadPoolExecutor(16) as threads:
        calls = [threads.submit(textract.detect_document_text, Document={"Bytes": content}) for _ in range(16)]
        assert not any(call.done() for call in calls)
        gate.touch()
        responses = [call.result() for call in calls]
    assert len({response["ResponseMetadata"]["RequestId"] for response in responses}) == 16
    assert len({str(response["Blocks"]) for response in responses}) == 1
    assert tallies(hash_of(content)) == {"requests": 16, "billed": 16, "recognised": 1}


def test_detect_slow_documents_do_not_block_other_requests(
    textract: TextractClient, emulator: RunningEmulator, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with ThreadPoolExecutor(4) as threads:
        slow = [
            threads.submit(textract.detect_document_text, Document={"Bytes": document(wait_for=str(gate))})
            for _ in range(4)
        ]
        try:
            assert send(emulator.port, "GET", "/_emulator/health").json["ready"] is True
            assert call(emulator.port, DETECT, b"{").json["__type"] == "SerializationException"
            assert not any(call.done() for call in slow)
        finally:
            gate.touch()
        assert all(call.result()["Blocks"] for call in slow)


def test_counters_count_operations_errors_and_documents(aws_variables: dict[str, str], tmp_path: Path) -> None:
    with running(tmp_path, {}) as started:
        content = document()
        call(started.port, DETECT, sent(content))
        call(started.port, DETECT, b"{")
        call(started.port, DETECT, b"{}", Authorization="")
        call(started.port, "Textract.AnalyzeExpense", b"{}")
        call(started.port, "Textract.Nothing", b"{}")
        counted = send(started.port, "GET", "/_emulator/counters").json
        assert counted["operations"] == {
            "DetectDocumentText": {
                "requests": 3,
                "answered": 1,
                "errors": {"SerializationException": 1, "MissingAuthenticationTokenException": 1},
            },
            "AnalyzeExpense": {"requests": 1, "answered": 0, "errors": {"InvalidParameterException": 1}},
        }
        assert counted["refused"] == {"UnknownOperationException": 1}
        assert counted["documents"] == {hash_of(content): {"requests": 1, "billed": 1, "recognised": 1}}

        assert send(started.port, "POST", "/_emulator/reset").status == 200
        emptied = send(started.port, "GET", "/_emulator/counters").json
        assert (emptied["operations"], emptied["documents"]) == ({}, {})
        call(started.port, DETECT, sent(content))
        after = send(started.port, "GET", "/_emulator/counters").json["documents"]
        assert after == {hash_of(content): {"requests": 1, "billed": 1, "recognised": 1}}


def test_detect_over_admission_limit_is_throttled(aws_variables: dict[str, str], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with running(tmp_path, {}) as emulator, ThreadPoolExecutor(MOST_DOCUMENTS) as threads:
        client = client_of(aws_variables, emulator.url, connections=MOST_DOCUMENTS + 1)

        def read(text: str) -> list[str]:
            return words(client.detect_document_text(Document={"Bytes": document(text, wait_for=str(gate))}))

        waiting = [threads.submit(read, str(number)) for number in range(MOST_DOCUMENTS)]
        try:
            until(lambda: len(send(emulator.port, "GET", "/_emulator/counters").json["documents"]) == MOST_DOCUMENTS)
            with pytest.raises(ClientError) as caught:
                read("one more")
        finally:
            gate.touch()
        assert [call.result() for call in waiting] == [[str(number)] for number in range(MOST_DOCUMENTS)]
        assert caught.value.response["Error"] == {
            "Code": "ProvisionedThroughputExceededException",
            "Message": "Provisioned rate exceeded",
        }
        assert read("one more") == ["one", "more"]
        client.close()
