"""Errors that only commands raise and that end no job."""

from __future__ import annotations

from photo_worker.errors.base import ConfigurationError, InputError, PhotoWorkerError


class JobEndedWithoutRow(PhotoWorkerError):
    """The workflow of job {job_id} has ended ({status}: {reason}), and its row still says {row}: nothing runs."""

    code = "job_ended_without_row"
    hint = (
        "Run `photo-worker check --repair --job JOB`. Where an operator terminated or cancelled it, or the job itself "
        "was wrong, that writes into the row that it failed, and the photo can be submitted as a new job; anything "
        "else is started once more. `photo-worker erase JOB` removes it."
    )


class JobWithoutWorkflow(PhotoWorkerError):
    """Temporal knows no workflow of job {job_id}, and its row says {row} since {since}: nothing runs."""

    code = "job_without_workflow"
    hint = (
        "Check TEMPORAL_TARGET and TEMPORAL_NAMESPACE first: it may run elsewhere. Where they are right, Temporal lost "
        "the workflow, or it ended and is past its retention: submit the photo again under the same id, or run "
        "`photo-worker check --repair --job JOB`. `photo-worker erase JOB` removes it."
    )


class BucketNeverBound(ConfigurationError):
    """Nothing says that the bucket {bucket!r} belongs to the database {database}, so nothing is deleted: {reason}."""

    code = "bucket_never_bound"
    hint = (
        "Check S3_BUCKET and DATABASE_URL. Where both are right, `photo-worker migrate` binds the two, as it does for "
        "a deployment that is older than the binding; then run this again."
    )


class RebindUnconfirmed(PhotoWorkerError):
    """This takes the bucket {bucket!r} away from the database {known}, and the command cannot ask for confirmation."""

    code = "rebind_unconfirmed"
    hint = "Add --yes."


class ConfirmationRequired(PhotoWorkerError):
    """This deletes {what}, and the command cannot ask for confirmation."""

    code = "confirmation_required"
    hint = "Add --yes."


class FixturesMissing(InputError):
    """There are no photos to process: neither {path!r} is there nor those of the package."""

    code = "fixtures_missing"
    hint = "Name a folder of photos: photo-worker demo --fixtures FOLDER."
