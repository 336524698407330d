"""Which findings ``check --repair`` repairs without an operator's decision, and which it does not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from photo_worker.contracts.keys import manifest_key, ocr_key
from photo_worker.errors import BucketForbidden, JobEndedWithoutRow, ObjectForbidden, ObjectMissing, TemporalUnavailable
from photo_worker.ports.object_store import ObjectEntry, ObjectInfo
from photo_worker.ports.orchestrator import QueueState, WorkflowState
from photo_worker.services.consistency.finding import Repair
from photo_worker.services.consistency.repair import Repairer
from tests.support.healthy_deployment import BUCKET, FOREIGN, JOB, OTHER, START, Deployment
from tests.unit.integrity.repairing import repair, repaired

LONG = timedelta(days=1)


async def test_repair_queued_without_workflow_starts_it_once() -> None:
    deployment = Deployment()
    key = deployment.queued(JOB)
    deployment.time += LONG
    done = await repair(deployment)
    assert (done.said, done.left) == (repaired("queued_without_workflow"), [])
    (request,) = deployment.temporal.started
    assert (request.job_id, request.bucket, request.key) == (str(JOB), BUCKET, key)
    assert (await repair(deployment)).said == []


async def test_repair_running_without_workflow_starts_it_once() -> None:
    deployment = Deployment()
    deployment.succeeded(OTHER, b"shows whose namespace it is")
    key = deployment.queued(JOB)
    deployment.rows.start(JOB, bucket=BUCKET, key=key, sha256="")
    deployment.time += LONG
    done = await repair(deployment)
    assert (done.said, done.left) == (repaired("running_without_workflow"), [])
    (request,) = deployment.temporal.started
    assert (request.job_id, request.bucket, request.key) == (str(JOB), BUCKET, key)
    assert (await repair(deployment)).said == []


@pytest.mark.parametrize("sign", ["no worker", "no workflow of any job", "young"])
async def test_repair_running_job_in_doubt_starts_nothing(sign: str) -> None:
    """The job's workflow may run in the right namespace while the settings name another one."""
    deployment = Deployment()
    deployment.succeeded(OTHER, b"shows whose namespace it is")
    deployment.rows.start(JOB, bucket=BUCKET, key=deployment.queued(JOB), sha256="")
    deployment.time += timedelta(seconds=30) if sign == "young" else LONG
    if sign == "no worker":
        deployment.temporal.queue = QueueState("recipe-process", backlog=0, oldest_seconds=0.0, has_worker=False)
    if sign == "no workflow of any job":
        deployment.temporal.states.clear()
    done = await repair(deployment)
    assert deployment.temporal.started == [], "a second workflow runs in the other namespace"
    assert done.said == ([] if sign == "young" else [("running_without_workflow", "refused")])


async def test_repair_queued_job_without_worker_is_refused() -> None:
    deployment = Deployment()
    deployment.queued(JOB)
    deployment.time += LONG
    deployment.temporal.queue = QueueState("recipe-process", backlog=0, oldest_seconds=0.0, has_worker=False)
    done = await repair(deployment)
    assert deployment.temporal.started == [], "a second workflow runs in the other namespace"
    assert (done.said, done.left) == ([("queued_without_workflow", "refused")], ["queued_without_workflow"])
    assert "no worker" in done.details[0]


@pytest.mark.parametrize("named", [False, True])
async def test_repair_when_jobs_have_no_workflows_starts_nothing(named: bool) -> None:
    """The settings may name another deployment's namespace, whose workers would write the results to its database."""
    deployment = Deployment()
    for number in range(3):
        deployment.succeeded(uuid4(), f"photo {number}".encode())
    deployment.queued(JOB, b"waits")
    deployment.queued(OTHER, b"waits too")
    known = dict(deployment.temporal.states)
    deployment.temporal.states.clear()
    deployment.time += LONG
    only = [JOB, OTHER] if named else []
    done = await repair(deployment, *only)
    assert deployment.temporal.started == [], "photos are processed in another deployment's namespace"
    assert done.said == [("queued_without_workflow", "refused")] * 2
    assert "TEMPORAL_NAMESPACE" in done.details[0]
    # One workflow that Temporal still knows proves that the namespace is right.
    deployment.temporal.states |= dict(list(known.items())[:1])
    done = await repair(deployment, *only)
    assert done.said == repaired("queued_without_workflow") * 2


