"""The adapters of the real services keep the contracts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from photo_worker.storage.postgres import PostgresRecipeRepository, make_pool
from photo_worker.storage.s3_boto import BotoObjectStore
from tests.contracts.object_store import ObjectStoreContract
from tests.contracts.recipe_repository import RecipeRepositoryContract

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.mark.stack
class TestBotoObjectStore(ObjectStoreContract):
    @pytest.fixture
    def store(self, s3_client: S3Client) -> BotoObjectStore:
        return BotoObjectStore(s3_client)

    @pytest.fixture
    def bucket(self, bucket: str) -> str:
        return bucket


@pytest.mark.stack
class TestPostgresRecipeRepository(RecipeRepositoryContract):
    @pytest.fixture
    def repository(self, database_url: str) -> Iterator[PostgresRecipeRepository]:
        with make_pool(database_url) as pool:
            yield PostgresRecipeRepository(pool)
