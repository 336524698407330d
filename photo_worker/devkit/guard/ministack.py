"""`python -m photo_worker.devkit.guard.ministack`: ministack behind the origin rules, with durable puts.

ministack alone responds 200 for an object that it could not write to a full disk, and has lost it after a restart.
Here, such a put fails, and the state before it is restored.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from photo_worker.devkit.guard.asgi import guarded
from photo_worker.devkit.guard.rules import ServiceRules, allowed_hosts

# What ministack's S3 stores in addition to an object's record, by bucket, key and version; None without a version.
_BESIDE = ("_object_tags", "_object_acl", "_object_annotations", "_object_retention", "_object_legal_hold")


class NotStored(Exception):
    """The object {key!r} of the bucket {bucket!r} cannot be written to the disk."""

    def __init__(self, bucket: str, key: str) -> None:
        super().__init__((self.__doc__ or "").format(bucket=bucket, key=key))


def main() -> None:
    """Serve as ``python -m ministack`` does, with the same environment variables."""
    from ministack import app
    from ministack.services import s3

    Storing(s3).put_in_place()
    # The name under which ministack itself looks it up.
    app.app = guarded(app.app, ServiceRules(allowed_hosts(os.environ)))
    app.main()


@dataclass(frozen=True)
class _Before:
    """The state of a key in memory before a new record replaced it."""

    record: dict[str, Any]
    """The new record."""
    prior: dict[str, Any] | None
    body: bytes
    versions: list[dict[str, Any]] | None
    beside: dict[str, Any]


class Storing:
    """Patches ministack's S3 module to raise ``NotStored`` for an object that it cannot write to the disk.

    Its memory is rolled back: otherwise reads would find the object, and a conditional put of it would be refused.
    ministack handles one write at a time: it puts the object into memory, creates a version, and writes to the disk.
    """

    def __init__(self, s3: Any) -> None:
        self._s3 = s3
        self._cut, self._persist = s3._record_object_version, s3._persist_object
        self._last: _Before | None = None

    def put_in_place(self) -> None:
        """Replace the module's functions, under the names by which the module calls them."""
        self._s3._record_object_version = self.cut
        self._s3._persist_object = self.persist

    def cut(
        self, bucket: str, key: str, prior: dict[str, Any] | None, record: dict[str, Any], data: object
    ) -> str | None:
        """Create a version as ministack does, after saving the state before it."""
        s3, versions = self._s3, self._s3._object_versions.get((bucket, key))
        self._last = _Before(
            record=record,
            prior=prior,
            body=b"" if prior is None else s3._read_body(bucket, key, prior),
            versions=None if versions is None else [dict(version) for version in versions],
            beside={name: getattr(s3, name).get((bucket, key, None)) for name in _BESIDE},
        )
        version: str | None = self._cut(bucket, key, prior, record, data)
        return version

    def persist(self, bucket: str, key: str, record: Any) -> None:
        """Write an object to the disk; raises ``NotStored`` if it is not there afterwards.

        ministack keeps the body in memory until it is written, and then drops it.
        """
        before, self._last = self._last, None
        self._persist(bucket, key, record)
        if not isinstance(record, dict) or record.get("body") is None:
            return
        if before is not None and before.record is record:
            self._put_back(bucket, key, before)
        raise NotStored(bucket, key)

    def _put_back(self, bucket: str, key: str, before: _Before) -> None:
        s3, contents, versions = self._s3, self._s3._buckets[bucket], self._s3._object_versions
        for name, value in before.beside.items():
            store = getattr(s3, name)
            store.pop((bucket, key, before.record.get("version_id")), None)
            if value is not None:
                store[bucket, key, None] = value
        versions.pop((bucket, key), None)
        if before.versions is not None:
            versions[bucket, key] = before.versions
        contents["objects"].pop(key)
        if before.prior is not None:
            contents["objects"][key] = before.prior
            # The body may be on the disk while its metadata had no room.
            if s3._read_body(bucket, key, {}) != before.body:
                before.prior["body"] = before.body
        s3._persist_version_state(bucket, key, contents)


if __name__ == "__main__":
    main()
