"""Repairs what is safe to repair: each step may run again, costs and loses nothing, and is reported before and after.

Between the scan and a repair the deployment changes, so every step inspects the job again first and acts on the result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import chain
from uuid import UUID

from photo_worker.contracts.image import REASON_LENGTH
from photo_worker.contracts.keys import manifest_key
from photo_worker.errors import ObjectMissing, PhotoWorkerError
from photo_worker.ports.job_repository import OcrRecord
from photo_worker.services.binding import BoundElsewhere, Unbound, bound_since
from photo_worker.services.consistency.copies import list_hidden, lock_object
from photo_worker.services.consistency.evidence import JOB_FOLDERS, JobEvidence, jobs_of
from photo_worker.services.consistency.finding import REPAIRS, IntegrityFinding, Repair
from photo_worker.services.consistency.namespace import find_namespace_mismatch
from photo_worker.services.consistency.rules import job_findings
from photo_worker.services.consistency.rules_progress import end_of, gave_up
from photo_worker.services.consistency.rules_results import read_manifest
from photo_worker.services.consistency.scan import Scanner, ScanReport

# Repairs that delete objects because no row refers to them; and these with the one that deletes an erased job's traces.
_ORPHANS = frozenset({Repair.DELETE_ARTIFACTS, Repair.DELETE_PHOTO})
_DELETIONS = _ORPHANS | {Repair.ERASE_TRACES}

# Findings that show that rows may have been lost; orphans may then belong to those rows.
_LOST_ROWS = frozenset({"result_without_row", "workflow_without_row", "result_not_recorded"})


@dataclass(frozen=True)
class RepairResult:
    """One report of a repair. ``outcome`` is begun, done, unneeded, refused or failed; ``detail`` says more."""

    finding: IntegrityFinding
    outcome: str
    detail: str

    def as_dict(self) -> dict[str, str | None]:
        """Return the step as JSON shows it; keys are always present."""
        return {
            "code": self.finding.code,
            "job_id": None if self.finding.job_id is None else str(self.finding.job_id),
            "where": self.finding.where,
            "repair": self.finding.repair,
            "outcome": self.outcome,
            "detail": self.detail,
        }


class Repairer:
    """Performs the repairs that findings offer.

    ``erase`` runs a job's erase to its end. ``lifetime_seconds`` is the lifetime of the jobs that it starts, as with a
    submission; None means that of the policies.
    """

    def __init__(
        self, scanner: Scanner, erase: Callable[[UUID], Awaitable[object]], *, lifetime_seconds: int | None = None
    ) -> None:
        self._scanner = scanner
        self._inspector = scanner.inspector
        self._ports = scanner.inspector.ports
        self._erase = erase
        self._lifetime_seconds = lifetime_seconds
        self._foreign: tuple[str | None] | None = None
        self._actions: dict[Repair, Callable[[JobEvidence], Awaitable[str]]] = {
            Repair.START_WORKFLOW: self._start,
            Repair.START_AGAIN: self._start_again,
            Repair.RECORD_END: self._record_end,
            Repair.RECORD_RESULT: self._record_result,
            Repair.ERASE_TRACES: self._erase_traces,
            Repair.DELETE_ARTIFACTS: self._delete_artifacts,
        }

    async def repair(self, report: ScanReport, say: Callable[[RepairResult], None]) -> list[RepairResult]:
        """Perform the repairs that the report's findings offer, and replace its findings by those that are left.

        ``say`` is called before and after each step; the results after the steps are returned.
        """
        steps: list[RepairResult] = []
        for finding in [one for one in report.findings if one.repair is not None]:
            refusal = _refusal(finding, report) or await self._foreign_reason(finding)
            if refusal is None:
                say(RepairResult(finding, "begun", REPAIRS[finding.repair] if finding.repair else ""))
                step = await self._step(finding)
            else:
                step = RepairResult(finding, "refused", refusal)
            say(step)
            steps.append(step)
        await self._refresh_findings(report, [step.finding for step in steps if step.outcome != "refused"])
        return steps

    async def _step(self, finding: IntegrityFinding) -> RepairResult:
        try:
            if finding.repair is Repair.DELETE_PHOTO:
                done = await self._delete_photo(finding)
            else:
                done = await self._act(finding)
        except PhotoWorkerError as error:
            return RepairResult(finding, "failed", f"[{error.code}] {error.message} {error.hint}")
        return RepairResult(finding, "done", done) if done else RepairResult(finding, "unneeded", "it is right by now")

    async def _act(self, finding: IntegrityFinding) -> str:
        if finding.job_id is None or finding.repair is None:
            raise ValueError(f"{finding.code} offers no repair of a job")
        seen = await self._inspector.reinspect(finding.job_id, ())
        for job in jobs_of(seen):
            if any((one.code, one.repair) == (finding.code, finding.repair) for one in job_findings(job)):
                return await self._actions[finding.repair](job)
        return ""

    async def _refresh_findings(self, report: ScanReport, repaired: list[IntegrityFinding]) -> None:
        """Replace the findings of every repaired job and photo by those that hold now."""
        jobs = {finding.job_id for finding in repaired if finding.job_id is not None}
        photos = {finding.where for finding in repaired if finding.repair is Repair.DELETE_PHOTO}
        kept = [one for one in report.findings if one.job_id not in jobs and one.where not in photos]
        for finding in repaired:
            if finding.repair is Repair.DELETE_PHOTO and await self._scanner.is_orphan(*_location(finding)):
                kept.append(finding)
        for job_id in sorted(jobs):
            kept += await self._scanner.confirm(job_id)
        report.findings = kept

    async def _foreign_reason(self, finding: IntegrityFinding) -> str | None:
        """Return why a repair is refused because its job or objects may be another deployment's, None if they are not.

        Called before each step, because a bucket may be bound anew at any time.
        """
        binding = await self._scanner.binding()
        if isinstance(binding, BoundElsewhere):
            return f"the bucket belongs to another database ({binding.marker.database})"
        if finding.repair is Repair.START_WORKFLOW:
            return await self._foreign_namespace()
        if finding.repair not in _DELETIONS:
            return None
        if isinstance(binding, Unbound):
            return (
                f"nothing says that the bucket belongs to this database: {binding.reason}; `photo-worker migrate"
                " --bind` writes it down"
            )
        if finding.repair not in _ORPHANS:
            return None
        return await self._inspector.in_thread(lambda: self._too_old(finding))

    async def _foreign_namespace(self) -> str | None:
        """Return why no workflow is started in this namespace; determined once, because the settings do not change."""
        if self._foreign is None:
            self._foreign = (await find_namespace_mismatch(self._inspector),)
        return self._foreign[0]

    def _too_old(self, finding: IntegrityFinding) -> str | None:
        """Return why an orphan is kept if it is not newer than the binding, else None.

        Before the binding, another deployment may have used the bucket; since then, the marker keeps others out.
        """
        store, bucket = self._ports.store, self._ports.bucket
        since = bound_since(store, bucket)
        if finding.job_id is None:
            prefixes = [_location(finding)[1]]
        else:
            prefixes = [f"{folder}{finding.job_id}/" for folder in JOB_FOLDERS]
        for prefix in prefixes:
            for entry in chain(store.list(bucket, prefix), list_hidden(store, bucket, prefix)):
                if since is None or entry.modified_at <= since:
                    return (
                        f"s3://{bucket}/{entry.key} was there before the bucket was bound to this database, and may be"
                        " another deployment's; delete it by hand if it is not"
                    )
        return None

    async def _start(self, job: JobEvidence) -> str:
        if job.row is None:
            return ""
        bucket, key = job.whole.raw_location(job.row)
        handle = await self._ports.orchestrator.start(
            job.whole.main.kind.of(job.job_id),
            job.whole.main.request(job.job_id, bucket, key, self._lifetime_seconds),
        )
        return "somebody else has started it" if handle.joined else f"started as run {handle.run_id}"

    async def _start_again(self, job: JobEvidence) -> str:
        done = []
        for pipeline in gave_up(job):
            handle = await self._ports.orchestrator.start_again(pipeline.kind.of(job.job_id))
            done.append("it was started again already" if handle.joined else f"started again as run {handle.run_id}")
        return "; ".join(done)

    async def _record_end(self, job: JobEvidence) -> str:
        row, end = job.row, end_of(job)
        if row is None or end is None:
            return ""
        written = await self._inspector.in_thread(
            lambda: self._ports.repository.fail(
                job.job_id, bucket=row.s3_raw_bucket, key=row.s3_raw_key, code=end[0], message=end[1][:REASON_LENGTH]
            )
        )
        return f"the row says {written.status} [{written.error_code}] {written.error_message}"

    async def _record_result(self, job: JobEvidence) -> str:
        row, bucket = job.row, self._ports.bucket
        manifest = read_manifest(job.whole.objects.get((bucket, manifest_key(job.job_id))))
        if row is None or manifest is None:
            return ""
        written = await self._inspector.in_thread(
            lambda: self._ports.repository.succeed(
                job.job_id,
                bucket=manifest.s3_raw_bucket,
                key=manifest.s3_raw_key,
                sha256=manifest.sha256,
                ocr=OcrRecord(
                    s3_bucket=bucket,
                    s3_ocr_key=manifest.s3_ocr_key,
                    s3_manifest_key=manifest_key(job.job_id),
                    ocr_engine=manifest.ocr_engine,
                    ocr_version=manifest.ocr_version,
                    page_count=manifest.page_count,
                ),
            )
        )
        return f"the row says {written.status}"

    async def _erase_traces(self, job: JobEvidence) -> str:
        await self._erase(job.job_id)
        return "the erase has run to its end"

    async def _delete_artifacts(self, job: JobEvidence) -> str:
        def delete() -> int:
            return sum(bool(self._ports.store.delete(found.bucket, found.key)) for found in job.objects)

        return f"{await self._inspector.in_thread(delete)} objects deleted"

    async def _delete_photo(self, finding: IntegrityFinding) -> str:
        bucket, key = _location(finding)

        def delete() -> str:
            # While the lock is held no job can be queued for the photo; a submission that waits stores it again.
            try:
                with lock_object(self._ports.store, self._ports.repository, bucket, key) as unused:
                    return "deleted" if unused and self._ports.store.delete(bucket, key) else ""
            except ObjectMissing:
                return ""

        return await self._inspector.in_thread(delete)


def _location(finding: IntegrityFinding) -> tuple[str, str]:
    bucket, _, key = finding.where.removeprefix("s3://").partition("/")
    return bucket, key


def _refusal(finding: IntegrityFinding, report: ScanReport) -> str | None:
    """Return why the rest of the report makes a repair unsafe, None if it does not.

    With the settings of another deployment every job and object looks wrong, and repairs would destroy all of it.
    """
    if finding.repair in {Repair.START_WORKFLOW, Repair.START_AGAIN}:
        for queue in report.queues:
            if not queue.has_worker:
                return (
                    f"no worker asks for work on task queue {queue.name} of this namespace, so it may be the wrong one;"
                    " start a worker, then repair"
                )
    if finding.repair in _ORPHANS:
        lost = sorted({one.code for one in report.findings} & _LOST_ROWS)
        if lost:
            return f"rows seem to be lost ({', '.join(lost)}), and this may belong to one of them; mend those first"
        if report.rowless:
            return f"workflows run that have no row yet ({report.rowless}), and this may belong to one of them"
        orphans = sum(one.repair in _ORPHANS for one in report.findings)
        if orphans > report.linked:
            return (
                f"{orphans} owners are missing, and {report.linked} rows have objects in this bucket: the bucket and"
                " the database may not belong together; check S3_BUCKET and DATABASE_URL"
            )
    return None