async def test_repair_one_open_workflow_proves_the_namespace() -> None:
    deployment = Deployment()
    deployment.succeeded(uuid4(), b"long ago")
    deployment.temporal.states.clear()
    deployment.queued(JOB, b"waits")
    deployment.queued(OTHER, b"waits too")
    deployment.temporal.states[str(OTHER)] = WorkflowState("running", START)
    deployment.time += timedelta(minutes=2)
    done = await repair(deployment)
    assert done.said == repaired("queued_without_workflow")


@pytest.mark.parametrize(("status", "code"), [("terminated", "terminated"), ("cancelled", "job_cancelled")])
async def test_repair_ended_workflow_records_failure_in_row(status: str, code: str) -> None:
    deployment = Deployment()
    deployment.queued(JOB)
    deployment.temporal.states[str(JOB)] = WorkflowState(status, START, START)
    done = await repair(deployment)
    assert (done.said, done.left) == (repaired("workflow_ended_without_row"), [])
    row = deployment.rows.get(JOB)
    assert row is not None
    assert (row.status, row.error_code) == ("failed", code)
    assert row.error_message
    assert row.error_message in done.details[0]


@pytest.mark.parametrize("code", ["service_refused", "database_unavailable", "schema_missing", "timeout"])
async def test_repair_job_failed_by_dependency_restarts_workflow(code: str) -> None:
    deployment = Deployment()
    deployment.queued(JOB)
    deployment.temporal.states[str(JOB)] = WorkflowState("failed", START, START, code, "it was refused")
    done = await repair(deployment)
    assert (done.said, done.left) == (repaired("workflow_gave_up"), [])
    row = deployment.rows.get(JOB)
    assert row is not None
    assert (row.status, row.error_code) == ("queued", None)
    assert deployment.temporal.states[str(JOB)].is_open


@pytest.mark.parametrize(
    ("state", "said", "row_says"),
    [
        (WorkflowState("terminated", START, START), "terminated or cancelled it", "failed"),
        (WorkflowState("cancelled", START, START), "terminated or cancelled it", "failed"),
        (WorkflowState("failed", START, START, "object_missing", "gone"), "the job itself was wrong", "failed"),
        (
            WorkflowState("failed", START, START, "service_refused", "no"),
            "anything else is started once more",
            "queued",
        ),
    ],
    ids=lambda value: value.status if isinstance(value, WorkflowState) else None,
)
async def test_repair_does_what_the_error_hint_promises(state: WorkflowState, said: str, row_says: str) -> None:
    """A terminated job is not restarted, because an operator terminated it on purpose."""
    deployment = Deployment()
    deployment.queued(JOB)
    deployment.temporal.states[str(JOB)] = state
    await repair(deployment)
    row = deployment.rows.get(JOB)
    assert row is not None
    assert row.status == row_says
    assert deployment.temporal.states[str(JOB)].is_open is (row_says == "queued")
    recorded, _, restarted = JobEndedWithoutRow.hint.partition("; ")
    assert said in (recorded if row_says == "failed" else restarted)
    assert "writes into the row that it failed" in recorded


async def test_repair_failed_job_without_worker_is_refused() -> None:
    deployment = Deployment()
    deployment.queued(JOB)
    deployment.temporal.states[str(JOB)] = WorkflowState("failed", START, START, "service_refused", "it was refused")
    deployment.temporal.queue = QueueState("recipe-process", backlog=0, oldest_seconds=0.0, has_worker=False)
    done = await repair(deployment)
    assert done.said == [("workflow_gave_up", "refused")]
    assert not deployment.temporal.states[str(JOB)].is_open


async def test_repair_lost_result_is_recorded_again() -> None:
    deployment = Deployment()
    deployment.succeeded(JOB)
    row = deployment.rows.get(JOB)
    assert row is not None
    deployment.rows.delete(JOB)
    deployment.rows.queue(JOB, bucket=BUCKET, key=row.s3_raw_key)
    done = await repair(deployment)
    assert (done.said, done.left) == (repaired("result_not_recorded"), [])
    again = deployment.rows.get(JOB)
    assert again is not None
    assert (again.status, again.s3_ocr_key, again.content_sha256) == ("succeeded", row.s3_ocr_key, row.content_sha256)


