"""Errors of missing permissions of the worker's own credentials: part of the hierarchy of ``photo_worker.errors``."""

from __future__ import annotations

from photo_worker.errors import ConfigurationError, ServiceRefused


class DatabaseForbidden(ServiceRefused):
    """The role lacks a privilege on the tables in {database}: {reason}."""

    code = "database_forbidden"
    hint = (
        "Grant the role in DATABASE_URL SELECT, INSERT, UPDATE and DELETE on the tables that `photo-worker migrate` "
        "made, or make it a member of their owner. `migrate` itself needs the owner. Jobs wait meanwhile."
    )


class WorkerBucketForbidden(ConfigurationError):
    """The worker may not read or write {key!r} in its own bucket {bucket!r}."""

    code = "worker_bucket_forbidden"
    hint = (
        "Give the worker's credentials s3:GetObject and s3:PutObject on the whole bucket. If its policy asks for "
        "encryption, set S3_SERVER_SIDE_ENCRYPTION. The job goes on by itself, there or at another worker."
    )
