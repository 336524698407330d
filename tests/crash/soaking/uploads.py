"""The users of a soak: they submit, retry if a service was away, cancel and erase."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from photo_worker.contracts.image import IMAGE_PROCESSING
from photo_worker.errors import JobErased, JobMissing, PhotoWorkerError
from photo_worker.services.erasure import Erasure
from tests.crash.real import documents
from tests.crash.real.environment import World
from tests.crash.soaking.schedule import Upload

_T = TypeVar("_T")

# How long a user retries while a service is away; restarts take seconds.
_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.3
_AT_ONCE = 8


@dataclass
class Users:
    """All users of the product during a soak, and the results of their commands."""

    world: World
    damaged: frozenset[int]
    """The numbers of unreadable documents."""
    accepted: dict[UUID, Upload] = field(default_factory=dict)
    erased: set[UUID] = field(default_factory=set)
    cancelled: set[UUID] = field(default_factory=set)
    refused: set[UUID] = field(default_factory=set)
    """Jobs that were erased before their submission was accepted."""
    problems: list[str] = field(default_factory=list)
    """Unexpected errors of users' commands."""
    submissions: int = 0
    tried_again: int = 0

    def __post_init__(self) -> None:
        world = self.world
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._erasure = Erasure(world.store, world.repository, world.orchestrator, world.bucket)

    async def live(self, upload: Upload, began: float) -> None:
        """Do everything that the schedule has for one upload."""
        await asyncio.sleep(max(0.0, began + upload.at - time.monotonic()))
        path = await asyncio.to_thread(self._file, upload)
        accepted = asyncio.Event()
        doings: list[Awaitable[None]] = [self._submit(upload, path, accepted)]
        if upload.twice:
            doings.append(self._submit(upload, path, accepted))
        if upload.cancel_after is not None:
            doings.append(self._cancel(upload, upload.cancel_after, accepted))
        if upload.erase_after is not None:
            doings.append(self._erase(upload, upload.erase_after, accepted))
        try:
            await asyncio.gather(*doings)
        except PhotoWorkerError as error:
            self.problems.append(f"{upload.job_id}: [{error.code}] {error.message}")

    def _file(self, upload: Upload) -> Path:
        path = self.world.directory / f"upload-{upload.document}.png"
        if not path.exists():
            path.write_bytes(self.body(upload.document))
        return path

    def body(self, document: int) -> bytes:
        """Return a document's bytes; a damaged one is damaged in every upload."""
        text = documents.words_of(document)
        return documents.damaged(text) if document in self.damaged else documents.png_of(text)

    async def _submit(self, upload: Upload, path: Path, accepted: asyncio.Event) -> None:
        try:
            async with self._gate:
                self.submissions += 1
                await self._insist(lambda: self.world.submit(path, upload.job_id))
        except JobErased:
            if upload.erase_after is None:
                raise
            self.refused.add(upload.job_id)
        else:
            self.accepted[upload.job_id] = upload
        finally:
            accepted.set()

    async def _cancel(self, upload: Upload, after: float, accepted: asyncio.Event) -> None:
        await accepted.wait()
        await asyncio.sleep(after)
        try:
            await self._insist(lambda: self.world.orchestrator.cancel(IMAGE_PROCESSING.of(upload.job_id)))
        except JobMissing:
            # It has been erased meanwhile.
            return
        self.cancelled.add(upload.job_id)

    async def _erase(self, upload: Upload, after: float, accepted: asyncio.Event) -> None:
        if not upload.erase_races:
            await accepted.wait()
        await asyncio.sleep(after)
        await self._insist(lambda: self._erasure.erase(upload.job_id))
        self.erased.add(upload.job_id)

    async def _insist(self, act: Callable[[], Awaitable[_T]]) -> _T:
        """Retry ``act`` while a service is away, as the error message says."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return await act()
            except PhotoWorkerError as error:
                if not error.retryable or time.monotonic() > deadline:
                    raise
                self.tried_again += 1
                await asyncio.sleep(_PAUSE_SECONDS)
