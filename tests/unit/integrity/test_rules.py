"""Rules on sound evidence with one damage each: exactly the rule of that damage is broken."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from photo_worker import policies
from photo_worker.contracts.image import Manifest
from photo_worker.contracts.keys import converted_key, manifest_key, ocr_key, raw_key
from photo_worker.errors import BucketMissing, DocumentTooLarge, ObjectForbidden
from photo_worker.ports.job_repository import JobRecord
from photo_worker.ports.orchestrator import WorkflowState
from photo_worker.services.binding import BoundElsewhere, Marker, Unbound
from photo_worker.services.consistency.evidence import Evidence, StoredObject, jobs_of, owner_of, uploaded_sha256
from photo_worker.services.consistency.finding import REPAIRS, Repair, Severity
from photo_worker.services.consistency.rules import PROMISES, all_rules, findings
from photo_worker.services.consistency.rules_progress import QUEUE_WAIT, SLACK, longest
from photo_worker.services.consistency.rules_results import source_differs
from tests.support.healthy_deployment import BUCKET, FOREIGN, JOB, OTHER, START, Deployment
from tests.unit.integrity.damages import (
    HOUR,
    LATER,
    MINUTE,
    SOURCE,
    Damage,
    added,
    body,
    both,
    bound,
    collect,
    copy,
    erased,
    gone,
    manifest,
    no_row,
    ocr,
    old,
    open_row,
    other_row,
    photo,
    queue,
    row,
    sound,
    thing,
    workflow,
)

READING = longest(policies.OCR) + longest(policies.PERSIST) + SLACK
ORPHAN = raw_key("ab" * 32, ".png")
ORPHAN_COPY = converted_key(BUCKET, ORPHAN, "ab" * 32)

DAMAGES: dict[str, tuple[Damage, str, Repair | None]] = {
    "an error on a success": (row(error_code="odd"), "succeeded_with_error", None),
    "no result on a success": (row(s3_ocr_key=None), "succeeded_without_result", None),
    "no manifest on a success": (row(s3_manifest_key=None), "succeeded_without_result", None),
    "no hash on a success": (row(content_sha256=""), "succeeded_without_result", None),
    "no code on a failure": (other_row(error_code=None), "failed_without_reason", None),
    "no message on a failure": (other_row(error_message=""), "failed_without_reason", None),
    "photo gone": (gone(photo), "photo_missing", None),
    "photo's bucket gone": (gone(photo, BucketMissing), "photo_missing", None),
    "photo refused": (gone(photo, ObjectForbidden), "object_unreadable", None),
    "photo overwritten": (thing(photo, sha256="0" * 64), "photo_differs", None),
    "photo of another size, not hashed": (thing(photo, sha256=None, size_bytes=4), "photo_differs", None),
    "copy gone": (gone(copy), "copy_missing", None),
    "copy refused": (gone(copy, ObjectForbidden), "object_unreadable", None),
    "copy overwritten": (thing(copy, sha256="0" * 64), "copy_differs", None),
    "copy of another size, not hashed": (thing(copy, sha256=None, size_bytes=4), "copy_differs", None),
    "OCR response of the photo itself": (
        thing(ocr, metadata={"source-sha256": hashlib.sha256(b"photo").hexdigest()}),
        "ocr_differs",
        None,
    ),
    "OCR response gone": (gone(ocr), "ocr_missing", None),
    "OCR response refused": (gone(ocr, ObjectForbidden), "object_unreadable", None),
    "OCR response without metadata": (thing(ocr, metadata={}), "ocr_differs", None),
    "OCR response empty": (thing(ocr, size_bytes=0), "ocr_differs", None),
    "row of another engine": (
        both(row(ocr_engine="local"), body(b'"textract"', b'"local"')),
        "ocr_differs",
        None,
    ),
    "manifest gone": (gone(manifest), "manifest_missing", None),
    "manifest too large": (gone(manifest, DocumentTooLarge), "manifest_differs", None),
    "manifest no JSON": (thing(manifest, body=b"<html>"), "manifest_differs", None),
    "manifest of another job": (body(str(JOB).encode(), str(OTHER).encode()), "manifest_differs", None),
    "manifest with more pages": (body(b'"page_count":1', b'"page_count":2'), "manifest_differs", None),
    "row failed, workflow completed": (
        both(open_row("failed", HOUR, error_code="x", error_message="y")),
        "workflow_contradicts_row",
        None,
    ),
    "row succeeded, workflow failed": (workflow("failed"), "workflow_contradicts_row", None),
    "queued, no workflow": (
        both(open_row("queued", 2 * MINUTE), workflow(None)),
        "queued_without_workflow",
        Repair.START_WORKFLOW,
    ),
    "running, no workflow": (
        both(open_row("running", 2 * MINUTE), workflow(None)),
        "running_without_workflow",
        Repair.START_WORKFLOW,
    ),
    "running, no workflow, Textract has forgotten what it read": (
        both(open_row("running", timedelta(days=7, minutes=1)), workflow(None)),
        "running_without_workflow",
        None,
    ),
    "running, no workflow, the response is stored": (
        both(
            open_row("running", timedelta(days=8)),
            workflow(None),
            added(StoredObject(BUCKET, ocr_key(JOB), 5, START)),
        ),
        "running_without_workflow",
        Repair.START_WORKFLOW,
    ),
    "running, workflow terminated": (
        both(open_row("running", MINUTE), workflow("terminated")),
        "workflow_ended_without_row",
        Repair.RECORD_END,
    ),
    "queued, workflow timed out": (
        both(open_row("queued", MINUTE), workflow("timed_out")),
        "workflow_gave_up",
        Repair.START_AGAIN,
    ),
    "queued, workflow failed by a worker's password": (
        both(open_row("queued", MINUTE), workflow("failed", reason_code="service_refused", reason="refused")),
        "workflow_gave_up",
        Repair.START_AGAIN,
    ),
    "running, workflow completed, result gone": (open_row("running", MINUTE), "result_not_recorded", None),
    "running, workflow completed, result there": (
        row(status="running", updated_at=LATER, s3_ocr_key=None, s3_manifest_key=None),
        "result_not_recorded",
        Repair.RECORD_RESULT,
    ),
    "reading for too long": (both(open_row("running", READING + MINUTE), workflow("running")), "job_stuck", None),
    "verifying for too long": (
        both(open_row("running", longest(policies.VERIFY) + SLACK + MINUTE, content_sha256=""), workflow("running")),
        "job_stuck",
        None,
    ),
    "set going again, verifying and reading for too long": (
        both(
            open_row("running", timedelta(days=3)),
            lambda seen: replace(
                seen,
                workflows=dict(seen.workflows)
                | {JOB: WorkflowState("running", LATER - READING - longest(policies.VERIFY) - MINUTE)},
            ),
        ),
        "job_stuck",
        None,
    ),
    "finished, workflow still open": (workflow("running"), "job_stuck", None),
    "workflow without a row": (
        both(no_row, lambda seen: replace(seen, objects={}, unreadable={}), workflow("running")),
        "workflow_without_row",
        None,
    ),
    "artifacts without a row": (
        added(old(BUCKET, ocr_key(UUID(int=3)))),
        "artifact_without_row",
        Repair.DELETE_ARTIFACTS,
    ),
    "tags without a row": (
        added(old(BUCKET, f"tags/{UUID(int=3)}/rules.json")),
        "artifact_without_row",
        Repair.DELETE_ARTIFACTS,
    ),
    "a result without a row, and so its photo": (no_row, "result_without_row", None),
    "a photo without a row": (added(old(BUCKET, ORPHAN)), "photo_without_row", Repair.DELETE_PHOTO),
    "a copy without a row": (added(old(BUCKET, ORPHAN_COPY)), "copy_without_row", Repair.DELETE_PHOTO),
    "a strange name under converted/": (added(old(BUCKET, "converted/photo.jpg")), "name_unknown", None),
    "a strange name under artifacts/": (added(old(BUCKET, "artifacts/notes.txt")), "name_unknown", None),
    "a job's id in capitals": (added(old(BUCKET, f"artifacts/{str(OTHER).upper()}/a")), "name_unknown", None),
    "a strange name under raw/": (added(old(BUCKET, "raw/photo.png")), "name_unknown", None),
    "tasks and no worker": (queue(backlog=1, has_worker=False), "queue_without_worker", None),
    "tasks whose workers wait themselves": (
        queue(backlog=1, waits_for=("database_unavailable",)),
        "queue_waits",
        None,
    ),
    "tasks that wait for long": (
        queue(backlog=9, oldest_seconds=QUEUE_WAIT.total_seconds() + 1),
        "queue_waits",
        None,
    ),
    "a bucket of another database": (
        bound(BoundElsewhere(None, Marker(OTHER, "photos@db:5432/others"))),
        "bucket_bound_elsewhere",
        None,
    ),
    "a bucket of no database": (bound(Unbound("it has no marker")), "bucket_not_bound", None),
    "erased, everything left": (erased, "erased_traces", Repair.ERASE_TRACES),
    "erased, an object left": (
        both(
            no_row,
            lambda seen: replace(seen, objects={(BUCKET, ocr_key(JOB)): seen.objects[BUCKET, ocr_key(JOB)]}),
            erased,
            lambda seen: replace(seen, rows={}, workflows={}),
        ),
        "erased_traces",
        Repair.ERASE_TRACES,
    ),
}


async def test_findings_sound_deployment_is_empty() -> None:
    assert list(findings(await sound())) == []


@pytest.mark.parametrize("name", DAMAGES)
async def test_findings_single_damage_breaks_only_its_rule(name: str) -> None:
    damage, code, repair = DAMAGES[name]
    found = list(findings(damage(await sound())))
    assert [(one.code, one.repair) for one in found] == [(code, repair)]
    (one,) = found
    for text in (one.where, one.problem, one.why, one.todo):
        assert text[-1:] not in {"", " "}
        assert "  " not in text
        assert "None" not in text
    assert one.problem.endswith(".")
    assert one.why.endswith(".")
    assert one.todo.endswith((".", ".)"))


def test_all_rules_have_a_damage_case() -> None:
    seen = {code for _, code, _ in DAMAGES.values()} | {"photo_name_differs", "source_missing", "source_differs"}
    assert {rule.code for rule in all_rules()} == seen


def test_all_rules_cover_the_promises() -> None:
    assert {rule.invariant for rule in all_rules()} == set(PROMISES)


def test_all_rules_offer_exactly_the_explained_repairs() -> None:
    offered = {rule.repair for rule in all_rules()} - {None}
    assert offered == set(Repair) == set(REPAIRS)


async def test_findings_offer_only_the_repair_of_their_rule() -> None:
    rules = {rule.code: rule for rule in all_rules()}
    for damage, _, _ in DAMAGES.values():
        for one in findings(damage(await sound())):
            assert one.repair in {None, rules[one.code].repair}


async def test_findings_photo_under_wrong_hash_name_is_reported() -> None:
    deployment = Deployment()
    deployment.store.put(BUCKET, ORPHAN, b"photo", content_type="image/png")
    deployment.succeeded(JOB, at=(BUCKET, ORPHAN))
    found = list(findings(await collect(deployment.ports, deployment.means())))
    assert [one.code for one in found] == ["photo_name_differs"]
    assert hashlib.sha256(b"photo").hexdigest() in found[0].problem


async def test_findings_foreign_source_problems_are_notices() -> None:
    deployment = Deployment()
    deployment.succeeded(JOB, at=SOURCE)
    assert list(findings(await collect(deployment.ports, deployment.means()))) == []
    deployment.store.put(*SOURCE, b"another photo", content_type="image/png")
    (changed,) = findings(await collect(deployment.ports, deployment.means()))
    deployment.store.delete(*SOURCE)
    (missing,) = findings(await collect(deployment.ports, deployment.means()))
    assert [changed.code, missing.code] == ["source_differs", "source_missing"]
    assert {changed.severity, missing.severity} == {Severity.NOTICE}


def test_source_differs_without_hash_compares_etags() -> None:
    sha256, location = "ab" * 32, ("theirs", "k.png")
    now = datetime(2026, 1, 1, tzinfo=UTC)
    key = manifest_key(JOB)
    row = JobRecord(JOB, "succeeded", *location, sha256, now, now, s3_bucket=BUCKET, s3_manifest_key=key)
    said = Manifest(
        job_id=str(JOB),
        s3_raw_bucket=location[0],
        s3_raw_key=location[1],
        sha256=sha256,
        size_bytes=5,
        etag="first",
        s3_ocr_key=ocr_key(JOB),
        ocr_engine="e",
        ocr_version="1",
        page_count=1,
    )
    manifest = StoredObject(BUCKET, key, 1, body=said.model_dump_json().encode())
    for etag, codes in (("first", []), ("second", ["its ETag is second, not first"])):
        objects = {(BUCKET, key): manifest, location: StoredObject(*location, 5, etag=etag)}
        evidence = Evidence(looked_at=now, bucket=BUCKET, rows={JOB: row}, objects=objects)
        (job,) = jobs_of(evidence)
        problems = [found.problem for found in source_differs(job)]
        assert len(problems) == len(codes)
        assert all(code in found for code, found in zip(codes, problems, strict=True))


QUIET: dict[str, Damage] = {
    "a submission between its row and its start": both(open_row("queued", timedelta(seconds=50)), workflow(None)),
    "a job that is being read": both(open_row("running", READING - MINUTE), workflow("running")),
    "a job that waits behind a long queue": both(
        open_row("queued", 100 * MINUTE),
        workflow("running"),
        queue(backlog=5, oldest_seconds=QUEUE_WAIT.total_seconds()),
    ),
    "a photo that is put back": both(gone(photo), open_row("queued", timedelta(seconds=30)), workflow("running")),
    "a failure for want of the photo": both(
        gone(photo), open_row("failed", HOUR, error_code="object_missing", error_message="x"), workflow("failed")
    ),
    "a workflow that Temporal has forgotten": workflow(None),
    "a workflow terminated after its row was final": workflow("terminated"),
    "a cancelled job": both(
        open_row("failed", HOUR, error_code="job_cancelled", error_message="x"), workflow("cancelled")
    ),
    "a young photo without a row": added(old(BUCKET, ORPHAN, modified_at=LATER - 59 * MINUTE)),
    "a young copy without a row": added(old(BUCKET, ORPHAN_COPY, modified_at=LATER - 59 * MINUTE)),
    "a young artifact without a row": added(old(BUCKET, ocr_key(uuid4()), modified_at=LATER)),
    "an old artifact beside a young one": added(
        old(BUCKET, ocr_key(UUID(int=3))), old(BUCKET, manifest_key(UUID(int=3)), modified_at=LATER)
    ),
    "an artifact whose workflow still runs": both(
        added(old(BUCKET, ocr_key(UUID(int=3)))),
        lambda seen: replace(
            seen, workflows=dict(seen.workflows) | {UUID(int=3): WorkflowState("running", LATER - MINUTE)}
        ),
    ),
    "an object of another bucket": added(old(FOREIGN, ORPHAN), old(FOREIGN, "artifacts/notes.txt")),
    "another folder": added(old(BUCKET, "backups/notes.txt")),
    "a queue without work or worker": queue(has_worker=False),
    "a queue that a worker empties": queue(backlog=3, oldest_seconds=60.0),
    "an erased job without a trace": both(
        no_row,
        lambda seen: replace(seen, objects={}, unreadable={}),
        lambda seen: replace(seen, erased=frozenset({JOB}), rows={}, workflows={}),
    ),
}


@pytest.mark.parametrize("name", QUIET)
async def test_findings_normal_states_are_not_reported(name: str) -> None:
    assert [one.code for one in findings(QUIET[name](await sound()))] == []


async def test_findings_photo_of_lost_row_is_no_orphan() -> None:
    """After a restore of the database the photos of lost results must not be reported as orphans."""
    found = list(findings(no_row(await sound())))
    assert [one.code for one in found] == ["result_without_row"]


async def test_findings_ended_workflow_quotes_its_reason() -> None:
    ended = both(
        open_row("running", MINUTE),
        workflow("terminated", reason_code="terminated", reason="stopped by the night shift"),
    )
    (one,) = findings(ended(await sound()))
    assert "stopped by the night shift" in one.problem


async def test_findings_long_manifest_value_is_shortened() -> None:
    (one,) = findings(body(b'"ocr_version":"1.0"', b'"ocr_version":"' + b"x" * 200 + b'"')(await sound()))
    assert len(one.problem) < 400


@pytest.mark.parametrize(
    ("key", "owner"),
    [
        (f"artifacts/{JOB}/textract.json", JOB),
        (f"tags/{JOB}/deep/er.json", JOB),
        (f"artifacts/{JOB}", None),
        (f"artifacts/{JOB}/", None),
        (f"artifacts/{str(OTHER).upper()}/textract.json", None),
        (f"raw/{JOB}/textract.json", None),
        ("artifacts/", None),
    ],
)
def test_owner_of_returns_job_id_or_none(key: str, owner: UUID | None) -> None:
    assert owner_of(key) == owner


@pytest.mark.parametrize(
    ("key", "sha256"),
    [
        (raw_key("0" * 64), "0" * 64),
        (raw_key("ab" * 32, ".JPG"), "ab" * 32),
        ("raw/photo.png", None),
        (f"raw/{'0' * 64}/x", None),
        (f"raw/{'0' * 63}", None),
        (f"other/{'0' * 64}", None),
    ],
)
def test_uploaded_sha256_returns_hash_or_none(key: str, sha256: str | None) -> None:
    assert uploaded_sha256(key) == sha256


def test_longest_counts_every_attempt_and_wait() -> None:
    policy = policies.ActivityPolicy(
        start_to_close_timeout=timedelta(seconds=10),
        initial_interval=timedelta(seconds=1),
        maximum_interval=timedelta(seconds=3),
        maximum_attempts=4,
    )
    assert longest(policy) == timedelta(seconds=40 + 1 + 2 + 3)
