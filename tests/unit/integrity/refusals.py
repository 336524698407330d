"""A deployment whose object store refuses to read or list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from photo_worker.errors import PhotoWorkerError
from photo_worker.ports.object_store import ObjectEntry
from tests.support.healthy_deployment import FOREIGN, Deployment


class Refusing(Deployment):
    """A deployment whose store refuses to read some keys and, if "" is one of them, to list the foreign bucket."""

    def __init__(self, refusal: PhotoWorkerError, keys: set[str]) -> None:
        super().__init__()
        reads, lists = self.store.open, self.store.list

        def open_(bucket: str, key: str, *, version_id: str = "") -> Any:
            if key in keys:
                raise refusal
            return reads(bucket, key, version_id=version_id)

        def list_(bucket: str, prefix: str) -> Iterator[ObjectEntry]:
            if bucket == FOREIGN and "" in keys:
                raise refusal
            return lists(bucket, prefix)

        vars(self.store).update(open=open_, list=list_)
