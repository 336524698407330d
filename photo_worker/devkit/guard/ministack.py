"""`python -m photo_worker.devkit.guard.ministack`: ministack, with the rules in front of its application.

By itself, it answers 200 for an object that it could not write to a full disk, and has forgotten it when it starts
again. Here, such a put fails, and what was there before it is there again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from photo_worker.devkit.guard.asgi import guarded
from photo_worker.devkit.guard.rules import OriginRules, allowed_hosts

# What ministack's S3 keeps beside an object's record, by the bucket, the key and the version: None without one.
_BESIDE = ("_object_tags", "_object_acl", "_object_annotations", "_object_retention", "_object_legal_hold")


class NotStored(Exception):
    """The object {key!r} of the bucket {bucket!r} cannot be written to the disk."""

    def __init__(self, bucket: str, key: str) -> None:
        super().__init__((self.__doc__ or "").format(bucket=bucket, key=key))


def main() -> None:
    """Serve as ``python -m ministack`` does, by the same variables."""
    from ministack import app
    from ministack.services import s3

    Storing(s3).put_in_place()
    # The name by which ministack itself finds it.
    app.app = guarded(app.app, OriginRules(allowed_hosts(os.environ)))
    app.main()


@dataclass(frozen=True)
class _Before:
    """What the memory had of a key when a record took its place."""

    record: dict[str, Any]
    """The one that took it."""
    prior: dict[str, Any] | None
    body: bytes
    versions: list[dict[str, Any]] | None
    beside: dict[str, Any]


class Storing:
    """Has ministack's S3, a module, raise ``NotStored`` for an object that it cannot write to the disk.

    Its memory is as it was before then: left there, the object would be found, and a conditional put of it refused.
    ministack works on one write at a time, and each is put into the memory, cut as a version, and then written.
    """

    def __init__(self, s3: Any) -> None:
        self._s3 = s3
        self._cut, self._persist = s3._record_object_version, s3._persist_object
        self._last: _Before | None = None

    def put_in_place(self) -> None:
        """Replace the functions of the module by the names by which it finds them itself."""
        self._s3._record_object_version = self.cut
        self._s3._persist_object = self.persist

    def cut(
        self, bucket: str, key: str, prior: dict[str, Any] | None, record: dict[str, Any], data: object
    ) -> str | None:
        """Cut a version as ministack does, after noting what there was before it."""
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
        """Write an object to the disk; raises ``NotStored`` where it is not there.

        ministack keeps the body in memory until it is written, and drops it then.
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
            # The body may be there, and only what belongs to it have had no room.
            if s3._read_body(bucket, key, {}) != before.body:
                before.prior["body"] = before.body
        s3._persist_version_state(bucket, key, contents)


if __name__ == "__main__":
    main()
