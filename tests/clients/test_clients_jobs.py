"""Jobs through each client: started, awaited and paged in the client's own way."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.conftest import PATIENCE_SECONDS, Clients
from tests.clients.documents import LONG_LINES, LONG_PAGES, LONG_WORDS, table_page

Store = Callable[[str, bytes], dict[str, str]]
NUMBERS = [f"{page:02}{line:02}" for page in range(1, LONG_PAGES + 1) for line in range(LONG_LINES)]
LINES = LONG_PAGES * LONG_LINES
# A page, its lines and its words.
BLOCKS = LONG_PAGES * (1 + LONG_LINES * (1 + len(LONG_WORDS) + 1))
LARGEST_RESPONSE = 1000

# One long document is read once for all of these; later jobs find it in the emulator's memory.
pytestmark = pytest.mark.timeout(3 * PATIENCE_SECONDS)


def numbers_in(lines: list[str]) -> list[str]:
    """Return the number at the end of each line, which shows the order of the lines."""
    return [line.split()[-1] for line in lines]


@pytest.fixture
def long(stored: Store, long_document: bytes) -> dict[str, str]:
    return stored("long.pdf", long_document)


def test_boto3_job_is_paged(clients: Clients, long: dict[str, str]) -> None:
    seen = clients.ask("with_boto3.py", "job", results=300, **long)
    assert seen["jobs"][0] == seen["jobs"][1]
    assert (seen["status"], seen["pages"]) == ("SUCCEEDED", LONG_PAGES)
    assert seen["sizes"] == [300] * (BLOCKS // 300) + [BLOCKS % 300]
    assert seen["same_again"]
    assert seen["identifiers"] == BLOCKS
    assert numbers_in([text for _, text in seen["lines"]]) == NUMBERS
    assert [page for page, _ in seen["lines"]] == [page + 1 for page in range(LONG_PAGES) for _ in range(LONG_LINES)]


def test_node_job_is_paged(clients: Clients, long: dict[str, str]) -> None:
    seen = clients.ask("with_node.cjs", "job", results=1500, **long)
    assert (seen["status"], seen["pages"]) == ("SUCCEEDED", LONG_PAGES)
    assert seen["sizes"] == [LARGEST_RESPONSE, BLOCKS - LARGEST_RESPONSE]
    assert numbers_in(seen["lines"]) == NUMBERS


def test_textract_caller_job_pages_equal_output_in_s3(clients: Clients, long: dict[str, str]) -> None:
    seen = clients.ask("with_caller.py", "job", **long)
    assert (seen["pages"], seen["blocks"], seen["parts"]) == (LONG_PAGES, BLOCKS, 2)
    assert numbers_in(seen["lines"]) == NUMBERS
    assert seen["same_by_get"]
    assert seen["same_in_output"]


def test_textract_caller_analysis_job_notifies_when_done(
    clients: Clients, stored: Store, channel: dict[str, str]
) -> None:
    given = stored("a table.png", table_page())
    seen = clients.ask("with_caller.py", "told", **given, **channel)
    assert seen["status"] == "SUCCEEDED"
    assert seen["tables"] == 1
    message = seen["message"]
    assert abs(message.pop("Timestamp") / 1000 - time.time()) < PATIENCE_SECONDS
    assert message == {
        "JobId": seen["job"],
        "Status": "SUCCEEDED",
        "API": "StartDocumentAnalysis",
        "JobTag": "lemon",
        "DocumentLocation": {"S3ObjectName": given["key"], "S3Bucket": given["bucket"]},
    }


def test_textractor_job_waits_for_lazy_document(
    clients: Clients, long: dict[str, str], long_document: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "long.pdf"
    file.write_bytes(long_document)
    seen = clients.ask("with_textractor.py", "job", file=str(file), **long)
    assert seen["lazy"]
    assert seen["pages"] == [LONG_PAGES] * 3
    assert all(sorted(numbers_in(lines)) == NUMBERS for lines in seen["lines"])


def test_awscli_job_is_started_and_paged(clients: Clients, stored: Store) -> None:
    where = stored("table.png", table_page())
    location = json.dumps({"S3Object": {"Bucket": where["bucket"], "Name": where["key"]}})
    started = clients.run(
        "aws", "textract", "start-document-text-detection", "--document-location", location,
        "--client-request-token", "lemon-1", "--query", "JobId", "--output", "text",
    )  # fmt: skip
    assert started.returncode == 0, started.stderr
    job = started.stdout.strip()
    get = ("aws", "textract", "get-document-text-detection", "--job-id", job, "--output", "json", "--max-results", "5")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (response := json.loads(clients.run(*get).stdout))["JobStatus"] == "IN_PROGRESS":
        assert time.monotonic() < deadline
    assert response["JobStatus"] == "SUCCEEDED"
    assert len(response["Blocks"]) == 5
    more = clients.run(*get, "--next-token", response["NextToken"])
    assert more.returncode == 0, more.stderr
    identifiers = {block["Id"] for part in (response, json.loads(more.stdout)) for block in part["Blocks"]}
    assert len(identifiers) == 10
