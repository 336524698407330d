"""All rules, by name. ``docs/reference/check.md`` is made from these tables."""

from __future__ import annotations

from collections.abc import Iterator

from photo_worker.services.consistency import rules_binding as binding
from photo_worker.services.consistency import rules_orphans as orphans
from photo_worker.services.consistency import rules_progress as progress
from photo_worker.services.consistency import rules_results as results
from photo_worker.services.consistency.evidence import Evidence, JobEvidence, jobs_of
from photo_worker.services.consistency.finding import IntegrityFinding, Repair, Rule, Severity

PROMISES = {
    1: "One job id has one row, and the same bytes are known again.",
    2: "Every accepted photo ends as succeeded, or as failed with a reason.",
    4: "The objects of every row are there and unchanged, and every object is somebody's, or young.",
    6: "A final status never changes.",
    7: "Nothing stays in a queue.",
    9: "Of an erased job nothing is left.",
    10: "Rows and workflows count the same jobs.",
}
"""What the worker promises even if processes or services fail, as far as it can be observed while jobs run; with the
numbers of the crash tests."""

_ERROR, _WARNING, _NOTICE = Severity.ERROR, Severity.WARNING, Severity.NOTICE

JOB_RULES: tuple[Rule[JobEvidence], ...] = (
    Rule(
        "photo_name_differs", 1, _ERROR, "An uploaded photo's name is the hash of its bytes", results.photo_name_differs
    ),
    Rule(
        "failed_without_reason", 2, _ERROR, "A failed job's row has a code and a message", results.failed_without_reason
    ),
    Rule("succeeded_with_error", 2, _ERROR, "A succeeded job's row has no error", results.succeeded_with_error),
    Rule(
        "succeeded_without_result",
        2,
        _ERROR,
        "A succeeded job's row names its result",
        results.succeeded_without_result,
    ),
    Rule(
        "queued_without_workflow",
        2,
        _ERROR,
        "A queued job has a workflow",
        progress.queued_without_workflow,
        Repair.START_WORKFLOW,
    ),
    Rule(
        "running_without_workflow",
        2,
        _ERROR,
        "A running job has a workflow",
        progress.running_without_workflow,
        Repair.START_WORKFLOW,
    ),
    Rule(
        "workflow_ended_without_row",
        2,
        _ERROR,
        "A workflow that ended without a result left its reason in the row",
        progress.workflow_ended_without_row,
        Repair.RECORD_END,
    ),
    Rule(
        "workflow_gave_up",
        2,
        _ERROR,
        "A workflow ends without a result only by what is wrong with its job",
        progress.workflow_gave_up,
        Repair.START_AGAIN,
    ),
    Rule("job_stuck", 2, _ERROR, "A job moves on within the time that the policies allow", progress.job_stuck),
    Rule("photo_missing", 4, _ERROR, "The uploaded photo of a row is there", results.photo_missing),
    Rule("photo_differs", 4, _ERROR, "An uploaded photo has the bytes that its row says", results.photo_differs),
    Rule(
        "source_missing",
        4,
        _NOTICE,
        "The object that a finished job read at its owner's is there",
        results.source_missing,
    ),
    Rule(
        "source_differs",
        4,
        _NOTICE,
        "The object that a finished job read at its owner's is the same",
        results.source_differs,
    ),
    Rule("copy_missing", 4, _ERROR, "The copy that OCR read of a success is there", results.copy_missing),
    Rule(
        "copy_differs", 4, _ERROR, "The copy that OCR read has the bytes that the manifest says", results.copy_differs
    ),
    Rule("ocr_missing", 4, _ERROR, "The OCR answer of a success is there", results.ocr_missing),
    Rule("ocr_differs", 4, _ERROR, "The OCR answer says of itself what the row says of it", results.ocr_differs),
    Rule("manifest_missing", 4, _ERROR, "The manifest of a success is there", results.manifest_missing),
    Rule("manifest_differs", 4, _ERROR, "The manifest says what the row says", results.manifest_differs),
    Rule("object_unreadable", 4, _WARNING, "These credentials can read what a row names", results.object_unreadable),
    Rule(
        "artifact_without_row",
        4,
        _ERROR,
        "An artifact has a row, or is young",
        orphans.artifact_without_row,
        Repair.DELETE_ARTIFACTS,
    ),
    Rule("result_without_row", 4, _ERROR, "A finished result has a row, or is young", orphans.result_without_row),
    Rule(
        "workflow_contradicts_row",
        6,
        _ERROR,
        "A final row and a closed workflow agree",
        progress.workflow_contradicts_row,
    ),
    Rule("erased_traces", 9, _ERROR, "Nothing is left of an erased job", orphans.erased_traces, Repair.ERASE_TRACES),
    Rule(
        "result_not_recorded",
        10,
        _ERROR,
        "A completed workflow's row has the result",
        progress.result_not_recorded,
        Repair.RECORD_RESULT,
    ),
    Rule("workflow_without_row", 10, _WARNING, "A running workflow has a row", progress.workflow_without_row),
)

# Rules about message queues and dead letters belong here once the worker has any: Evidence.queues holds them.
DEPLOYMENT_RULES: tuple[Rule[Evidence], ...] = (
    Rule(
        "bucket_bound_elsewhere",
        4,
        _ERROR,
        "The bucket does not belong to another database",
        binding.bucket_bound_elsewhere,
    ),
    Rule("bucket_not_bound", 4, _WARNING, "The bucket is bound to this database", binding.bucket_not_bound),
    Rule(
        "photo_without_row",
        4,
        _WARNING,
        "An uploaded photo is some row's, or is young",
        orphans.photo_without_row,
        Repair.DELETE_PHOTO,
    ),
    Rule(
        "copy_without_row",
        4,
        _WARNING,
        "A copy that was made for OCR is of some row's photo, or is young",
        orphans.copy_without_row,
        Repair.DELETE_PHOTO,
    ),
    Rule("name_unknown", 4, _NOTICE, "Objects have names as the worker gives them", orphans.name_unknown),
    Rule("queue_without_worker", 7, _ERROR, "Where tasks wait, a worker asks for them", progress.queue_without_worker),
    Rule("queue_waits", 7, _WARNING, "No task waits for long", progress.queue_waits),
)


def findings(evidence: Evidence) -> Iterator[IntegrityFinding]:
    """Return every breach of a rule: first those of jobs, by id, then those of the deployment."""
    for job in jobs_of(evidence):
        yield from job_findings(job)
    yield from deployment_findings(evidence)


def job_findings(job: JobEvidence) -> Iterator[IntegrityFinding]:
    """Return the findings of one job. Of an erased job the only finding is that something of it is left."""
    for rule in JOB_RULES:
        if not job.erased or rule.repair is Repair.ERASE_TRACES:
            yield from rule.findings(job, job.job_id)


def deployment_findings(evidence: Evidence) -> Iterator[IntegrityFinding]:
    """Return the findings that belong to no job. Needs ``evidence.referenced``, or the rows of all jobs."""
    for rule in DEPLOYMENT_RULES:
        yield from rule.findings(evidence)


def all_rules() -> tuple[Rule[JobEvidence] | Rule[Evidence], ...]:
    """Return every rule, by the invariant it belongs to."""
    return tuple(sorted((*JOB_RULES, *DEPLOYMENT_RULES), key=lambda rule: rule.invariant))
