"""`python -m photo_worker.devkit.guard.ministack`: ministack, with the rules in front of its application.

By itself, it answers 200 for an object that it could not write to a full disk, and has forgotten it when it starts
again. Here, such a put fails.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from photo_worker.devkit.guard.asgi import guarded
from photo_worker.devkit.guard.rules import Rules, allowed_hosts

Persist = Callable[[str, str, Any], None]


class NotStored(Exception):
    """The object {key!r} of the bucket {bucket!r} cannot be written to the disk."""

    def __init__(self, bucket: str, key: str) -> None:
        super().__init__((self.__doc__ or "").format(bucket=bucket, key=key))


def main() -> None:
    """Serve as ``python -m ministack`` does, by the same variables."""
    from ministack import app
    from ministack.services import s3

    # Both are the names by which ministack itself finds them.
    s3._persist_object = storing(s3._persist_object)
    app.app = guarded(app.app, Rules(allowed_hosts(os.environ)))
    app.main()


def storing(persist: Persist) -> Persist:
    """Return what writes an object to the disk as ``persist`` does, and raises ``NotStored`` where it is not there.

    ministack keeps the body in memory until it is written, and drops it then.
    """

    def store(bucket: str, key: str, record: Any) -> None:
        persist(bucket, key, record)
        if isinstance(record, dict) and record.get("body") is not None:
            raise NotStored(bucket, key)

    return store


if __name__ == "__main__":
    main()
