"""Deletes every trace of a job. Each step may run again: the same call completes an interrupted erasure.

The order makes it complete. First the mark: from then on the database refuses every write of the job's row, and an
attempt that stores one of its objects finds the mark and deletes the object again. Then the workflow, so that no new
attempt begins; then the stored objects; and the rows last, because they name the photo.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from uuid import UUID

from photo_worker.contracts.image import Manifest
from photo_worker.contracts.keys import converted_key, manifest_key
from photo_worker.contracts.references import main_id
from photo_worker.crash_points import CrashPoint, crash_point
from photo_worker.errors import BucketMissing, DocumentTooLarge, InvalidBucket, InvalidKey, ObjectMissing
from photo_worker.pipelines import artifact_keys
from photo_worker.policies import OCR_RESULT_LIMIT_BYTES
from photo_worker.ports.job_repository import JobRecord, JobRepository
from photo_worker.ports.object_store import ObjectStore
from photo_worker.ports.orchestrator import JobWorkflow, WorkflowOrchestrator, WorkflowState
from photo_worker.services.binding import (
    Binding,
    Bound,
    BoundElsewhere,
    Unbound,
    read_binding,
    require_bound,
    unbound_error,
)
from photo_worker.services.consistency.copies import list_hidden
from photo_worker.services.consistency.evidence import (
    CONVERTED_FOLDER,
    JOB_FOLDERS,
    Location,
    converted_sha256,
    uploaded_sha256,
)

_ANOTHERS = "another database's; erase it there, or delete it by hand if it is not used there"


class Part(StrEnum):
    """The parts of an erasure, in the order in which they are erased."""

    MARK = "mark"
    WORKFLOW = "workflow"
    OBJECTS = "objects"
    COPY = "copy"
    PHOTO = "photo"
    ROWS = "rows"


@dataclass(frozen=True)
class ErasureStep:
    """One step: what was ``done``, and what was ``left`` and why. Both are sentences without the full stop."""

    part: Part
    done: str = ""
    left: str = ""

    def as_dict(self) -> dict[str, str | None]:
        """Return the step as JSON shows it; keys are always present."""
        return {"part": self.part, "done": self.done or None, "left": self.left or None}


@dataclass(frozen=True)
class Traces:
    """The traces of a job: its mark, row, workflow, objects, photo and copies.

    ``photo`` is the location of its photo, None if neither row nor manifest names it. ``uploaded`` tells whether
    ``submit`` stored it under the hash of its bytes; other photos belong to their owners. ``copies`` are the photo's
    copies in a format that OCR reads. ``shared`` tells whether other jobs use the photo. ``others`` are its
    workflows of further types.
    """

    job_id: UUID
    marked: bool
    row: JobRecord | None
    workflow: WorkflowState | None
    others: tuple[JobWorkflow, ...]
    objects: tuple[Location, ...]
    photo: Location | None
    uploaded: bool
    shared: bool
    copies: tuple[Location, ...] = ()

    @property
    def workflow_states(self) -> tuple[WorkflowState, ...]:
        """The states of all of its workflows."""
        return (*filter(None, [self.workflow]), *(other.state for other in self.others))

    @property
    def known(self) -> bool:
        """Tell whether anything shows that the job exists or existed."""
        return bool(self.marked or self.row or self.workflow or self.others or self.objects)

    @property
    def gone(self) -> bool:
        """Tell whether the job is marked as erased and nothing of it is left."""
        return self.marked and not (self.row or self.workflow or self.others or self.objects)


class Erasure:
    """Erases jobs of one deployment. ``bucket`` is the worker's bucket."""

    def __init__(
        self, store: ObjectStore, repository: JobRepository, orchestrator: WorkflowOrchestrator, bucket: str
    ) -> None:
        self._store = store
        self._repository = repository
        self._orchestrator = orchestrator
        self._bucket = bucket

    async def traces(self, job_id: UUID) -> Traces:
        """Return the traces of a job, without changing anything. Raises what ``erase`` raises about buckets."""
        await asyncio.to_thread(self._require_own_buckets, job_id)
        workflows = await self._orchestrator.workflows_of(job_id)
        return await asyncio.to_thread(self._read_traces, job_id, workflows)

    async def erase(
        self, job_id: UUID, *, with_source: bool = False, on_step: Callable[[ErasureStep], None] = lambda step: None
    ) -> list[ErasureStep]:
        """Delete every trace of a job, and return for each step what was deleted and what was left.

        ``on_step`` is called with each finished step. ``with_source`` also deletes a photo that ``submit`` did not
        upload. Calls may be repeated at any time and may overlap. Raises what ``require_bound`` raises, before any
        change, if the worker's bucket, or the one that was the worker's when the job ran, has no marker of this
        database; if the marker of the second names another database, its objects are left. Raises
        ``StorageUnavailable``, ``DatabaseUnavailable`` or ``TemporalUnavailable`` if a service is down; the same call
        then completes the erasure.
        """
        steps: list[ErasureStep] = []

        def tell(step: ErasureStep) -> None:
            steps.append(step)
            on_step(step)

        await asyncio.to_thread(self._require_own_buckets, job_id)
        tell(await asyncio.to_thread(self._mark, job_id))
        with crash_point(CrashPoint.WORKFLOW_ERASED):
            found = await self._orchestrator.erase(job_id)
        tell(ErasureStep(Part.WORKFLOW, done="deleted with its history" if found else "there was none"))
        # The manifest names the photo of a job whose row is lost, so it is read before it is deleted.
        row = await asyncio.to_thread(self._repository.get, job_id)
        photo, sha256 = await asyncio.to_thread(self._photo, job_id, row)
        tell(await asyncio.to_thread(self._erase_objects, job_id, row))
        named = await asyncio.to_thread(
            self._copies, job_id, photo, sha256, self._own_buckets(row), has_row=row is not None
        )
        tell(await asyncio.to_thread(self._erase_copies, job_id, photo, named))
        tell(await asyncio.to_thread(self._erase_photo, job_id, photo, self._own_buckets(row), with_source))
        with crash_point(CrashPoint.ROW_ERASED):
            rows = await asyncio.to_thread(self._repository.delete, job_id)
        tell(ErasureStep(Part.ROWS, done="deleted" if rows else "there were none"))
        return steps

    def _require_own_buckets(self, job_id: UUID) -> None:
        require_bound(self._store, self._repository, self._bucket)
        row = self._repository.get(job_id)
        before = row.s3_bucket if row is not None else None
        # Once the row is deleted, nothing records that objects of the job are in that bucket.
        if before and isinstance(found := self._binding_of(before), Unbound):
            raise unbound_error(before, self._repository, found)

    def _mark(self, job_id: UUID) -> ErasureStep:
        known = self._repository.is_erased(job_id)
        with crash_point(CrashPoint.ERASURE_MARKED):
            self._repository.mark_erased(job_id)
        return ErasureStep(Part.MARK, done="was marked as erased before" if known else "marked as erased")

    def _erase_objects(self, job_id: UUID, row: JobRecord | None) -> ErasureStep:
        deleted = 0
        foreign = []
        for bucket, key in self._objects(job_id, row):
            try:
                with crash_point(CrashPoint.ARTIFACT_ERASED):
                    deleted += bool(self._store.delete(bucket, key))
            except InvalidKey:
                # The worker gives no such names, and different programs delete different objects by them.
                foreign.append(f"s3://{bucket}/{key}")
        left = [f"of names that no worker gives, delete them by hand: {', '.join(foreign)}"] if foreign else []
        if row is not None and row.s3_bucket and self._is_elsewhere(row.s3_bucket):
            left.append(f"the bucket {row.s3_bucket}, where the row says that they are, is {_ANOTHERS}")
        return ErasureStep(
            Part.OBJECTS, done=f"{deleted} deleted" if deleted else "there were none", left="; ".join(left)
        )

    def _erase_copies(self, job_id: UUID, photo: Location | None, named: Sequence[Location]) -> ErasureStep:
        """Delete the copies that OCR read, also behind a delete marker: the worker made them, of foreign photos too."""
        versions = 0
        kept = []
        for place, name in named:
            with self._sole_reader(job_id, photo, name) as sole:
                if sole:
                    with crash_point(CrashPoint.COPY_ERASED), contextlib.suppress(BucketMissing):
                        versions += self._store.delete(place, name)
                elif self._is_there(place, name):
                    kept.append(f"s3://{place}/{name}")
        left = f"{', '.join(kept)} is read by other jobs too; it goes with the last of them" if kept else ""
        done = "" if kept else "there was none"
        return ErasureStep(Part.COPY, done="deleted" if versions else done, left=left)

    def _copies(
        self, job_id: UUID, photo: Location | None, sha256: str, own: Sequence[str], *, has_row: bool
    ) -> Sequence[Location]:
        """Return the locations of possible copies of a photo: of the bytes that the row names, and of earlier bytes.

        An attempt that ended between storing a copy and its reply, or that was overtaken, may have left a copy of
        bytes that the photo's owner has replaced since. The bytes of an upload are never replaced. A copy of other
        bytes that another job reads belongs to that job. The row and the record of replaced bytes give all names; only
        for a job whose row is lost, or is older than that record, the prefix is listed.
        """
        if photo is None:
            return []
        named = [(place, converted_key(*photo, sha256)) for place in own if sha256]
        if _is_uploaded(photo, own):
            return named
        earlier = self._repository.earlier_hashes(job_id) if has_row else frozenset({""})
        others = [(place, converted_key(*photo, known)) for known in sorted(earlier - {"", sha256}) for place in own]
        if "" in earlier:
            ending = converted_key(*photo, "").removeprefix(CONVERTED_FOLDER)
            for place in own:
                with contextlib.suppress(BucketMissing):
                    both = chain(
                        self._store.list(place, CONVERTED_FOLDER), list_hidden(self._store, place, CONVERTED_FOLDER)
                    )
                    names = (entry.key for entry in both)
                    others += [(place, name) for name in names if name.endswith(ending) and converted_sha256(name)]
        left = [found for found in dict.fromkeys(others) if found not in named]
        return named + [found for found in left if self._is_unread(job_id, photo, found[1])]

    def _is_unread(self, job_id: UUID, photo: Location, copy: str) -> bool:
        with self._sole_reader(job_id, photo, copy) as sole:
            return sole

    def _sole_reader(self, job_id: UUID, photo: Location | None, copy: str) -> AbstractContextManager[bool]:
        bucket, key = photo or ("", "")
        return self._repository.sole_user(job_id, bucket=bucket, key=key, sha256=converted_sha256(copy) or "")

    def _is_there(self, bucket: str, key: str) -> bool:
        try:
            self._store.head(bucket, key)
        except (BucketMissing, ObjectMissing):
            return False
        return True

    def _erase_photo(self, job_id: UUID, photo: Location | None, own: Sequence[str], with_source: bool) -> ErasureStep:
        if photo is None:
            return ErasureStep(Part.PHOTO, done="none is known")
        bucket, key = photo
        where = f"s3://{bucket}/{key}"
        if self._is_elsewhere(bucket):
            return ErasureStep(Part.PHOTO, left=f"{where} lies in a bucket that is {_ANOTHERS}")
        if not _is_uploaded(photo, own) and not with_source:
            return ErasureStep(
                Part.PHOTO, left=f"{where} was not uploaded by a submission; --with-source deletes it too"
            )
        with self._repository.sole_user(job_id, bucket=bucket, key=key) as sole:
            if not sole:
                return ErasureStep(
                    Part.PHOTO, left=f"{where} is the photo of other jobs too; it goes with the last of them"
                )
            versions = 0
            # S3 cannot hold an object of an invalid name: the job failed for it, and there is nothing to delete.
            with (
                crash_point(CrashPoint.RAW_OBJECT_ERASED),
                contextlib.suppress(BucketMissing, InvalidBucket, InvalidKey),
            ):
                versions = self._store.delete(bucket, key)
        return ErasureStep(Part.PHOTO, done=_counted(where, versions))

    def _read_traces(self, job_id: UUID, workflows: Sequence[JobWorkflow]) -> Traces:
        main = main_id(job_id)
        row = self._repository.get(job_id)
        photo, sha256 = self._photo(job_id, row)
        shared = False
        copies: tuple[Location, ...] = ()
        if photo is not None:
            with self._repository.sole_user(job_id, bucket=photo[0], key=photo[1]) as sole:
                shared = not sole
            named = self._copies(job_id, photo, sha256, self._own_buckets(row), has_row=row is not None)
            copies = tuple(place for place in named if self._is_there(*place))
        return Traces(
            job_id=job_id,
            marked=self._repository.is_erased(job_id),
            row=row,
            workflow=next((one.state for one in workflows if one.workflow_id == main), None),
            others=tuple(one for one in workflows if one.workflow_id != main),
            objects=tuple(self._listed(job_id, row)),
            photo=photo,
            uploaded=photo is not None and _is_uploaded(photo, self._own_buckets(row)),
            shared=shared,
            copies=copies,
        )

    def _own_buckets(self, row: JobRecord | None) -> Sequence[str]:
        """Return the worker's bucket, and the one that was the worker's when the job ran.

        Without the second if it belongs to another database by now: that database cannot be asked whether its jobs use
        the same photo, and if it is a copy of this one, its jobs have the same ids.
        """
        before = row.s3_bucket if row is not None else None
        if before and before != self._bucket and isinstance(self._binding_of(before), Bound):
            return [self._bucket, before]
        return [self._bucket]

    def _is_elsewhere(self, bucket: str) -> bool:
        """Tell whether a bucket belongs to another database; the worker's own was checked at the beginning."""
        return bucket != self._bucket and isinstance(self._binding_of(bucket), BoundElsewhere)

    def _binding_of(self, bucket: str) -> Binding | None:
        """Return which database a bucket belongs to, None if there is no such bucket."""
        try:
            return read_binding(self._store, self._repository, bucket)
        except (BucketMissing, InvalidBucket):
            return None

    def _listed(self, job_id: UUID, row: JobRecord | None) -> list[Location]:
        found: list[Location] = []
        for bucket in self._own_buckets(row):
            try:
                for folder in JOB_FOLDERS:
                    found += [(bucket, entry.key) for entry in self._store.list(bucket, f"{folder}{job_id}/")]
            except BucketMissing:
                if bucket == self._bucket:
                    raise
        return found

    def _objects(self, job_id: UUID, row: JobRecord | None) -> list[Location]:
        """Return the job's objects, first those of fixed names: a listing omits versions behind a delete marker."""
        listed = self._listed(job_id, row)
        buckets = {self._bucket, *(bucket for bucket, _ in listed)}
        named = [(bucket, key) for bucket in sorted(buckets) for key in artifact_keys(job_id)]
        return list(dict.fromkeys([*named, *listed]))

    def _photo(self, job_id: UUID, row: JobRecord | None) -> tuple[Location | None, str]:
        """Return the location of a job's photo and the hash of its bytes, from the row or else from the manifest."""
        if row is not None:
            return (row.s3_raw_bucket or self._bucket, row.s3_raw_key), row.content_sha256
        try:
            text = self._store.get(self._bucket, manifest_key(job_id), limit_bytes=OCR_RESULT_LIMIT_BYTES)
            manifest = Manifest.model_validate_json(text)
        except (ObjectMissing, DocumentTooLarge, ValueError):
            # It is missing, or no manifest of this program.
            return None, ""
        return (manifest.s3_raw_bucket or self._bucket, manifest.s3_raw_key), manifest.sha256


def _is_uploaded(photo: Location, own: Sequence[str]) -> bool:
    return photo[0] in own and uploaded_sha256(photo[1]) is not None


def _counted(where: str, versions: int) -> str:
    if not versions:
        return f"there is none at {where}"
    return f"{where} deleted" + (f" in {versions} versions" if versions > 1 else "")
