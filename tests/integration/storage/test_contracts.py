"""The contracts of the ports, with the adapters of the real services."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from photo_worker.adapters.postgres.job_repository import PostgresJobRepository, make_pool
from photo_worker.adapters.s3.object_store import BotoObjectStore
from photo_worker.errors import ObjectMissing
from tests.contracts.job_repository import JobRepositoryContract
from tests.contracts.object_store import PAGE, ObjectStoreContract
from tests.support.resources import empty

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.mark.stack
class TestBotoObjectStore(ObjectStoreContract):
    @pytest.fixture
    def store(self, s3_client: S3Client) -> BotoObjectStore:
        return BotoObjectStore(s3_client, page=PAGE)

    @pytest.fixture
    def bucket(self, bucket: str) -> str:
        return bucket

    @pytest.fixture
    def keeping(self, store: BotoObjectStore, versioned_bucket: str) -> tuple[BotoObjectStore, str]:
        return store, versioned_bucket


@pytest.mark.stack
class TestBotoObjectStoreWithVersions(ObjectStoreContract):
    """The contract in a bucket that keeps overwritten and deleted versions."""

    @pytest.fixture
    def store(self, s3_client: S3Client) -> BotoObjectStore:
        return BotoObjectStore(s3_client, page=PAGE)

    @pytest.fixture
    def bucket(self, s3_client: S3Client, versioned_bucket: str) -> str:
        return versioned_bucket

    @pytest.fixture
    def keeping(self, store: BotoObjectStore, bucket: str) -> tuple[BotoObjectStore, str]:
        return store, bucket

    def test_delete_removes_all_versions_and_markers(
        self, store: BotoObjectStore, s3_client: S3Client, bucket: str
    ) -> None:
        for number in range(3):
            store.put(bucket, "k", bytes(number), content_type="image/png")
            store.put(bucket, "k2", bytes(number), content_type="image/png")
        s3_client.delete_object(Bucket=bucket, Key="k")
        store.put(bucket, "k", b"again", content_type="image/png")
        s3_client.delete_object(Bucket=bucket, Key="k")
        with pytest.raises(ObjectMissing):
            store.head(bucket, "k")
        deleted = store.delete(bucket, "k")
        left = s3_client.list_object_versions(Bucket=bucket)
        assert [version["Key"] for version in left.get("Versions", [])] == ["k2"] * 3, "what was deleted can be had"
        assert left.get("DeleteMarkers", []) == []
        assert deleted == 6
        assert store.delete(bucket, "k") == 0

    def test_delete_removes_versions_from_before_versioning(
        self, store: BotoObjectStore, s3_client: S3Client, stack_env: dict[str, str]
    ) -> None:
        name = f"pw-test-{uuid4().hex}"
        s3_client.create_bucket(Bucket=name)
        try:
            store.put(name, "k", b"old", content_type="image/png")
            s3_client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
            store.put(name, "k", b"new", content_type="image/png")
            assert store.delete(name, "k") == 2
            assert "Versions" not in s3_client.list_object_versions(Bucket=name)
        finally:
            empty(s3_client, name)

    def test_delete_removes_more_versions_than_a_page(
        self, store: BotoObjectStore, s3_client: S3Client, bucket: str
    ) -> None:
        for number in range(2 * PAGE + 1):
            store.put(bucket, "k", bytes(number), content_type="image/png")
        assert store.delete(bucket, "k") == 2 * PAGE + 1
        assert "Versions" not in s3_client.list_object_versions(Bucket=bucket)


@pytest.mark.stack
class TestPostgresJobRepository(JobRepositoryContract):
    @pytest.fixture
    def repository(self, database_url: str) -> Iterator[PostgresJobRepository]:
        with make_pool(database_url) as pool:
            yield PostgresJobRepository(pool)
