"""The contracts of the ports, with the in-memory adapters."""

from __future__ import annotations

import pytest

from photo_worker.adapters.memory.job_repository import MemoryJobRepository
from photo_worker.adapters.memory.object_store import MemoryObjectStore
from tests.contracts.job_repository import JobRepositoryContract
from tests.contracts.object_store import PAGE, ObjectStoreContract


class TestMemoryObjectStore(ObjectStoreContract):
    @pytest.fixture
    def store(self) -> MemoryObjectStore:
        return MemoryObjectStore(page=PAGE)

    @pytest.fixture
    def keeping(self) -> tuple[MemoryObjectStore, str]:
        store = MemoryObjectStore(versions=True)
        store.ensure_bucket("photos")
        return store, "photos"


class TestMemoryJobRepository(JobRepositoryContract):
    @pytest.fixture
    def repository(self) -> MemoryJobRepository:
        return MemoryJobRepository()
