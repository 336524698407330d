"""What a worker says of its bucket, by the permissions that it has there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from photo_worker import readiness
from photo_worker.bootstrap import Application
from photo_worker.config import Settings
from photo_worker.errors import BucketForbidden, ListingForbidden, ObjectForbidden, ObjectMissing
from photo_worker.integrity.binding import bind
from photo_worker.ports import ObjectEntry, ObjectInfo
from photo_worker.storage.memory import MemoryObjectStore, MemoryRecipeRepository

BUCKET = "recipes"


class Permitting(MemoryObjectStore):
    """A store that refuses as S3 does: without s3:ListBucket also what is not there ("HeadObject", permissions)."""

    def __init__(self) -> None:
        super().__init__()
        self.permissions = {"s3:GetObject", "s3:ListBucket"}

    def head(self, bucket: str, key: str, *, version_id: str = "") -> ObjectInfo:
        if "s3:GetObject" not in self.permissions:
            raise ObjectForbidden(bucket=bucket, key=key)
        try:
            return super().head(bucket, key, version_id=version_id)
        except ObjectMissing as error:
            if "s3:ListBucket" in self.permissions:
                raise
            raise ObjectForbidden(bucket=bucket, key=key) from error

    def list(self, bucket: str, prefix: str) -> Iterator[ObjectEntry]:
        if "s3:ListBucket" not in self.permissions:
            raise BucketForbidden(bucket=bucket)
        return super().list(bucket, prefix)


def store_of(*permissions: str, bound: bool) -> tuple[Permitting, Application]:
    store, repository = Permitting(), MemoryRecipeRepository()
    store.ensure_bucket(BUCKET)
    if bound:
        bind(store, repository, BUCKET)
    store.permissions = set(permissions)
    return store, Application(Settings(s3_bucket=BUCKET), store, repository, lambda: None)


def test_a_worker_that_may_not_list_an_unbound_bucket_names_the_permission_that_it_lacks() -> None:
    store, application = store_of("s3:GetObject", bound=False)
    look = readiness._bucket(application)
    with pytest.raises(ListingForbidden) as caught:
        look()
    assert "s3:ListBucket" in caught.value.hint
    store.permissions.add("s3:ListBucket")
    look()


def test_a_worker_that_may_not_read_says_so_once_it_may_list() -> None:
    store, application = store_of(bound=False)
    look = readiness._bucket(application)
    with pytest.raises(ListingForbidden):
        look()
    store.permissions.add("s3:ListBucket")
    with pytest.raises(ObjectForbidden) as caught:
        look()
    assert "s3:GetObject" in caught.value.hint
    store.permissions.add("s3:GetObject")
    look()


def test_a_bound_bucket_needs_no_listing() -> None:
    _, application = store_of("s3:GetObject", bound=True)
    readiness._bucket(application)()
