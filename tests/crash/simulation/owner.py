"""The owner of an object that jobs read in place."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.crash.simulation.world import World


class Owner:
    """The owner of an object that jobs read in place, who may overwrite it at any time."""

    def __init__(self, world: World, bucket: str) -> None:
        self._world, self._bucket = world, bucket
        self.key = ""
        self.others: tuple[bytes, ...] = ()
        """The contents that replace the object, in turn."""
        self.writings: Counter[str] = Counter()
        """The number of writes of each content, by its hash."""

    def write(self, key: str, body: bytes, content_type: str = "image/png") -> None:
        """Write the object. Without versioning, the store distinguishes writes by the second."""
        self._world.now += timedelta(seconds=1)
        self.key = key
        self.writings[hashlib.sha256(body).hexdigest()] += 1
        self._world.store.put(self._bucket, key, body, content_type=content_type)

    def replace(self) -> None:
        """Overwrite the object with the next content, if it exists."""
        if not self.key or not any(self._world.store.list(self._bucket, self.key)):
            return
        about = self._world.store.head(self._bucket, self.key)
        found = self._world.store.get(self._bucket, self.key, limit_bytes=1 << 30)
        at = self.others.index(found)
        self.write(self.key, self.others[(at + 1) % len(self.others)], about.content_type)
