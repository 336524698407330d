"""Readiness checks of the worker's bucket, by its permissions, and of its OCR backend."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from photo_worker import readiness
from photo_worker.activities.boundary import to_application_error
from photo_worker.adapters.memory.job_repository import MemoryJobRepository
from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.bootstrap import Application, BackendRegistry
from photo_worker.config import Settings
from photo_worker.contracts.image import CONFIGURED_ENGINE
from photo_worker.errors import (
    BucketForbidden,
    ConfigurationError,
    EngineUnavailable,
    ListingForbidden,
    ObjectForbidden,
    ObjectMissing,
    PhotoWorkerError,
    WorkerBucketForbidden,
)
from photo_worker.pipelines import artifact_folders
from photo_worker.ports.object_store import DocumentRef, ObjectEntry, ObjectInfo
from photo_worker.services.binding import bind

BUCKET = "recipes"
DATABASE = "postgresql://nowhere/recipes"
FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"


class Permitting(MemoryObjectStore):
    """A store that refuses like S3: without s3:ListBucket also a missing object ("HeadObject", permissions)."""

    def __init__(self) -> None:
        super().__init__()
        self.permissions = {"s3:GetObject", "s3:ListBucket", "s3:PutObject"}
        self.refused_prefix = ""
        self.lists_by_prefix = False
        """s3:ListBucket has a condition on the prefix, which requests for one object do not have."""
        self.requests: list[str] = []

    def head(self, bucket: str, key: str, *, version_id: str = "") -> ObjectInfo:
        with self._permitted("head", bucket, key):
            return super().head(bucket, key, version_id=version_id)

    def get(self, bucket: str, key: str, *, limit_bytes: int, version_id: str = "") -> bytes:
        with self._permitted("get", bucket, key):
            return super().get(bucket, key, limit_bytes=limit_bytes, version_id=version_id)

    def replace(self, bucket: str, key: str, body: bytes, **named: Any) -> bool:
        self.requests.append(f"replace {key}")
        missing = {"s3:PutObject", "s3:ListBucket"} - self.permissions
        if missing or self.lists_by_prefix or (self.refused_prefix and key.startswith(self.refused_prefix)):
            raise ObjectForbidden(bucket=bucket, key=key)
        return super().replace(bucket, key, body, **named)

    @contextmanager
    def _permitted(self, request: str, bucket: str, key: str) -> Iterator[None]:
        self.requests.append(f"{request} {key}")
        if "s3:GetObject" not in self.permissions:
            raise ObjectForbidden(bucket=bucket, key=key)
        try:
            yield
        except ObjectMissing as error:
            if "s3:ListBucket" in self.permissions and not self.lists_by_prefix:
                raise
            raise ObjectForbidden(bucket=bucket, key=key) from error

    def list(self, bucket: str, prefix: str) -> Iterator[ObjectEntry]:
        self.requests.append(f"list {prefix}")
        if "s3:ListBucket" not in self.permissions:
            raise BucketForbidden(bucket=bucket)
        return super().list(bucket, prefix)


def store_of(*permissions: str, bound: bool) -> tuple[Permitting, Application]:
    store, repository = Permitting(), MemoryJobRepository()
    store.ensure_bucket(BUCKET)
    if bound:
        bind(store, repository, BUCKET)
    store.permissions = set(permissions)
    return store, Application(Settings(s3_bucket=BUCKET), store, repository)


def test_bucket_check_without_list_permission_names_it() -> None:
    store, application = store_of("s3:GetObject", bound=False)
    look = readiness._bucket(application)
    with pytest.raises(ListingForbidden) as caught:
        look()
    assert "s3:ListBucket" in caught.value.hint
    store.permissions |= {"s3:ListBucket", "s3:PutObject"}
    look()


def test_bucket_check_without_get_permission_names_it() -> None:
    store, application = store_of(bound=False)
    look = readiness._bucket(application)
    with pytest.raises(ListingForbidden):
        look()
    store.permissions.add("s3:ListBucket")
    with pytest.raises(ObjectForbidden) as caught:
        look()
    assert "s3:GetObject" in caught.value.hint
    store.permissions |= {"s3:GetObject", "s3:PutObject"}
    look()


def test_bucket_check_when_bound_needs_no_list_permission() -> None:
    _, application = store_of("s3:GetObject", bound=True)
    readiness._bucket(application)()


@pytest.mark.parametrize("bound", [True, False], ids=["bound", "never bound"])
def test_bucket_check_sends_three_requests_and_writes_nothing(bound: bool) -> None:
    store, application = store_of("s3:GetObject", "s3:ListBucket", "s3:PutObject", bound=bound)
    there = list(MemoryObjectStore.list(store, BUCKET, ""))
    store.requests.clear()
    readiness._bucket(application)()
    assert len(store.requests) == 3, store.requests
    assert list(MemoryObjectStore.list(store, BUCKET, "")) == there


@pytest.mark.parametrize("prefix", [*artifact_folders(), "converted/"])
def test_bucket_check_without_put_permission_names_it(prefix: str) -> None:
    store, application = store_of("s3:GetObject", "s3:ListBucket", "s3:PutObject", bound=True)
    store.refused_prefix = prefix
    with pytest.raises(WorkerBucketForbidden, match=prefix) as caught:
        readiness._bucket(application)()
    assert "s3:PutObject" in caught.value.hint
    assert not to_application_error(caught.value).non_retryable


def test_bucket_check_ambiguous_refusal_passes() -> None:
    store, application = store_of("s3:GetObject", "s3:ListBucket", "s3:PutObject", bound=True)
    store.lists_by_prefix = True
    assert list(store.list(BUCKET, "")), "it may list"
    readiness._bucket(application)()


def engine_check(settings: Settings) -> None:
    """Run the OCR backend's check of a worker with these settings."""
    _, application = store_of("s3:GetObject", bound=True)
    readiness.readiness_checks(replace(application, settings=settings))[-1]()


