"""Errors of what a worker needs: a service that is away or refuses, or the worker's own machine. Retried."""

from __future__ import annotations

from photo_worker.errors.base import DependencyError


class StorageUnavailable(DependencyError):
    """The object store does not respond ({store}): {reason}."""

    code = "storage_unavailable"


class DatabaseUnavailable(DependencyError):
    """Postgres does not respond ({database}): {reason}."""

    code = "database_unavailable"


class DatabaseReadOnly(DatabaseUnavailable):
    """Postgres takes no writes ({database}): {reason}."""

    code = "database_read_only"
    hint = (
        "It is a standby, or default_transaction_read_only is set, as some services do before a disk is full. Look "
        "where DATABASE_URL leads; the job goes on by itself when it takes writes again."
    )


class OcrUnavailable(DependencyError):
    """The OCR service does not respond ({engine}): {reason}."""

    code = "ocr_unavailable"


class OcrThrottled(DependencyError):
    """The OCR service asks to slow down ({engine}): {reason}."""

    code = "ocr_throttled"
    hint = "The job is retried by itself; lower MAX_ACTIVITIES or raise the service's quota if it lasts."


class OcrRefused(DependencyError):
    """The OCR service may not read {key!r} in bucket {bucket!r} ({engine}): {reason}."""

    code = "ocr_refused"
    hint = (
        "Give the worker's role s3:GetObject and s3:GetObjectVersion on the bucket, and kms:Decrypt on its key: the OCR"
        " service reads with them. The job goes on by itself when it may."
    )


class DecoderUnavailable(DependencyError):
    """The worker cannot open documents at this moment: {reason}."""

    code = "decoder_unavailable"
    fault = "worker"
    hint = (
        "The machine has no processor time, memory or processes to spare: lower MAX_ACTIVITIES if it lasts. Where it "
        "has, what opens documents is broken: install pi-heif, pillow and pypdfium2 again, and see the worker's log."
    )


class WorkerExhausted(DependencyError):
    """The worker's machine or process has no more of what an attempt needs: {reason}."""

    code = "worker_exhausted"
    fault = "worker"
    hint = (
        "Free memory, disk space, open files or processes on the worker's machine, raise its limits (ulimit -n, "
        "ulimit -u, the container's), or lower MAX_ACTIVITIES. The job goes on by itself, there or at another worker."
    )


class WorkerIncomplete(DependencyError):
    """A part of the worker's program cannot be loaded: {reason}."""

    code = "worker_incomplete"
    fault = "worker"
    hint = "Install the release again and start the worker anew; files were removed or replaced while it ran."


class StepHeldBack(DependencyError):
    """The worker holds {step} back, which fails again and again, last with [{code}] {reason}"""

    code = "step_held_back"
    hint = "The job goes on by itself. What is wrong stands in the message, be it from another job's attempt."


class LookFailed(DependencyError):
    """A look at what the worker needs ended unexpectedly: {reason}."""

    code = "look_failed"
    hint = "The worker's log has the whole error; the worker looks again by itself."
