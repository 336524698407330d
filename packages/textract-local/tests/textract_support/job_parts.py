"""Documents and a reader for the jobs under test: the content of a document controls its pages."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from textract_local.reader.analysis.request import Analysis
from textract_local.server.counters import Counters
from textract_local.server.documents import ASYNC, Document, DocumentLimits
from textract_local.server.failures import BAD_DOCUMENT, INVALID_S3_OBJECT, UNSUPPORTED_DOCUMENT, ServiceError
from textract_local.server.faults import FaultInjector
from textract_local.server.jobs import Jobs
from textract_local.server.jobs.thread import RetryWaits
from textract_local.server.spool import Spool

DEADLINE_SECONDS = 20.0
TEXT, ANALYSIS = "StartDocumentTextDetection", "StartDocumentAnalysis"
GET = {TEXT: "GetDocumentTextDetection", ANALYSIS: "GetDocumentAnalysis"}


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def start_input(name: str = "scan.pdf", **members: Any) -> dict[str, Any]:
    """The input of a Start operation."""
    return {"DocumentLocation": {"S3Object": {"Bucket": "scans", "Name": name}}, **members}


class Objects:
    """Objects by key, and how often each was checked and downloaded."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.checked: Counter[str] = Counter()
        self.fetched: Counter[str] = Counter()
        self.failing: list[ServiceError] = []

    def put(self, name: str = "scan.pdf", **told: Any) -> str:
        """Store a document: ``pages`` has the number of blocks of each page, negative if it cannot be read."""
        content = json.dumps({"pages": [3], **told, "nonce": secrets.token_hex(8)}).encode()
        self.content[name] = content
        return hashlib.sha256(content).hexdigest()

    async def check(self, location: Mapping[str, Any], limits: DocumentLimits) -> None:
        name = location["S3Object"]["Name"]
        self.checked[name] += 1
        await asyncio.sleep(0)
        if name not in self.content:
            raise ServiceError(INVALID_S3_OBJECT, f"there is no {name}")

    async def get(self, document: Mapping[str, Any], limits: DocumentLimits) -> Document:
        name = document["S3Object"]["Name"]
        self.fetched[name] += 1
        if self.failing:
            raise self.failing.pop()
        if name not in self.content:
            raise ServiceError(INVALID_S3_OBJECT, f"there is no {name}")
        return Document.of(self.content[name], name)


class FakeReader:
    """Reads the documents of ``Objects.put``. Pages wait while ``gate`` is not set."""

    def __init__(self, spool: Spool) -> None:
        self.identity = ("obedient", "1")
        self.gate = asyncio.Event()
        self.gate.set()
        self.read: Counter[tuple[str, int]] = Counter()
        self.asked: list[Analysis | None] = []
        self._spool = spool

    async def pages(self, document: Document, limits: DocumentLimits) -> int:
        told = self._told(document)
        if told.get("defect") == "pages":
            raise ZeroDivisionError("the reader fell over")
        if told["pages"] is None:
            raise ServiceError(UNSUPPORTED_DOCUMENT, "it is no document")
        return len(told["pages"])

    async def page(
        self,
        document: Document,
        number: int,
        analysis: Analysis | None,
        *,
        limits: DocumentLimits,
        counters: Counters,
        urgent: bool,
    ) -> list[dict[str, Any]]:
        assert not urgent
        free = self._told(document).get("free", 0)
        if number > free:
            await self.gate.wait()
        self.read[document.sha256, number] += 1
        self.asked.append(analysis)
        if self._told(document).get("defect") == "page":
            raise ZeroDivisionError("the reader fell over")
        blocks = self._told(document)["pages"][number - 1]
        if blocks < 0:
            raise ServiceError(BAD_DOCUMENT, problem=f"page {number} is damaged")
        return [{"BlockType": "PAGE" if index == 0 else "WORD", "Id": f"{number}-{index}"} for index in range(blocks)]

    def _told(self, document: Document) -> Any:
        with document.file(self._spool) as path:
            return json.loads(path.read_bytes())


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Emulated:
    """Jobs in a directory, with their reader, clock, faults and counters."""

    def __init__(
        self,
        directory: Path,
        objects: Objects,
        *,
        most_open: int = 100,
        version: str = "1",
        later: float = 0,
        waits: RetryWaits | None = None,
    ) -> None:
        self.objects = objects
        self.spool = Spool(directory / "spool")
        self.reader = FakeReader(self.spool)
        self.reader.identity = ("obedient", version)
        self.clock = Clock()
        self.clock.now += later
        self.faults = FaultInjector()
        self.counters = Counters()
        self.jobs = Jobs(
            directory,
            objects,
            self.reader,
            self.spool,
            faults=self.faults,
            counters=lambda: self.counters,
            limits=ASYNC,
            most_open=most_open,
            clock=self.clock,
            waits=waits or RetryWaits(),
        )

    async def start(self, operation: str = TEXT, /, **members: Any) -> str:
        job_id = (await self.jobs.start(operation, start_input(**members), self.counters))["JobId"]
        assert isinstance(job_id, str)
        return job_id

    async def get(self, job_id: str, operation: str = TEXT, /, **members: Any) -> dict[str, Any]:
        return await self.jobs.get(GET[operation], {"JobId": job_id, **members})

    async def ended(self, job_id: str, operation: str = TEXT) -> dict[str, Any]:
        """Wait until a job has ended, and return its first response."""
        response: dict[str, Any] = {}

        async def has_ended() -> bool:
            nonlocal response
            response = await self.get(job_id, operation)
            return bool(response["JobStatus"] != "IN_PROGRESS")

        await until(has_ended)
        return response

    def billed(self, sha256: str) -> int:
        counted: int = self.counters.shown()["documents"].get(sha256, {}).get("billed", 0)
        return counted


Open = Callable[..., Awaitable[Emulated]]
