"""What was observed of a deployment at one time: the input of the rules. No I/O."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

from photo_worker.contracts.keys import parse_job_id
from photo_worker.errors import InvalidJobId, PhotoWorkerError
from photo_worker.pipelines import PIPELINES, JobPipeline, Pipeline, artifact_folders, further_pipelines, job_pipeline
from photo_worker.ports.job_repository import JobRecord
from photo_worker.ports.orchestrator import JobWorkflow, QueueState, WorkflowState
from photo_worker.services.binding import Binding

Location: TypeAlias = tuple[str, str]
"""A bucket and a key."""

# Prefixes of keys whose second segment is the id of the job that the object belongs to; the last is reserved.
JOB_FOLDERS = (*artifact_folders(), "tags/")
RAW_FOLDER = "raw/"
CONVERTED_FOLDER = "converted/"

DEFAULT_GRACE = timedelta(hours=1)

_CONVERTED_NAME = re.compile(r"converted/([0-9a-f]{64})-[0-9a-f]{32}\.jpg")
_RAW_NAME = re.compile(r"raw/([0-9a-f]{64})(?:\.[a-z0-9]{1,8})?")


def owner_of(key: str) -> UUID | None:
    """Return the job that an object's name puts it under (``artifacts/{job id}/...``), None for other names."""
    folder = next((folder for folder in JOB_FOLDERS if key.startswith(folder)), None)
    if folder is None:
        return None
    name, slash, rest = key.removeprefix(folder).partition("/")
    try:
        return parse_job_id(name) if slash and rest else None
    except InvalidJobId:
        return None


def uploaded_sha256(key: str) -> str | None:
    """Return the hash in an uploaded photo's name (see ``contracts.keys.raw_key``), None for other names."""
    found = _RAW_NAME.fullmatch(key)
    return found[1] if found else None


def converted_sha256(key: str) -> str | None:
    """Return the original's hash in a copy's name (see ``contracts.keys.converted_key``), None for other names."""
    found = _CONVERTED_NAME.fullmatch(key)
    return found[1] if found else None


@dataclass(frozen=True)
class StoredObject:
    """An object. ``metadata``, ``body`` and ``sha256`` (hexadecimal) are None if they were not requested.

    ``etag`` is S3's, without quotes; ``hidden`` tells that the object is behind a delete marker.
    """

    bucket: str
    key: str
    size_bytes: int
    modified_at: datetime | None = None
    metadata: Mapping[str, str] | None = None
    body: bytes | None = None
    sha256: str | None = None
    etag: str | None = None
    hidden: bool = False

    @property
    def location(self) -> Location:
        """The bucket and key."""
        return self.bucket, self.key


@dataclass(frozen=True)
class Evidence:
    """Rows, objects and workflows of some jobs or of all, with the time of observation.

    ``objects`` holds the objects that exist, ``unreadable`` those that were requested and could not be read, with the
    error; an object in neither was not requested. A workflow of None is one that Temporal does not know; an id that is
    not in ``workflows`` was not requested.

    ``others`` has the further workflows of jobs: those of the pipelines, and of a job that is erased or has no row all
    that Temporal lists.

    ``binding`` tells whether the bucket belongs to the database, None if that was not requested.

    ``referenced`` holds the location of every raw object that a row refers to, and of its copy for OCR, or is None
    if ``rows`` are the rows of all jobs. Objects without an owner are young, and no finding, up to an age of ``grace``.

    ``pipelines`` are those of the deployment, with the policies that the workers pass to the workflows.
    """

    looked_at: datetime
    bucket: str
    rows: Mapping[UUID, JobRecord] = field(default_factory=dict)
    objects: Mapping[Location, StoredObject] = field(default_factory=dict)
    unreadable: Mapping[Location, PhotoWorkerError] = field(default_factory=dict)
    workflows: Mapping[UUID, WorkflowState | None] = field(default_factory=dict)
    others: Mapping[UUID, Sequence[JobWorkflow]] = field(default_factory=dict)
    erased: Container[UUID] = frozenset()
    queues: tuple[QueueState, ...] = ()
    binding: Binding | None = None
    referenced: Container[Location] | None = None
    grace: timedelta = DEFAULT_GRACE
    pipelines: Sequence[Pipeline] = PIPELINES

    @property
    def main(self) -> JobPipeline:
        """The pipeline that moves the rows."""
        return job_pipeline(self.pipelines)

    @property
    def further(self) -> Sequence[Pipeline]:
        """The pipelines of the further workflows."""
        return further_pipelines(self.pipelines)

    def raw_location(self, row: JobRecord) -> Location:
        """Return the location of a row's photo; a row without a bucket means the worker's."""
        return row.s3_raw_bucket or self.bucket, row.s3_raw_key

    def uploaded(self, row: JobRecord) -> bool:
        """Tell whether ``submit`` stored a row's photo, rather than its owner."""
        bucket, key = self.raw_location(row)
        return bucket == self.bucket and uploaded_sha256(key) is not None

    def age(self, moment: datetime) -> timedelta:
        """Return the time from ``moment`` to the observation."""
        return self.looked_at - moment


@dataclass(frozen=True)
class JobEvidence:
    """One job's share of the evidence. ``objects`` are those under its id, not the photo that it reads."""

    whole: Evidence
    job_id: UUID
    row: JobRecord | None
    objects: tuple[StoredObject, ...]
    workflow: WorkflowState | None
    workflow_known: bool
    """Whether the workflow was requested from Temporal; only then does None mean that there is none."""
    erased: bool
    others: Sequence[JobWorkflow] = ()

    @property
    def further(self) -> Iterator[tuple[Pipeline, WorkflowState]]:
        """The states of the further workflows that exist, each with its pipeline."""
        states = {other.workflow_id: other.state for other in self.others}
        for pipeline in self.whole.further:
            state = states.get(pipeline.kind.of(self.job_id).workflow_id)
            if state is not None:
                yield pipeline, state

    @property
    def running(self) -> bool:
        """Tell whether any workflow of the job runs."""
        return any(state.is_open for state in (self.workflow, *(other.state for other in self.others)) if state)


def jobs_of(evidence: Evidence) -> Iterable[JobEvidence]:
    """Return every job of which the evidence has a row, an object or a workflow, by id."""
    owned: dict[UUID, list[StoredObject]] = {}
    for found in evidence.objects.values():
        owner = owner_of(found.key) if found.bucket == evidence.bucket else None
        if owner is not None:
            owned.setdefault(owner, []).append(found)
    for job_id in sorted({*evidence.rows, *owned, *evidence.workflows}):
        yield JobEvidence(
            whole=evidence,
            job_id=job_id,
            row=evidence.rows.get(job_id),
            objects=tuple(sorted(owned.get(job_id, ()), key=lambda one: one.key)),
            workflow=evidence.workflows.get(job_id),
            workflow_known=job_id in evidence.workflows,
            erased=job_id in evidence.erased,
            others=evidence.others.get(job_id, ()),
        )
