"""Fixtures that give each test its own database and bucket on the stack of ``stack_env``.

A database is a copy of a migrated template, one template per test process; copying files takes
some 15 ms, migrating 100 ms. All names are random, so that any number of runs can share a stack.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING
from uuid import uuid4

import boto3
import botocore.session
import psycopg
import pytest
from psycopg import conninfo, sql

from photo_worker.adapters.postgres import migrate
from photo_worker.adapters.s3.object_store import make_client
from photo_worker.aws import aws_session

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytest.register_assert_rewrite("tests.contracts")

# Each session would parse the megabytes of AWS' service models again, a quarter of a second for each client.
# The sessions of a test process share the parsed models, as the clients of one session do.
botocore.session.create_loader = cache(botocore.session.create_loader)

# Names the template database that a nested test run copies.
TEMPLATE_VARIABLE = "PHOTO_WORKER_TEST_TEMPLATE"


def database_named(database_url: str, name: str) -> str:
    """Return the connection string of another database on the same server."""
    return conninfo.make_conninfo(database_url, dbname=name)


def create_database(server_url: str, *, template: str | None = None) -> str:
    """Create an empty database, or a copy of ``template``, and return its random name."""
    name = f"pw_test_{uuid4().hex}"
    statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    if template:
        statement += sql.SQL(" TEMPLATE {} STRATEGY FILE_COPY").format(sql.Identifier(template))
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(statement)
    return name


def drop_database(server_url: str, name: str) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def template_database(stack_env: dict[str, str]) -> Iterator[str]:
    """The name of a migrated database without connections; a nested test run uses the outer run's."""
    if TEMPLATE_VARIABLE in os.environ:
        yield os.environ[TEMPLATE_VARIABLE]
        return
    server = stack_env["DATABASE_URL"]
    name = create_database(server)
    try:
        migrate.upgrade(database_named(server, name))
        yield name
    finally:
        drop_database(server, name)


@pytest.fixture
def database_url(stack_env: dict[str, str], template_database: str) -> Iterator[str]:
    """A fresh migrated database."""
    server = stack_env["DATABASE_URL"]
    name = create_database(server, template=template_database)
    yield database_named(server, name)
    drop_database(server, name)


@pytest.fixture
def empty_database_url(stack_env: dict[str, str]) -> Iterator[str]:
    """A fresh database without tables."""
    server = stack_env["DATABASE_URL"]
    name = create_database(server)
    yield database_named(server, name)
    drop_database(server, name)


def session_of(variables: Mapping[str, str]) -> boto3.Session:
    """Return a session of the stack, independent of the environment of the tests."""
    return aws_session(variables)


@pytest.fixture(scope="session")
def s3_client(stack_env: dict[str, str]) -> Iterator[S3Client]:
    """The worker's own S3 client on the stack's store."""
    client = make_client(
        session=session_of(stack_env), endpoint_url=stack_env["AWS_ENDPOINT_URL_S3"], max_pool_connections=20
    )
    yield client
    client.close()


@contextmanager
def _fresh_bucket(client: S3Client) -> Iterator[str]:
    name = f"pw-test-{uuid4().hex}"
    client.create_bucket(Bucket=name)
    yield name
    empty(client, name)


@pytest.fixture
def bucket(s3_client: S3Client) -> Iterator[str]:
    """A fresh, empty bucket."""
    with _fresh_bucket(s3_client) as name:
        yield name


@pytest.fixture
def other_bucket(s3_client: S3Client) -> Iterator[str]:
    """A second bucket, fresh, empty and bound to no database."""
    with _fresh_bucket(s3_client) as name:
        yield name


@pytest.fixture
def versioned_bucket(s3_client: S3Client) -> Iterator[str]:
    """A fresh, empty bucket with versioning."""
    name = f"pw-test-{uuid4().hex}"
    s3_client.create_bucket(Bucket=name)
    s3_client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    yield name
    empty(s3_client, name)


def empty(s3_client: S3Client, name: str) -> None:
    """Delete a bucket with everything in it, versions included."""
    for page in s3_client.get_paginator("list_object_versions").paginate(Bucket=name):
        for item in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
            s3_client.delete_object(Bucket=name, Key=item["Key"], VersionId=item["VersionId"])
    s3_client.delete_bucket(Bucket=name)
