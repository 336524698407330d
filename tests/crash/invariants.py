"""The invariants of a simulated deployment: those of every moment, and those at rest.

Invariants of live data are checked by the product's own rules, ``photo_worker.services.consistency``. Numbers are
those of docs/explanation/crash-safety.md. The product has no messages and dead letters (7) yet; the simulation replays
histories (8) whenever a worker gets a workflow that another one began.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.contracts.references import job_of, main_id
from photo_worker.errors import ObjectMissing, ends_job
from photo_worker.ports.job_repository import JobRecord
from photo_worker.ports.orchestrator import JobWorkflow
from photo_worker.services.binding import MARKER_KEY
from photo_worker.services.consistency.evidence import Evidence, StoredObject
from photo_worker.services.consistency.finding import Severity
from photo_worker.services.consistency.rules import all_rules, findings
from photo_worker.services.consistency.rules_results import read_manifest
from tests.crash.simulation.orchestrator import state_of
from tests.crash.simulation.world import BUCKET, World
from tests.crash.violation import POLICIES, Violation

_LIMIT_BYTES = 1 << 24
_FINAL = frozenset({"succeeded", "failed"})


class Watch:
    """Checks a world repeatedly, and remembers states that must not change back."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._final: dict[UUID, JobRecord] = {}
        self._runs: dict[str, str] = {}

    def now(self) -> list[Violation]:
        """Return the current violations."""
        rows = [*self._world.rows.all()]
        return [
            *self._statuses(rows),
            *self._executions(),
            *_charges(self._world),
            *_results(self._world, rows),
            *_texts(self._world, rows),
        ]

    def at_rest(self, accepted: Iterable[UUID], erased: Iterable[UUID] = ()) -> list[Violation]:
        """Return the violations when nothing runs any more.

        ``accepted`` are the jobs whose submission succeeded, ``erased`` those whose erasure succeeded.
        """
        gone = set(erased)
        return [
            *self.now(),
            *_broken_rules(self._world, gone),
            *_endings(self._world, set(accepted) - gone),
            *_attempts(self._world),
            *_traces(self._world, gone),
        ]

    def _statuses(self, rows: Iterable[JobRecord]) -> Iterator[Violation]:
        for row in rows:
            before = self._final.get(row.id)
            if before is not None and (row.status, row.error_code) != (before.status, before.error_code):
                yield Violation(6, f"{row.id} was {before.status} and is {row.status}")
            if row.status in _FINAL:
                self._final[row.id] = row

    def _executions(self) -> Iterator[Violation]:
        for execution in self._world.service.executions.values():
            run_id = self._runs.setdefault(execution.workflow_id, execution.run_id)
            if run_id != execution.run_id and not self._world.rows.is_erased(_job_of(execution.workflow_id)):
                yield Violation(1, f"{execution.workflow_id} was started twice")


def evidence_of(world: World, erased: Iterable[UUID] = ()) -> Evidence:
    """Return the state of the deployment as the product's own rules expect it."""
    objects = {(BUCKET, key): found for key, found in stored(world.store).items()}
    rows = {row.id: row for row in world.rows.all()}
    ids = {*rows, *map(_job_of, world.service.executions), *erased}
    # A rule reports an object as missing only if it was looked up and not found.
    named = {(row.s3_raw_bucket or BUCKET, row.s3_raw_key) for row in rows.values()}
    named |= {(BUCKET, key) for row in rows.values() for key in (row.s3_ocr_key, row.s3_manifest_key) if key}
    manifests = [read_manifest(objects.get((BUCKET, row.s3_manifest_key or ""))) for row in rows.values()]
    named |= {(one.converted.bucket, one.converted.key) for one in manifests if one and one.converted}
    return Evidence(
        looked_at=world.now,
        bucket=BUCKET,
        rows=rows,
        objects=objects,
        unreadable={place: ObjectMissing(bucket=place[0], key=place[1]) for place in named - objects.keys()},
        workflows={job_id: state_of(world.service.executions.get(main_id(job_id))) for job_id in ids},
        others=_further(world),
        erased={job_id for job_id in ids if world.rows.is_erased(job_id)},
        grace=timedelta(0),
        pipelines=world.pipelines,
    )


def _job_of(workflow_id: str) -> UUID:
    job_id = job_of(workflow_id)
    if job_id is None:
        raise ValueError(f"the workflow {workflow_id} belongs to no job")
    return job_id


def _further(world: World) -> dict[UUID, list[JobWorkflow]]:
    """Return the further workflows of each job that has some, of any type, by id."""
    found: dict[UUID, list[JobWorkflow]] = {}
    for workflow_id, execution in sorted(world.service.executions.items()):
        job_id, state = _job_of(workflow_id), state_of(execution)
        if state is not None and workflow_id != main_id(job_id):
            found.setdefault(job_id, []).append(JobWorkflow(workflow_id, execution.kind, state))
    return found


def stored(store: MemoryObjectStore) -> dict[str, StoredObject]:
    """Return every object of jobs with its bytes and their hash, by key; the marker is the deployment's."""
    found = {}
    for entry in store.list(BUCKET, ""):
        if entry.key == MARKER_KEY:
            continue
        body = store.get(BUCKET, entry.key, limit_bytes=_LIMIT_BYTES)
        about = store.head(BUCKET, entry.key)
        digest = hashlib.sha256(body).hexdigest()
        found[entry.key] = StoredObject(
            BUCKET, entry.key, entry.size_bytes, entry.modified_at, about.metadata, body, digest
        )
    return found