def test_engine_check_unknown_backend_lists_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"OCR_ENGINE: .*'textrct'.*local, recorded, textract") as caught:
        engine_check(Settings(ocr_engine="textrct", database_url=DATABASE))
    assert not to_application_error(caught.value).non_retryable


@pytest.mark.parametrize("content", [None, b"version https://git-lfs.github.com/spec/v1\n"], ids=["empty", "pointers"])
def test_engine_check_without_usable_recording_fails(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / f"{'0a' * 32}.json").write_bytes(content)
        (tmp_path / "notes.json").write_bytes(b"{}")
    settings = Settings(ocr_engine="recorded", ocr_recorded_dir=tmp_path, database_url=DATABASE)
    with pytest.raises(ConfigurationError, match="OCR_RECORDED_DIR") as caught:
        engine_check(settings)
    assert str(tmp_path) in caught.value.message
    shutil.copytree(FIXTURES / "recorded", tmp_path, dirs_exist_ok=True)
    engine_check(settings)


def test_engine_check_without_local_engine_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ocrust.py").write_text('raise ImportError("No module named ocrust")\n')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(EngineUnavailable, match="ocrust"):
        engine_check(Settings(ocr_engine="local", database_url=DATABASE))


def test_backend_registry_lost_recordings_are_retryable(tmp_path: Path) -> None:
    directory = tmp_path / "recorded"
    shutil.copytree(FIXTURES / "recorded", directory)
    backends = BackendRegistry(Settings(ocr_engine="recorded", ocr_recorded_dir=directory), MemoryObjectStore())
    backends.require_usable()
    shutil.rmtree(directory)
    document = DocumentRef("photos", "pie.jpg", "image/jpeg", 1, next((FIXTURES / "recorded").glob("*.json")).stem)
    with pytest.raises(PhotoWorkerError, match="OCR_RECORDED_DIR") as caught:
        backends(CONFIGURED_ENGINE).detect_text(document)
    assert caught.value.passes


def test_backend_registry_unknown_backend_is_retryable() -> None:
    backends = BackendRegistry(Settings(), MemoryObjectStore())
    with pytest.raises(PhotoWorkerError, match=r"'theirs', which the job names; it has local, recorded") as caught:
        backends("theirs")
    assert caught.value.passes
    assert not to_application_error(caught.value).non_retryable