async def test_repair_erased_traces_are_erased() -> None:
    deployment = Deployment()
    deployment.succeeded(JOB)
    deployment.rows.mark_erased(JOB)
    done = await repair(deployment)
    assert (done.said, done.erased) == (repaired("erased_traces"), [JOB])
    assert done.left == []


async def test_repair_orphans_in_own_bucket_are_deleted() -> None:
    deployment = Deployment()
    for number in range(2):
        deployment.succeeded(uuid4(), body=b"photo %d" % number)
    kept = {entry.key for entry in deployment.store.list(BUCKET, "")}
    deployment.photo(b"an orphan")
    deployment.store.put(BUCKET, ocr_key(JOB), b"{}", content_type="application/json")
    deployment.store.put(BUCKET, "artifacts/strange", b"{}", content_type="application/json")
    deployment.time += LONG
    done = await repair(deployment)
    assert done.said == [*repaired("artifact_without_row"), *repaired("photo_without_row")]
    assert done.left == ["name_unknown"]
    assert {entry.key for entry in deployment.store.list(BUCKET, "")} == kept | {"artifacts/strange"}


async def test_repair_orphan_copy_deleted_unless_in_use_again() -> None:
    deployment = Deployment()
    deployment.succeeded(OTHER, b"other photo")
    bucket, key, sha256 = BUCKET, "inbox/photo.heic", "ab" * 32
    name = deployment.copy(bucket, key, sha256, b"copy").key
    deployment.time += timedelta(hours=2)

    def submit() -> None:
        deployment.rows.queue(JOB, bucket=bucket, key=key)
        deployment.temporal.states[str(JOB)] = WorkflowState("running", deployment.time)

    await repair(deployment, between=submit)
    assert deployment.store.head(BUCKET, name)
    deployment.rows.delete(JOB)
    del deployment.temporal.states[str(JOB)]
    assert (await repair(deployment)).left == []
    assert list(deployment.store.list(BUCKET, "converted/")) == []


@pytest.mark.parametrize("hidden", [False, True], ids=["shown", "behind a delete marker"])
async def test_repair_copy_stored_after_erase_deletes_all_versions(hidden: bool) -> None:
    """The attempt was paused before it stored the copy, and died before it checked whether its job is erased."""
    deployment = Deployment(versions=True)
    place, sha256 = (FOREIGN, "inbox/photo.heic"), "ab" * 32
    deployment.succeeded(OTHER, b"other photo", at=(FOREIGN, "inbox/other.heic"), copy=b"its copy")
    deployment.rows.start(JOB, bucket=place[0], key=place[1], sha256=sha256)
    deployment.rows.mark_erased(JOB)
    deployment.rows.delete(JOB)
    for body in (b"copy", b"copy again"):
        name = deployment.copy(*place, sha256, body).key
    if hidden:
        deployment.store.hide(BUCKET, name)
    deployment.time += LONG
    kept = [entry.key for entry in deployment.store.list(BUCKET, "converted/") if entry.key != name]
    done = await repair(deployment)
    assert (done.said, done.left) == (repaired("copy_without_row"), [])
    assert deployment.store.delete(BUCKET, name) == 0, "versions are left"
    assert [entry.key for entry in deployment.store.list(BUCKET, "converted/")] == kept
    assert (await repair(deployment)).said == []


async def test_repair_hidden_objects_in_use_or_unknown_are_kept() -> None:
    deployment = Deployment(versions=True)
    deployment.succeeded(JOB, at=(FOREIGN, "inbox/photo.heic"), copy=b"copy")
    [mine] = [entry.key for entry in deployment.store.list(BUCKET, "converted/")]
    for key in ("raw/notes.txt", "converted/notes.txt"):
        deployment.store.put(BUCKET, key, b"notes", content_type="text/plain")
        deployment.store.hide(BUCKET, key)
    deployment.store.hide(BUCKET, mine)
    deployment.time += LONG
    done = await repair(deployment)
    assert (done.said, done.left) == ([], ["copy_missing"])
    assert len(list(deployment.store.list_hidden(BUCKET, ""))) == 3