def outcome(world: World) -> dict[str, Any]:
    """Return the outcome to compare with a run without faults: everything except times and intermediate steps."""
    left = {"created_at", "updated_at"}
    return {
        "rows": {str(row.id): {k: v for k, v in vars(row).items() if k not in left} for row in world.rows.all()},
        "objects": {key: (found.body, dict(found.metadata or {})) for key, found in stored(world.store).items()},
        "workflows": {name: found.status for name, found in world.service.executions.items()},
        "charges": dict(world.textract.charges),
    }


def _broken_rules(world: World, erased: set[UUID]) -> Iterator[Violation]:
    invariants = {rule.code: rule.invariant for rule in all_rules()}
    for found in findings(evidence_of(world, erased)):
        if found.severity is not Severity.NOTICE:
            yield Violation(invariants[found.code], f"{found.code} at {found.where}: {found.problem}")


def _charges(world: World) -> Iterator[Violation]:
    """Yield a violation for each document charged twice; an owner's object may be charged once per writing."""
    charges, writings = world.textract.charges, world.owner.writings
    if not charges:
        return
    for sha256, number in charges.items():
        # Textract reads the verified version; without versioning it may find another writing in its place, which
        # the product detects after the response.
        most = max(1, writings[sha256] if world.versions else writings.total())
        if number > (most if sha256 in writings else 1):
            yield Violation(3, f"the document {sha256[:12]} was charged {number} times")
    paid = sum(number for sha256, number in charges.items() if sha256 in writings)
    if paid > writings.total():
        yield Violation(3, f"an object that was written {writings.total()} times was charged {paid} times")


def _results(world: World, rows: Iterable[JobRecord]) -> Iterator[Violation]:
    ended = [row for row in rows if row.status == "succeeded" and not world.rows.is_erased(row.id)]
    keys = {entry.key for entry in world.store.list(BUCKET, "artifacts/")} if ended else set()
    for row in ended:
        for key in (row.s3_ocr_key, row.s3_manifest_key):
            if key not in keys:
                yield Violation(4, f"{row.id} succeeded, and {key} is not there")


def _texts(world: World, rows: Iterable[JobRecord]) -> Iterator[Violation]:
    """Yield successes whose text is not that of the bytes with the row's hash; a text here is made of its hash."""
    for row in rows:
        if row.status != "succeeded" or not row.s3_ocr_key or world.rows.is_erased(row.id):
            continue
        try:
            body = world.store.get(BUCKET, row.s3_ocr_key, limit_bytes=_LIMIT_BYTES)
        except ObjectMissing:
            continue
        lines = [block["Text"] for block in json.loads(body)["Blocks"] if block["BlockType"] == "LINE"]
        # OCR reads the copy of a photo whose format it does not accept.
        copies = world.store.list(BUCKET, f"converted/{row.content_sha256}-")
        read = [world.store.head(BUCKET, copy.key).metadata["sha256"] for copy in copies]
        if lines[:1] != [(*read, row.content_sha256)[0][:8]]:
            yield Violation(5, f"{row.id} has the hash {row.content_sha256[:8]} and the text of {lines[:1]}")


def _endings(world: World, accepted: set[UUID]) -> Iterator[Violation]:
    further = _further(world)
    for job_id in sorted(accepted):
        row = world.rows.get(job_id)
        execution = world.service.executions.get(str(job_id))
        if row is None or row.status not in _FINAL or (row.status == "failed" and not row.error_code):
            yield Violation(2, f"{job_id} was accepted and is {row.status if row else 'nowhere'}")
        if row is not None and row.status == "failed" and not ends_job(row.error_code or ""):
            yield Violation(2, f"{job_id} failed by what it does not have: [{row.error_code}] {row.error_message}")
        if execution is None or execution.status == "running":
            yield Violation(10, f"{job_id} has {'an open' if execution else 'no'} workflow")
        for one in further.get(job_id, ()):
            if one.state.is_open:
                yield Violation(10, f"{job_id} has the open workflow {one.workflow_id}")


def _attempts(world: World) -> Iterator[Violation]:
    for execution in world.service.executions.values():
        for activity, attempts in execution.unexpected.items():
            most = POLICIES[activity].maximum_attempts
            if most and attempts > most:
                yield Violation(11, f"{activity} of {execution.workflow_id} was tried {attempts} times of {most}")


def _traces(world: World, erased: set[UUID]) -> Iterator[Violation]:
    further = _further(world)
    for job_id in sorted(erased):
        where = [key for key, found in stored(world.store).items() if str(job_id) in f"{key} {found.metadata}"]
        where += ["its row"] if world.rows.get(job_id) else []
        where += ["its workflow"] if main_id(job_id) in world.service.executions else []
        where += [f"its workflow {one.workflow_id}" for one in further.get(job_id, ())]
        if where:
            yield Violation(9, f"{job_id} was erased, and there is {', '.join(where)}")
