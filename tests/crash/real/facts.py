"""The facts of a world at rest: rows, objects, workflows, charges and logs."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory

from photo_worker.ports.job_repository import JobRecord
from photo_worker.ports.object_store import ObjectStore
from photo_worker.services.binding import MARKER_KEY
from tests.crash.real.environment import World

_AT_ONCE = 8
_OBJECT_LIMIT_BYTES = 1 << 24
_CHARGED = frozenset({"SUCCEEDED", "PARTIAL_SUCCESS"})
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

# Matches the digest of bucket and key in a copy's name.
_PLACE = re.compile(r"-[0-9a-f]{32}\.jpg")


@dataclass(frozen=True)
class ObjectFacts:
    """The content and metadata of a stored object."""

    body: bytes = field(repr=False)
    content_type: str
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class WorkflowFacts:
    """The content of a workflow's history: how it closed, and the highest attempt of each activity."""

    status: str
    attempts: Mapping[str, int]
    history: WorkflowHistory = field(repr=False)


@dataclass(frozen=True)
class Facts:
    """All facts of one world. ``charges`` are by the document's s3:// name, as the emulator keeps them."""

    rows: tuple[JobRecord, ...]
    objects: Mapping[str, ObjectFacts]
    workflows: Mapping[str, WorkflowFacts]
    charges: Mapping[str, int]
    logs: str = field(repr=False, default="")

    def comparable(self, bucket: str) -> dict[str, Any]:
        """Return the facts to compare with a run without faults: without times, with names for ids and the bucket."""
        ids = {found: f"<job {number}>" for number, found in enumerate(sorted(self.workflows))}

        def named(text: str) -> str:
            text = _PLACE.sub("-<place>.jpg", text.replace(bucket, "<bucket>"))
            return _UUID.sub(lambda found: ids.get(found[0], found[0]), text)

        rows = sorted(
            named(json.dumps({k: str(v) for k, v in vars(row).items() if k not in {"created_at", "updated_at"}}))
            for row in self.rows
        )
        objects = {
            named(key): (
                named(kept.body.decode("latin-1")),
                kept.content_type,
                {name: named(value) for name, value in kept.metadata.items()},
            )
            for key, kept in self.objects.items()
            # The marker, which names the bucket's database.
            if key != MARKER_KEY
        }
        charges = {named(document): number for document, number in self.charges.items()}
        statuses = sorted(workflow.status for workflow in self.workflows.values())
        return {"rows": rows, "objects": objects, "charges": charges, "workflows": statuses}


async def gather(world: World, job_ids: list[UUID]) -> Facts:
    """Collect the facts of a world."""
    rows, objects, charges = await asyncio.gather(
        asyncio.to_thread(lambda: tuple(world.repository.all())),
        asyncio.to_thread(objects_of, world.store, world.bucket),
        asyncio.to_thread(charges_of, world.environment.stack),
    )
    gate = asyncio.Semaphore(_AT_ONCE)

    async def history_of(job_id: UUID) -> WorkflowHistory | None:
        async with gate:
            return await world.environment.history(str(job_id))

    histories = await asyncio.gather(*map(history_of, job_ids))
    workflows = {found.workflow_id: workflow_facts_of(found) for found in histories if found is not None}
    own = {document: number for document, number in charges.items() if document.startswith(f"s3://{world.bucket}/")}
    return Facts(rows, objects, workflows, own, world.logs())


def objects_of(store: ObjectStore, bucket: str) -> dict[str, ObjectFacts]:
    """Return every object of a bucket by key."""

    def look(key: str) -> ObjectFacts:
        info = store.head(bucket, key)
        body = store.get(bucket, key, limit_bytes=_OBJECT_LIMIT_BYTES)
        return ObjectFacts(body, info.content_type, dict(info.metadata))

    keys = [entry.key for entry in store.list(bucket, "")]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(keys, pool.map(look, keys), strict=True))


def emulator(stack: Mapping[str, str], path: str, *, method: str = "GET", body: Any = None) -> Any:
    """Send a request to the Textract emulator's control interface and return the JSON."""
    request = urllib.request.Request(  # noqa: S310 - the stack's own address on loopback
        f"{stack['AWS_ENDPOINT_URL_TEXTRACT']}/_emulator/{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as response:
        return json.load(response)


def charges_of(stack: Mapping[str, str]) -> Counter[str]:
    """Count the charges of the service by document: each job that ended with blocks.

    Jobs outlive the emulator's process, unlike its counters; a restart is one of the faults.
    """
    jobs = emulator(stack, "jobs")["jobs"]
    return Counter(str(job["Document"]) for job in jobs if job["JobStatus"] in _CHARGED)


_CLOSED = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: "completed",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: "failed",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: "cancelled",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: "terminated",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: "timed out",
}


def workflow_facts_of(history: WorkflowHistory) -> WorkflowFacts:
    """Read a history: its last event gives the status, the starts of activities the number of attempts."""
    names: dict[int, str] = {}
    attempts: Counter[str] = Counter()
    for event in history.events:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            names[event.event_id] = event.activity_task_scheduled_event_attributes.activity_type.name
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            started = event.activity_task_started_event_attributes
            name = names[started.scheduled_event_id]
            attempts[name] = max(attempts[name], started.attempt)
    return WorkflowFacts(_CLOSED.get(history.events[-1].event_type, "running"), dict(attempts), history)