async def test_repair_object_hidden_before_binding_is_kept() -> None:
    deployment = Deployment(versions=True)
    deployment.succeeded(JOB)
    deployment.time -= timedelta(days=2)
    name = deployment.copy(FOREIGN, "inbox/photo.heic", "ab" * 32, b"another deployment's").key
    deployment.store.hide(BUCKET, name)
    deployment.time += timedelta(days=4)
    done = await repair(deployment)
    assert done.said == [("copy_without_row", "refused")]
    assert [entry.key for entry in deployment.store.list_hidden(BUCKET, "")] == [name]


async def test_repair_orphan_with_unreadable_versions_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deployment = Deployment(versions=True)
    deployment.succeeded(JOB)
    name = deployment.copy(FOREIGN, "inbox/photo.heic", "ab" * 32, b"copy").key
    deployment.store.hide(BUCKET, name)
    head = deployment.store.head

    def refused(bucket: str, key: str, *, version_id: str = "") -> ObjectInfo:
        if version_id:
            raise ObjectForbidden(bucket=bucket, key=key)
        return head(bucket, key)

    monkeypatch.setattr(deployment.store, "head", refused)
    deployment.time += LONG
    done = await repair(deployment)
    assert [entry.key for entry in deployment.store.list_hidden(BUCKET, "")] == [name]
    assert "copy_without_row" not in str(done.said)


async def test_repair_when_versions_unlistable_deletes_visible_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = Deployment(versions=True)

    def refused(bucket: str, prefix: str) -> Iterator[ObjectEntry]:
        raise BucketForbidden(bucket=bucket)

    monkeypatch.setattr(deployment.store, "list_hidden", refused)
    name = deployment.copy(FOREIGN, "inbox/photo.heic", "ab" * 32, b"copy").key
    deployment.time += LONG
    deployment.succeeded(JOB)
    done = await repair(deployment)
    assert (done.said, done.left) == (repaired("copy_without_row"), [])
    with pytest.raises(ObjectMissing):
        deployment.store.head(BUCKET, name)


async def test_repair_with_other_database_deletes_nothing() -> None:
    deployment = Deployment()
    for number in range(3):
        deployment.photo(b"photo %d" % number)
    deployment.succeeded(OTHER)
    deployment.time += LONG
    before = list(deployment.store.list(BUCKET, ""))
    done = await repair(deployment)
    assert list(deployment.store.list(BUCKET, "")) == before, "photos of the other deployment are gone"
    assert done.said == [("photo_without_row", "refused")] * 3
    assert "S3_BUCKET and DATABASE_URL" in done.details[0]


async def test_repair_after_database_restore_deletes_nothing() -> None:
    """The orphaned photo may belong to a lost row, since the row of a result is lost too."""
    deployment = Deployment()
    for number in range(9):
        deployment.succeeded(uuid4(), body=b"photo %d" % number)
    deployment.succeeded(JOB, body=b"lost")
    deployment.rows.delete(JOB)
    deployment.photo(b"an orphan?")
    deployment.time += LONG
    before = list(deployment.store.list(BUCKET, ""))
    done = await repair(deployment)
    assert list(deployment.store.list(BUCKET, "")) == before, "what belongs to a lost row is gone"
    assert done.said == [("photo_without_row", "refused")]
    assert done.left == ["photo_without_row", "result_without_row"]


async def test_repair_workflow_without_row_deletes_nothing() -> None:
    """The workflow may be about the photo that seems orphaned, and wait for a worker."""
    deployment = Deployment()
    deployment.succeeded(OTHER)
    deployment.photo(b"of the workflow")
    deployment.time += LONG
    deployment.temporal.states[str(JOB)] = WorkflowState("running", deployment.time)
    before = list(deployment.store.list(BUCKET, ""))
    done = await repair(deployment)
    assert list(deployment.store.list(BUCKET, "")) == before, "the workflow's photo is gone"
    assert (done.said, done.left) == ([("photo_without_row", "refused")], ["photo_without_row"])
    assert "have no row yet (1)" in done.details[0]


