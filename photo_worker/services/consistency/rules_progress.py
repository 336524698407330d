"""Rules about rows, the workflows that change them, and the task queues.

Evidence is gathered in this order: workflow, row, objects. A row is final before its workflow closes, so a closed
workflow beside an open row is not an effect of the order of reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

from photo_worker import policies
from photo_worker.contracts.keys import manifest_key, ocr_key
from photo_worker.errors import TERMINATED, JobCancelled, ends_job
from photo_worker.pipelines import Pipeline, Step
from photo_worker.ports.orchestrator import QueueState, WorkflowState
from photo_worker.services.consistency.evidence import Evidence, JobEvidence
from photo_worker.services.consistency.finding import Repair, RuleBreach
from photo_worker.services.consistency.rules_results import OPEN_STATUSES, read_manifest, row_of, s3

# Within this time Textract does not charge again for a document that it has read, whichever run requests it.
TOKENS_KEPT = timedelta(days=7)

# The time that a busy service may add to the times that the policies allow.
SLACK = timedelta(minutes=10)

# A worker takes a task within milliseconds. If one waits this long, more tasks arrive than the workers do.
QUEUE_WAIT = timedelta(minutes=15)

# Code and reason of a job by its workflow's status, if Temporal gives no reason; the same as a waiting client gets.
_ENDS = {
    "failed": ("unknown", "the workflow failed"),
    "cancelled": (JobCancelled.code, JobCancelled().message),
    "terminated": (TERMINATED, "the workflow was terminated by an operator"),
    "timed_out": ("timeout", "the workflow did not end in its time"),
}


_STUCK = (
    "It waits for a service that is away or refuses the workers, no worker takes its tasks, or its tasks fail"
    " one after the other (a deploy that does not replay its history)."
)


def longest(policy: policies.ActivityPolicy) -> timedelta:
    """Return the longest time that a step takes while the services respond: its attempts and the waits between them.

    A step without a limit of attempts counts once. One that waits for a service that is down takes as long as its job
    lives, which an operator should know.
    """
    waits = [policy.wait_before(attempt) for attempt in range(2, policy.maximum_attempts + 1)]
    return sum(waits, policy.start_to_close_timeout * max(policy.maximum_attempts, 1))


def end_of(job: JobEvidence) -> tuple[str, str] | None:
    """Return the code and the reason if a job's workflow ended without a result, else None."""
    return _end_of(job.workflow)


def _end_of(state: WorkflowState | None) -> tuple[str, str] | None:
    if state is None or state.status not in _ENDS:
        return None
    code, reason = _ENDS[state.status]
    return state.reason_code or code, state.reason or reason


def gave_up(job: JobEvidence) -> list[Pipeline]:
    """Return the pipelines whose workflows of a job ended without a result although the job is not at fault.

    The job's first workflow is none of them if the row is final: the job has ended otherwise.
    """
    if job.row is None:
        return []
    states: list[tuple[Pipeline, WorkflowState]] = [*job.further]
    if job.workflow is not None and job.row.status in OPEN_STATUSES:
        states.insert(0, (job.whole.main, job.workflow))
    ends = ((pipeline, _end_of(state)) for pipeline, state in states)
    return [pipeline for pipeline, end in ends if end and not ends_job(end[0])]


def queued_without_workflow(job: JobEvidence) -> Iterator[RuleBreach]:
    """Every queued job has a workflow."""
    row = job.row
    if row and row.status == "queued" and _has_none(job):
        yield RuleBreach(
            row_of(job),
            f"The job is queued since {row.created_at:%Y-%m-%d %H:%M:%S} UTC, and Temporal knows no workflow of it.",
            "The process that submitted it ended between the row and the start.",
            f"Submit it again under its id: `photo-worker submit {s3(job.whole.raw_location(row))}"
            f" --job-id {job.job_id}`.",
            Repair.START_WORKFLOW,
        )


def running_without_workflow(job: JobEvidence) -> Iterator[RuleBreach]:
    """Every running job has a workflow."""
    row = job.row
    if row and row.status == "running" and _has_none(job):
        # The OCR step, and with it its request token, begins after the row's last change.
        read = (job.whole.bucket, ocr_key(job.job_id)) in job.whole.objects
        free = read or job.whole.age(row.updated_at) < TOKENS_KEPT
        yield RuleBreach(
            row_of(job),
            f"The job is running since {row.updated_at:%Y-%m-%d %H:%M:%S} UTC, and Temporal knows no workflow of it.",
            "Temporal lost or deleted the workflow, or it ended and is past its retention, or TEMPORAL_TARGET or"
            " TEMPORAL_NAMESPACE name another one.",
            "Check the namespace first. If it is right, submit the photo again under its id: `photo-worker submit"
            f" {s3(job.whole.raw_location(row))} --job-id {job.job_id}`"
            + ("." if free else ", which may be charged again: Textract keeps what it has read for 7 days."),
            Repair.START_WORKFLOW if free else None,
        )


