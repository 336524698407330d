"""The adapter keeps the port's contract on every server, except as listed in the table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from photo_worker.adapters.s3.object_store import BotoObjectStore
from tests.contracts.object_store import PAGE, ObjectStoreContract
from tests.contracts.s3.case import Endpoint, delete_bucket, new_bucket
from tests.s3.conftest import Servers


class TestObjectStore(ObjectStoreContract):
    @pytest.fixture
    def store(self, server: Endpoint, servers: Servers) -> BotoObjectStore:
        return BotoObjectStore(servers.client(server), page=PAGE)

    @pytest.fixture
    def bucket(self, server: Endpoint) -> Iterator[str]:
        name = new_bucket(server.s3())
        yield name
        delete_bucket(server.s3(), name)

    @pytest.fixture
    def keeping(self, store: BotoObjectStore, server: Endpoint, bucket: str) -> tuple[BotoObjectStore, str]:
        server.s3().put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        return store, bucket
