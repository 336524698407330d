"""Errors that say how a job, a step of it, or its worker ended."""

from __future__ import annotations

from photo_worker.errors.base import PhotoWorkerError


class JobCancelled(PhotoWorkerError):
    """The job was cancelled."""

    code = "job_cancelled"
    fault = "job"
    hint = "Submit the asset as a new job if it is still wanted."


class JobFailed(PhotoWorkerError):
    """The job {job_id} failed [{reason_code}]: {reason}"""

    code = "job_failed"
    hint = "Correct what the reason names and submit the asset as a new job."


class JobExpired(PhotoWorkerError):
    """The job did not end within its lifetime; {step} was tried {last}."""

    code = "job_expired"
    in_histories = True
    fault = "service"
    hint = (
        "Mend what the reason names, then submit the asset as a new job. JOB_LIFETIME_SECONDS says how long a new job "
        "waits for a service that is away."
    )


class StepTimeout(PhotoWorkerError):
    """The step {step} did not end in its time: {reason}."""

    code = "step_timeout"
    in_histories = True
    hint = "Look at the worker's log for the step; if the document is ordinary, raise the timeout in policies."


class StepFailed(PhotoWorkerError):
    """The step {step} failed unexpectedly: {reason}."""

    code = "step_failed"
    in_histories = True
    hint = "This is a defect: report it with the job's history from the Temporal UI."


class WorkerFailed(PhotoWorkerError):
    """The worker ended {starts} times in a row; its log is {log}."""

    code = "worker_failed"
    hint = "Read the end of the log; the jobs are kept and go on when a worker runs again."