def workflow_ended_without_row(job: JobEvidence) -> Iterator[RuleBreach]:
    """A workflow that an operator ended, or that failed because of its job, leaves its reason in the row."""
    row, end = job.row, end_of(job)
    if row and row.status in OPEN_STATUSES and end and ends_job(end[0]) and job.workflow:
        yield RuleBreach(
            row_of(job),
            f"The job is {row.status}, and its workflow is {job.workflow.status.replace('_', ' ')}"
            f" ({end[0]}: {end[1].rstrip('.')}).",
            "A terminated workflow has no time to write its reason into the row.",
            f"`photo-worker check --repair --job {job.job_id}` writes it; then submit the photo as a new job"
            " if its text is still wanted.",
            Repair.RECORD_END,
        )


def workflow_gave_up(job: JobEvidence) -> Iterator[RuleBreach]:
    """A workflow ends without a result only because of a fault in its job."""
    row, found = job.row, gave_up(job)
    states = {pipeline.kind: state for pipeline, state in job.further}
    for pipeline in found:
        state = states.get(pipeline.kind, job.workflow)
        end = _end_of(state)
        if row is None or state is None or end is None:
            continue
        first = pipeline.kind not in states
        yield RuleBreach(
            row_of(job) if first else _workflow(job, pipeline),
            (f"The job is {row.status}, and its workflow" if first else f"The {pipeline.kind.name}")
            + f" is {state.status.replace('_', ' ')} ({end[0]}: {end[1].rstrip('.')}): nothing runs any more.",
            "A service, a worker or the program was at fault, not the job: an earlier release gave up then, or the"
            " workflow was given a timeout of its own.",
            f"`photo-worker check --repair --job {job.job_id}` sets it going again.",
            Repair.START_AGAIN,
        )


def result_not_recorded(job: JobEvidence) -> Iterator[RuleBreach]:
    """A completed workflow's row has the result."""
    row = job.row
    if not (row and row.status in OPEN_STATUSES and job.workflow and job.workflow.status == "completed"):
        return
    manifest = read_manifest(job.whole.objects.get((job.whole.bucket, manifest_key(job.job_id))))
    response = (job.whole.bucket, ocr_key(job.job_id)) in job.whole.objects
    same = manifest is not None and (manifest.job_id, manifest.s3_raw_key) == (str(job.job_id), row.s3_raw_key)
    yield RuleBreach(
        row_of(job),
        f"The job is {row.status}, and its workflow has completed with a result.",
        "The row is written before a workflow completes: the database was set back, by a restore for example.",
        f"`photo-worker check --repair --job {job.job_id}` writes into the row what the manifest says."
        if same and response
        else f"Its manifest or OCR answer is gone as well: submit the photo as a new job, and erase this one"
        f" (`photo-worker erase {job.job_id}`).",
        Repair.RECORD_RESULT if same and response else None,
    )


def workflow_contradicts_row(job: JobEvidence) -> Iterator[RuleBreach]:
    """A final row and a closed workflow agree on how the job ended."""
    row, state = job.row, job.workflow
    if row is None or state is None:
        return
    # A workflow that was terminated after its row was written does not contradict it.
    told = {"succeeded": {"failed", "cancelled"}, "failed": {"completed"}}
    if state.status in told.get(row.status, ()):
        yield RuleBreach(
            row_of(job),
            f"The row says {row.status}, and the workflow is {state.status}.",
            "A final status never changes, and a workflow ends with what its row says: one of them was changed.",
            f"Compare `photo-worker show {job.job_id}` with the workflow's history (Temporal UI), and correct the row.",
        )


def job_stuck(job: JobEvidence) -> Iterator[RuleBreach]:
    """A job and its further workflows move on within the time that the policies allow."""
    yield from _row_stuck(job)
    for pipeline, state in job.further:
        age, allowed = job.whole.age(state.started_at), _run_time(job, pipeline)
        if job.row is not None and state.is_open and allowed is not None and age > allowed:
            yield RuleBreach(
                _workflow(job, pipeline),
                f"The {pipeline.kind.name} runs for {_say(age)}; at most {_say(allowed)} are allowed.",
                _STUCK,
                "The Temporal UI says what its step waits for. After a deploy, run"
                " `photo-worker replay check --from-server`.",
            )


def _row_stuck(job: JobEvidence) -> Iterator[RuleBreach]:
    row, state = job.row, job.workflow
    if row is None or state is None or not state.is_open:
        return
    since = row.updated_at
    allowed = _allowed(job, row.status, bool(row.content_sha256))
    if row.status in OPEN_STATUSES and state.started_at > since:
        # The row of a restarted job may be old, and its photo is verified once more.
        since = state.started_at
        main = job.whole.main
        allowed += _longest_of(main, main.verifying) if row.status == "running" else timedelta()
    stood = job.whole.age(since)
    if stood > allowed:
        yield RuleBreach(
            f"workflow {job.job_id}",
            f"The row says {row.status} since {_say(stood)}, and the workflow still runs; at most {_say(allowed)} are"
            " allowed for this step.",
            _STUCK,
            f"`photo-worker show {job.job_id}` says what its step waits for. After a deploy, run"
            " `photo-worker replay check --from-server`.",
        )


