"""Binding a stack's bucket to its database, when both can be used: the worker, ``check`` and ``erase`` ask for that."""

from __future__ import annotations


def bind_bucket(env: dict[str, str]) -> None:
    """Bind the bucket of a stack to its database, once.

    Raises ``BucketBoundElsewhere`` where it belongs to another one, as a bucket of an external S3 server does when the
    stack's own database was made anew, and the error of a service that has gone away meanwhile.
    """
    from photo_worker.devkit import database, readiness
    from photo_worker.integrity.binding import bind
    from photo_worker.storage.postgres import PostgresJobRepository, make_pool
    from photo_worker.storage.s3_boto import BotoObjectStore

    client = readiness.aws_client(readiness.aws_session(env), "s3", env)
    with make_pool(database.settled(env["DATABASE_URL"]), max_size=1) as pool:
        bind(BotoObjectStore(client), PostgresJobRepository(pool), env["S3_BUCKET"])