async def test_repair_photo_submitted_since_scan_is_kept() -> None:
    deployment = Deployment()
    deployment.succeeded(OTHER)
    key, sha256 = deployment.photo(b"old")
    deployment.time += LONG

    def submit() -> None:
        deployment.rows.queue(JOB, bucket=BUCKET, key=key, sha256=sha256)

    done = await repair(deployment, between=submit)
    assert [entry.key for entry in deployment.store.list(BUCKET, "raw/") if entry.key == key], "its photo is gone"
    assert done.said == [("photo_without_row", "begun"), ("photo_without_row", "unneeded")]
    assert done.left == []


async def test_repair_job_started_since_scan_is_left_alone() -> None:
    deployment = Deployment()
    deployment.queued(JOB)
    deployment.time += LONG

    def start() -> None:
        deployment.temporal.states[str(JOB)] = WorkflowState("running", deployment.time)

    done = await repair(deployment, between=start)
    assert done.said == [("queued_without_workflow", "begun"), ("queued_without_workflow", "unneeded")]
    assert (deployment.temporal.started, done.left) == ([], [])


async def test_repair_result_whose_row_returned_is_kept() -> None:
    """As after a restore of the database that ends between scan and repair."""
    deployment = Deployment()
    deployment.succeeded(OTHER)
    deployment.store.put(BUCKET, ocr_key(JOB), b"{}", content_type="application/json")
    deployment.time += LONG

    def restore() -> None:
        deployment.succeeded(JOB)

    done = await repair(deployment, between=restore)
    kept = {entry.key for entry in deployment.store.list(BUCKET, "artifacts/")}
    assert {ocr_key(JOB), manifest_key(JOB)} <= kept, "the job's result is gone"
    assert done.said == [("artifact_without_row", "begun"), ("artifact_without_row", "unneeded")]
    assert done.left == []


async def test_repair_failed_step_reports_why_and_continues() -> None:
    deployment = Deployment()
    deployment.queued(JOB)
    deployment.queued(OTHER, b"other")
    deployment.temporal.states[str(OTHER)] = WorkflowState("terminated", START, START)
    deployment.time += LONG

    async def away(*given: object) -> Any:
        raise TemporalUnavailable(target="localhost:1", reason="refused")

    deployment.temporal.start = away  # type: ignore[method-assign, assignment]
    done = await repair(deployment)
    assert done.said[1] == ("queued_without_workflow", "failed")
    assert done.said[3] == ("workflow_ended_without_row", "done")
    assert "temporal_unavailable" in done.details[0]
    assert done.left == ["queued_without_workflow"]


async def test_repair_with_job_ids_repairs_only_these() -> None:
    deployment = Deployment()
    for job_id in (JOB, OTHER):
        deployment.queued(job_id, str(job_id).encode())
    deployment.time += LONG
    done = await repair(deployment, JOB)
    assert done.said == repaired("queued_without_workflow")
    assert [request.job_id for request in deployment.temporal.started] == [str(JOB)]


async def test_repair_costly_or_lossy_findings_only_reports() -> None:
    deployment = Deployment()
    deployment.succeeded(JOB)
    deployment.store.delete(BUCKET, ocr_key(JOB))
    deployment.queued(OTHER, b"other")
    deployment.rows.start(OTHER, bucket=BUCKET, key=deployment.photo(b"other")[0], sha256="")
    # By then Textract would charge again for what it may have read for the job.
    deployment.time += timedelta(days=8)
    done = await repair(deployment)
    assert done.said == []
    assert deployment.temporal.started == []
    assert done.left == ["ocr_missing", "running_without_workflow"]
    assert all(found.todo for found in done.report.findings)


def test_repairer_actions_cover_all_repairs() -> None:
    deployment = Deployment()

    async def erase(job_id: UUID) -> None:
        """Do nothing."""

    class Looks:
        ports = deployment.ports

    class Surveys:
        inspector = Looks()

    actions = Repairer(Surveys(), erase)._actions  # type: ignore[arg-type]
    assert {*actions, Repair.DELETE_PHOTO} == set(Repair)
