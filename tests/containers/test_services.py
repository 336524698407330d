"""Each throwaway service supports what the application needs of the real one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
import psycopg
import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from photo_worker.adapters.postgres import migrate
from photo_worker.adapters.postgres.job_repository import PostgresJobRepository, make_pool
from photo_worker.adapters.s3.object_store import BotoObjectStore, make_client
from tests.contracts.object_store import PAGE, ObjectStoreContract
from tests.contracts.s3.case import REGION, Endpoint, delete_bucket, new_bucket
from tests.support.harness import FIXTURES

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytest_plugins = ["tests.containers.fixtures"]


class TestPostgres:
    def test_postgres_runs_migrations_and_stores_job(self, throwaway_postgres: str) -> None:
        assert migrate.current(throwaway_postgres) is None
        migrate.upgrade(throwaway_postgres)
        assert migrate.current(throwaway_postgres) == migrate.head()
        job_id = uuid4()
        with make_pool(throwaway_postgres) as pool:
            repository = PostgresJobRepository(pool)
            repository.queue(job_id, bucket="photos", key="pie.jpg")
            repository.fail(job_id, bucket="photos", key="pie.jpg", code="unreadable", message="No photo.")
            found = repository.get(job_id)
        assert found is not None
        assert (found.status, found.error_code) == ("failed", "unreadable")

    def test_postgres_wrong_password_is_refused(self, throwaway_postgres: str) -> None:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(throwaway_postgres, password="guessed")


@pytest.fixture(scope="module")
def minio_client(throwaway_minio: Endpoint) -> Iterator[S3Client]:
    """The worker's own client."""
    session = boto3.Session(throwaway_minio.access_key, throwaway_minio.secret_key, region_name=REGION)
    client = make_client(session=session, endpoint_url=throwaway_minio.url, max_pool_connections=20)
    yield client
    client.close()


class TestMinio(ObjectStoreContract):
    """The contract of object stores, on the throwaway MinIO."""

    @pytest.fixture
    def store(self, minio_client: S3Client) -> BotoObjectStore:
        return BotoObjectStore(minio_client, page=PAGE)

    @pytest.fixture
    def bucket(self, minio_client: S3Client) -> Iterator[str]:
        name = new_bucket(minio_client)
        yield name
        delete_bucket(minio_client, name)

    @pytest.fixture
    def keeping(self, store: BotoObjectStore, minio_client: S3Client, bucket: str) -> tuple[BotoObjectStore, str]:
        minio_client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        return store, bucket


class TestLocalStack:
    def test_localstack_delivers_bucket_event_to_queue(self, localstack_session: Any) -> None:
        s3, sqs = localstack_session.client("s3"), localstack_session.client("sqs")
        bucket = new_bucket(s3)
        queue = sqs.create_queue(QueueName=f"pw-test-{uuid4().hex}")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        s3.put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration={"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]},
            SkipDestinationValidation=True,
        )
        s3.put_object(Bucket=bucket, Key="pie.jpg", Body=b"x")
        (message,) = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=20)["Messages"]
        assert bucket in message["Body"]
        s3.close()
        sqs.close()


@workflow.defn
class Greet:
    @workflow.run
    async def run(self, name: str) -> str:
        return f"hello {name}"


def _worker(client: Client, queue: str) -> Worker:
    # The sandbox would import this module again, with all imports of its tests.
    return Worker(client, task_queue=queue, workflows=[Greet], workflow_runner=UnsandboxedWorkflowRunner())


class TestTemporal:
    async def test_temporal_runs_workflow(self, throwaway_temporal: str) -> None:
        client = await Client.connect(throwaway_temporal)
        queue = f"test-{uuid4().hex}"
        async with asyncio.timeout(60), _worker(client, queue):
            assert await client.execute_workflow(Greet.run, "pie", id=queue, task_queue=queue) == "hello pie"


class TestTextract:
    def test_textract_reads_photo(self, throwaway_textract: str) -> None:
        session = boto3.Session("local", "local", region_name=REGION)
        textract = session.client("textract", endpoint_url=throwaway_textract)
        photo = next(path for path in sorted((FIXTURES / "photos").iterdir()) if path.suffix == ".png")
        response = textract.detect_document_text(Document={"Bytes": photo.read_bytes()})
        assert response["DocumentMetadata"]["Pages"] == 1
        assert any(block["BlockType"] == "LINE" and block["Text"].strip() for block in response["Blocks"])
        textract.close()
