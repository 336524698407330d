"""The simulated Textract compared with the emulator: the same requests have the same responses.

The emulator itself is tested against Amazon's definition of the service (docs/reference/textract-conformance.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from photo_worker.adapters.memory.object_store import MemoryObjectStore
from tests.crash.simulation.textract import MemoryTextract
from tests.integration.textract.jobs_world import world_in
from textract_support.emulator import document, until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.stack

BUCKET = "photos"
TOKEN, OTHER_TOKEN, THIRD_TOKEN = ("a" * 64, "b" * 64, "c" * 64)
PAGE_SIZE = 2
FAULT = "Internal error, as the test asks for"


@dataclass
class Side:
    """One of the two Textracts with its documents."""

    client: Any
    bucket: str
    put: Callable[[str, bytes], object]
    pass_time: Callable[[], object]
    fail_jobs: Callable[[], object]
    refuse_calls: Callable[[], object]
    charges: Callable[[str], int]
    gate: Path
    """A file that the reader of a document waits for, if the document names it."""

    def start(self, key: str, **members: Any) -> str:
        """Start a job; return its id, or the error code."""
        location = {"S3Object": {"Bucket": self.bucket, "Name": key}}
        return str(
            told(lambda: self.client.start_document_text_detection(DocumentLocation=location, **members)["JobId"])
        )

    def get(self, job_id: str, **members: Any) -> dict[str, Any]:
        response = dict(self.client.get_document_text_detection(JobId=job_id, **members))
        response.pop("ResponseMetadata", None)
        return response

    def ended(self, job_id: str, **members: Any) -> dict[str, Any]:
        found: list[dict[str, Any]] = []

        def has_ended() -> bool:
            found.append(self.get(job_id, **members))
            self.pass_time()
            return bool(found[-1]["JobStatus"] != "IN_PROGRESS")

        until(has_ended)
        return found[-1]


def told(ask: Callable[[], Any]) -> Any:
    """Return a response, or the code and status of an error."""
    try:
        return ask()
    except ClientError as error:
        return f"{error.response['Error']['Code']} {error.response['ResponseMetadata']['HTTPStatusCode']}"


@contextmanager
def simulated(directory: Path) -> Iterator[Side]:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    store = MemoryObjectStore()
    store.ensure_bucket(BUCKET)

    def pass_time() -> None:
        nonlocal now
        now += timedelta(seconds=1)

    textract = MemoryTextract(store, lambda: now, page_size=1000)

    def refuse_calls() -> None:
        textract.throttled = 1

    yield Side(
        client=textract,
        bucket=BUCKET,
        put=lambda key, body: store.put(BUCKET, key, body, content_type="image/png"),
        pass_time=pass_time,
        fail_jobs=lambda: textract.failures.append(FAULT),
        refuse_calls=refuse_calls,
        charges=lambda sha256: textract.charges[sha256],
        gate=directory / "simulated-gate",
    )


@contextmanager
def emulated(directory: Path, variables: Mapping[str, str], s3: S3Client, bucket: str) -> Iterator[Side]:
    with world_in(directory / "emulator", variables, s3, bucket) as world:
        script = {"job-fails": {"kind": "job-fails", "message": FAULT, "times": 1}}
        script["refuse"] = {"kind": "provisioned-throughput", "calls": [1], "operation": "Start*"}
        yield Side(
            client=world.textract,
            bucket=bucket,
            put=lambda key, body: world.stored(body, key),
            pass_time=lambda: None,
            fail_jobs=lambda: world.control("faults", "PUT", rules=[script["job-fails"]]),
            refuse_calls=lambda: world.control("faults", "PUT", rules=[script["refuse"]]),
            charges=lambda sha256: world.tally(sha256)["billed"],
            gate=directory / "gate",
        )


def tokens(side: Side) -> dict[str, Any]:
    """The same token returns the same job; another input with it is refused; without a token, each job is new."""
    body = document("Lemon Oat Biscuits")
    side.put("one.png", body)
    side.put("two.png", document("Plum Cake"))
    first, again = (side.start("one.png", ClientRequestToken=TOKEN) for _ in range(2))
    facts: dict[str, Any] = {
        "same job": first == again,
        "other document": side.start("two.png", ClientRequestToken=TOKEN),
        "other token": side.start("one.png", ClientRequestToken=OTHER_TOKEN) == first,
    }
    side.ended(first)
    facts["same job when it has ended"] = side.start("one.png", ClientRequestToken=TOKEN) == first
    side.put("one.png", document("Something else by the same name"))
    facts["same job when the object is another"] = side.start("one.png", ClientRequestToken=TOKEN) == first
    facts["without tokens"] = side.start("two.png") == side.start("two.png")
    return facts


def charges(side: Side) -> dict[str, Any]:
    """Each completed job is charged once, however often it was started and read; a failed one is not charged."""
    body = document("Rye Bread")
    sha256 = hashlib.sha256(body).hexdigest()
    side.put("bread.png", body)
    for _ in range(3):
        side.ended(side.start("bread.png", ClientRequestToken=TOKEN))
    facts: dict[str, Any] = {"one token": side.charges(sha256)}
    side.fail_jobs()
    failed = side.ended(side.start("bread.png", ClientRequestToken=OTHER_TOKEN))
    facts |= {"failed": failed, "one that failed": side.charges(sha256)}
    facts["the failed one's token"] = side.ended(side.start("bread.png", ClientRequestToken=OTHER_TOKEN))
    side.ended(side.start("bread.png", ClientRequestToken=THIRD_TOKEN))
    facts["another token"] = side.charges(sha256)
    return facts


def refusals(side: Side) -> dict[str, Any]:
    """Errors have the same code and HTTP status."""
    body = document("Pea Soup")
    side.put("soup.png", body)
    job_id = side.start("soup.png", ClientRequestToken=TOKEN)
    side.ended(job_id)
    facts: dict[str, Any] = {
        "no such object": side.start("none.png", ClientRequestToken=OTHER_TOKEN),
        "no such job": told(lambda: side.get("0" * 64)),
        "no such page": told(lambda: side.get(job_id, NextToken="nowhere")),
    }
    side.refuse_calls()
    facts["throttled"] = side.start("soup.png", ClientRequestToken=THIRD_TOKEN)
    facts["no longer"] = len(side.start("soup.png", ClientRequestToken=THIRD_TOKEN))
    return facts


def pages(side: Side) -> dict[str, Any]:
    """Results are paged; each part can be read by its token repeatedly, and all have the same members."""
    side.put("parts.png", document("one two three", wait_for=str(side.gate)))
    job_id = side.start("parts.png", ClientRequestToken=TOKEN)
    running = side.get(job_id)
    side.gate.touch()
    whole = side.ended(job_id)
    parts = [side.get(job_id, MaxResults=PAGE_SIZE)]
    while "NextToken" in parts[-1]:
        token = parts[-1]["NextToken"]
        parts.append(side.get(job_id, MaxResults=PAGE_SIZE, NextToken=token))
        assert side.get(job_id, MaxResults=PAGE_SIZE, NextToken=token) == parts[-1]
    blocks = [block for part in parts for block in part["Blocks"]]
    return {
        "while it runs": running["JobStatus"],
        "members while it runs": sorted(running),
        "members": [sorted(part) for part in (whole, *parts[:1], *parts[-1:])],
        "full parts": all(len(part["Blocks"]) == PAGE_SIZE for part in parts[:-1]),
        "all of it": blocks == whole["Blocks"],
        "blocks once": len({block["Id"] for block in blocks}) == len(blocks),
        "metadata": [part["DocumentMetadata"] for part in parts] == [{"Pages": 1}] * len(parts),
        "kinds": {block["BlockType"]: sorted(block) for block in blocks},
        "order": list(dict.fromkeys(block["BlockType"] for block in blocks)),
    }


@pytest.mark.parametrize("conversation", [tokens, charges, refusals, pages])
def test_simulated_textract_responds_as_emulator(
    conversation: Callable[[Side], dict[str, Any]],
    tmp_path: Path,
    stack_env: dict[str, str],
    s3_client: S3Client,
    bucket: str,
) -> None:
    with emulated(tmp_path, stack_env, s3_client, bucket) as side:
        real = conversation(side)
    with simulated(tmp_path) as side:
        assert conversation(side) == real