def workflow_without_row(job: JobEvidence) -> Iterator[RuleBreach]:
    """Every running workflow has a row."""
    state = job.workflow
    if job.row is None and state is not None and state.is_open:
        age = job.whole.age(state.started_at)
        if age > _allowed(job, "queued", read=False):
            yield RuleBreach(
                f"workflow {job.job_id}",
                f"The workflow runs for {_say(age)}, and there is no row of its job.",
                "Its first step writes the row. No worker takes it, the row was deleted, or DATABASE_URL names another"
                " database.",
                f"Check DATABASE_URL and the worker. If the job is not wanted: `photo-worker erase {job.job_id}`.",
            )
    for pipeline, further in job.further:
        age = job.whole.age(further.started_at)
        if job.row is None and further.is_open and age > SLACK + _waiting(job):
            yield RuleBreach(
                _workflow(job, pipeline),
                f"The {pipeline.kind.name} runs for {_say(age)}, and there is no row of its job.",
                "The row was deleted, or DATABASE_URL names another database.",
                f"Check DATABASE_URL. If the job is not wanted: `photo-worker erase {job.job_id}`.",
            )


def queue_without_worker(evidence: Evidence) -> Iterator[RuleBreach]:
    """If tasks wait, a worker polls for them."""
    for queue in evidence.queues:
        if queue.backlog and not queue.has_worker:
            yield RuleBreach(
                f"task queue {queue.name}",
                f"{_tasks(queue)}, the oldest for {_say(timedelta(seconds=queue.oldest_seconds))}, and no"
                " worker asks for them.",
                "The workers are down, or they poll another task queue, namespace or Temporal.",
                "Start `photo-worker worker` with this TEMPORAL_TASK_QUEUE; the jobs go on by themselves.",
            )


def queue_waits(evidence: Evidence) -> Iterator[RuleBreach]:
    """No task waits for long."""
    for queue in evidence.queues:
        waited = timedelta(seconds=queue.oldest_seconds)
        if not (queue.backlog and queue.has_worker):
            continue
        if queue.waits_for:
            yield RuleBreach(
                f"task queue {queue.name}",
                f"{_tasks(queue)}, the oldest for {_say(waited)}, and the workers take no work.",
                f"They wait for what they need: {', '.join(queue.waits_for)}.",
                "Their logs say what is to be mended; they go on by themselves.",
            )
        elif waited > QUEUE_WAIT:
            yield RuleBreach(
                f"task queue {queue.name}",
                f"{_tasks(queue)}, the oldest for {_say(waited)}; {_say(QUEUE_WAIT)} are normal at most.",
                "More jobs arrive than the workers do, or OCR asks them to slow down.",
                "Run more workers or raise MAX_ACTIVITIES; where OCR throttles, raise its quota.",
            )


def _tasks(queue: QueueState) -> str:
    return "1 task waits" if queue.backlog == 1 else f"{queue.backlog} tasks wait"


def _has_none(job: JobEvidence) -> bool:
    row = job.row
    return (
        row is not None
        and job.workflow_known
        and job.workflow is None
        and job.whole.age(row.updated_at) > policies.SUBMISSION_TIME
    )


def _allowed(job: JobEvidence, status: str, read: bool) -> timedelta:
    """Return how long a row may stay unchanged: the steps up to its next change, and their waits for a worker."""
    main = job.whole.main
    if status == "running" and read:
        steps = main.reading
    elif status in OPEN_STATUSES:
        steps = main.verifying
    else:
        # The row has the result, but the reply was lost, and the step runs again.
        steps = main.recording
    return _longest_of(main, steps) + SLACK + _waiting(job)


def _run_time(job: JobEvidence, pipeline: Pipeline) -> timedelta | None:
    """Return how long a further workflow may run, None if it has no limit."""
    if pipeline.waits is None:
        return None
    return pipeline.waits + _longest_of(pipeline, pipeline.steps) + SLACK + _waiting(job)


def _waiting(job: JobEvidence) -> timedelta:
    return 3 * timedelta(seconds=max((queue.oldest_seconds for queue in job.whole.queues), default=0.0))


def _workflow(job: JobEvidence, pipeline: Pipeline) -> str:
    return f"workflow {pipeline.kind.of(job.job_id).workflow_id}"


def _longest_of(pipeline: Pipeline, steps: Iterable[Step]) -> timedelta:
    return sum((longest(pipeline.policy(step)) for step in steps), timedelta())


def _say(time: timedelta) -> str:
    """Format a duration in its largest unit of which there are at least two."""
    seconds = round(time.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
