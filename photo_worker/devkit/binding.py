"""Bind a stack's bucket to its database; the worker, ``check`` and ``erase`` require the binding."""

from __future__ import annotations


def bind_bucket(env: dict[str, str]) -> None:
    """Bind the bucket of a stack to its database; does nothing if they are bound already.

    Raises ``BucketBoundElsewhere`` if the bucket is bound to another database, as a bucket of an external S3 server is
    after the stack's own database was recreated, and the error of a service that has become unreachable.
    """
    from photo_worker.adapters.postgres.job_repository import PostgresJobRepository, make_pool
    from photo_worker.adapters.s3.object_store import BotoObjectStore
    from photo_worker.devkit import database, readiness
    from photo_worker.services.binding import bind

    client = readiness.aws_client(readiness.aws_session(env), "s3", env)
    with make_pool(database.with_explicit_parameters(env["DATABASE_URL"]), max_size=1) as pool:
        bind(BotoObjectStore(client), PostgresJobRepository(pool), env["S3_BUCKET"])
