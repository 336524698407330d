"""Sound evidence of a deployment, and the damages that tests do to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from photo_worker.contracts.keys import converted_key, manifest_key, ocr_key
from photo_worker.errors import DocumentTooLarge, ObjectMissing
from photo_worker.ports.orchestrator import JobWorkflow, QueueState, WorkflowState
from photo_worker.services.binding import Binding
from photo_worker.services.consistency.evidence import (
    CONVERTED_FOLDER,
    JOB_FOLDERS,
    RAW_FOLDER,
    Evidence,
    StoredObject,
    owner_of,
)
from photo_worker.services.consistency.inspector import InspectionConfig, InspectionPorts, of_entry
from photo_worker.services.consistency.scan import open_scanner
from tests.support.healthy_deployment import BUCKET, FOREIGN, JOB, OTHER, START, Deployment

SOURCE = (FOREIGN, "holidays/photo.png")
LATER = START + timedelta(days=1)
COPY = b"what OCR read"

Damage = Callable[[Evidence], Evidence]


async def collect(ports: InspectionPorts, config: InspectionConfig) -> Evidence:
    """Return all evidence of a deployment at once; a scan holds only that of a few jobs."""
    whole = Evidence(looked_at=config.now(), bucket=ports.bucket, grace=config.grace, pipelines=ports.pipelines)
    objects, unreadable = dict(whole.objects), dict(whole.unreadable)
    rows, workflows, erased = dict(whole.rows), dict(whole.workflows), set[UUID]()
    others: dict[UUID, Sequence[JobWorkflow]] = {}
    queues = (await ports.orchestrator.queue_state(),)
    async with open_scanner(ports, config) as scanner:
        names = {group.job_id for group in scanner._groups() if group.job_id} | await scanner._running()
        for job_id in sorted(names):
            seen = await scanner.inspector.reinspect(job_id, queues)
            rows |= seen.rows
            objects |= seen.objects
            unreadable |= seen.unreadable
            workflows |= seen.workflows
            others |= seen.others
            erased |= {job_id} if job_id in seen.erased else set()
        for folder in (*JOB_FOLDERS, CONVERTED_FOLDER, RAW_FOLDER):
            for entry in ports.store.list(ports.bucket, folder):
                found = of_entry(entry)
                known = objects.get(found.location)
                objects[found.location] = replace(known, modified_at=found.modified_at) if known else found
    return replace(
        whole,
        rows=rows,
        objects=objects,
        unreadable=unreadable,
        workflows=workflows,
        others=others,
        erased=frozenset(erased),
        queues=queues,
    )


async def sound() -> Evidence:
    """Evidence of a succeeded and a failed job, both a day old."""
    deployment = Deployment()
    deployment.succeeded(JOB, copy=COPY)
    deployment.failed(OTHER)
    deployment.time = LATER
    return await collect(deployment.ports, deployment.means())


def row(**changes: Any) -> Damage:
    return lambda seen: replace(seen, rows=dict(seen.rows) | {JOB: replace(seen.rows[JOB], **changes)})


def other_row(**changes: Any) -> Damage:
    return lambda seen: replace(seen, rows=dict(seen.rows) | {OTHER: replace(seen.rows[OTHER], **changes)})


def no_row(seen: Evidence) -> Evidence:
    return replace(seen, rows={OTHER: seen.rows[OTHER]}, workflows={OTHER: seen.workflows[OTHER]})


def workflow(status: str | None, **more: Any) -> Damage:
    state = None if status is None else WorkflowState(status, START, **more)
    return lambda seen: replace(seen, workflows=dict(seen.workflows) | {JOB: state})


def thing(location: Callable[[Evidence], tuple[str, str]], **changes: Any) -> Damage:
    def damage(seen: Evidence) -> Evidence:
        place = location(seen)
        return replace(seen, objects=dict(seen.objects) | {place: replace(seen.objects[place], **changes)})

    return damage


def gone(location: Callable[[Evidence], tuple[str, str]], error: type[Any] = ObjectMissing) -> Damage:
    def damage(seen: Evidence) -> Evidence:
        bucket, key = location(seen)
        objects = {place: found for place, found in seen.objects.items() if place != (bucket, key)}
        context = {"name": key, "size_bytes": 1, "limit_bytes": 0} if error is DocumentTooLarge else {}
        return replace(seen, objects=objects, unreadable={(bucket, key): error(bucket=bucket, key=key, **context)})

    return damage


def added(*things: StoredObject) -> Damage:
    return lambda seen: replace(seen, objects=dict(seen.objects) | {one.location: one for one in things})


def both(*damages: Damage) -> Damage:
    def damage(seen: Evidence) -> Evidence:
        for one in damages:
            seen = one(seen)
        return seen

    return damage


def erased(seen: Evidence) -> Evidence:
    return replace(seen, erased=frozenset({JOB}))


def photo(seen: Evidence) -> tuple[str, str]:
    return seen.raw_location(seen.rows[JOB])


def ocr(seen: Evidence) -> tuple[str, str]:
    return BUCKET, ocr_key(JOB)


def manifest(seen: Evidence) -> tuple[str, str]:
    return BUCKET, manifest_key(JOB)


def copy(seen: Evidence) -> tuple[str, str]:
    job = seen.rows[JOB]
    return BUCKET, converted_key(*seen.raw_location(job), job.content_sha256)


def body(old: bytes, new: bytes) -> Damage:
    def damage(seen: Evidence) -> Evidence:
        found = seen.objects[BUCKET, manifest_key(JOB)].body
        assert found is not None
        assert old in found
        return thing(manifest, body=found.replace(old, new))(seen)

    return damage


def open_row(status: str, age: timedelta, **changes: Any) -> Damage:
    """A job in progress whose row changed ``age`` ago: no result yet, no objects of its own."""
    none = {"s3_bucket": None, "s3_ocr_key": None, "s3_manifest_key": None}
    return both(
        lambda seen: replace(
            seen,
            objects={
                place: found
                for place, found in seen.objects.items()
                if owner_of(found.key) != JOB and place != copy(seen)
            },
        ),
        row(status=status, updated_at=LATER - age, created_at=LATER - age, **none, **changes),
    )


def queue(**changes: Any) -> Damage:
    state = QueueState("recipe-process", backlog=0, oldest_seconds=0.0, has_worker=True)
    return lambda seen: replace(seen, queues=(replace(state, **changes),))


def bound(binding: Binding) -> Damage:
    return lambda seen: replace(seen, binding=binding)


def old(bucket: str, key: str, **changes: Any) -> StoredObject:
    return replace(StoredObject(bucket, key, 5, START), **changes)


MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
