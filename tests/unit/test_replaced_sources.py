"""An object that its owner replaces while jobs read it: hash and text in a row are of the same bytes."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from photo_worker.adapters.memory.job_repository import MemoryJobRepository
from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.adapters.ocr.local import LocalBackend
from photo_worker.contracts.keys import raw_key
from photo_worker.errors import ObjectMissing, SourceReplaced, UnreadableDocument, UploadDamaged
from photo_worker.ports.object_store import DocumentRef
from photo_worker.services.jobs import JobService
from photo_worker.sources import Source
from tests.crash.simulation.textract import blocks_of
from tests.support import replaced_sources
from tests.support.replaced_sources import BUCKET, FIRST, KEY, SECOND, Place, text_of


def sound(body: bytes) -> tuple[str, str]:
    return hashlib.sha256(body).hexdigest(), text_of(body)


class Counting(MemoryObjectStore):
    """A store that lists all versions that it has created."""

    @property
    def versions(self) -> list[tuple[str, str, str]]:
        return list(self._versions or {})


@pytest.fixture
def place() -> Place:
    return Place(MemoryJobRepository())


def test_replaced_source_new_job_gets_new_text(place: Place) -> None:
    one, other = uuid4(), uuid4()
    place.process(one)
    place.write(SECOND)
    place.process(other)
    assert (place.outcome(one), place.outcome(other)) == (sound(FIRST), sound(SECOND))


def test_replaced_source_before_ocr_is_read_again(place: Place) -> None:
    job_id = uuid4()
    located = place.verify(job_id)
    place.before_start.append(lambda: place.write(SECOND))
    place.carry(job_id, located)
    assert place.outcome(job_id) == sound(SECOND)


def test_replaced_source_before_ocr_stores_nothing(place: Place) -> None:
    job_id = uuid4()
    located = place.verify(job_id)
    place.before_start.append(lambda: place.write(SECOND))
    with pytest.raises(SourceReplaced):
        place.read(job_id, located)
    assert [entry.key for entry in place.store.list(BUCKET, "artifacts/")] == []


def test_replaced_source_ignores_stored_response_of_old_bytes(place: Place) -> None:
    job_id = uuid4()
    # The worker dies after storing the response; meanwhile the photo is replaced.
    place.read(job_id, place.verify(job_id))
    place.write(SECOND)
    place.process(job_id)
    assert place.outcome(job_id) == sound(SECOND)


def test_replaced_source_refused_by_textract_raises_replaced(place: Place) -> None:
    job_id = uuid4()
    located = place.verify(job_id)

    class Refusing:
        engine = "textract"

        def detect_text(self, document: DocumentRef) -> object:
            place.write(SECOND)
            raise UnreadableDocument(name=document.key, reason="it is the other one that is damaged")

    place.backend = Refusing()  # type: ignore[assignment]
    with pytest.raises(SourceReplaced):
        place.read(job_id, located)


def test_replaced_source_restored_does_not_inherit_text(place: Place) -> None:
    job_id, later = uuid4(), uuid4()
    located = place.verify(job_id)
    place.before_start.append(lambda: place.write(SECOND))
    with pytest.raises(SourceReplaced):
        place.read(job_id, located)
    place.write(FIRST)
    place.process(later)
    place.process(job_id)
    assert (place.outcome(later), place.outcome(job_id)) == (sound(FIRST), sound(FIRST))


def test_replaced_source_before_ocr_starts_no_textract_job(place: Place) -> None:
    job_id = uuid4()
    located = place.verify(job_id)
    place.write(SECOND)
    with pytest.raises(SourceReplaced):
        place.read(job_id, located)
    assert place.textract.started == 0


def test_replaced_source_with_versions_reads_verified_version() -> None:
    place, job_id = Place(MemoryJobRepository(), versions=True), uuid4()
    place.before_start.append(lambda: place.write(SECOND))
    place.process(job_id)
    assert place.outcome(job_id) == sound(FIRST)


@pytest.mark.parametrize("versions", [False, True])
def test_replaced_source_deleted_is_looked_up_again(versions: bool) -> None:
    place, job_id = Place(MemoryJobRepository(), versions=versions), uuid4()
    located = place.verify(job_id)
    place.before_start.append(lambda: place.store.delete(BUCKET, KEY))
    with pytest.raises(SourceReplaced):
        place.read(job_id, located)
    with pytest.raises(ObjectMissing):
        place.verify(job_id)


def test_replaced_source_late_attempt_keeps_current_response(place: Place) -> None:
    job_id = uuid4()
    located = place.verify(job_id)
    response = place.backend.detect_text

    class Late:
        engine = "textract"

        def detect_text(self, document: DocumentRef) -> object:
            found = response(document)
            place.backend = backend
            return found

    backend, late = place.backend, Late()
    steps = place.store.put_new

    def overtaken(*args: object, **named: object) -> bool:
        # After the last check of the object, and before the response is stored.
        setattr(place.store, "put_new", steps)  # noqa: B010
        place.write(SECOND)
        place.process(job_id)
        return bool(steps(*args, **named))  # type: ignore[arg-type]

    place.backend = late  # type: ignore[assignment]
    setattr(place.store, "put_new", overtaken)  # noqa: B010
    with suppress(SourceReplaced):
        place.read(job_id, located)
    assert place.outcome(job_id) == sound(SECOND)


class Lines:
    """A reader that returns the simulated Textract's text."""

    version = "1.0"

    def read(self, content: bytes, name: str) -> dict[str, Any]:
        return {"DocumentMetadata": {"Pages": 1}, "Blocks": blocks_of(content)}


def test_replaced_source_local_engine_reads_verified_bytes(place: Place) -> None:
    job_id, reader = uuid4(), Lines()
    local = LocalBackend(place.store, reader)  # type: ignore[arg-type]
    place.backend = local
    # Runs of earlier releases, and copies, have no revision.
    located = place.verify(job_id).model_copy(update={"etag": None, "modified_at": None})
    place.write(SECOND)
    place.carry(job_id, located)
    assert place.outcome(job_id) == sound(SECOND)


async def test_submit_again_rewrites_upload_only_if_damaged(tmp_path: Path) -> None:
    store = Counting(versions=True)
    store.ensure_bucket(BUCKET)
    service = JobService(store, MemoryJobRepository(), None, BUCKET)
    path = tmp_path / "photo.png"
    path.write_bytes(FIRST)
    key = raw_key(hashlib.sha256(FIRST).hexdigest(), ".png")
    for _ in range(3):
        with pytest.raises(RuntimeError, match="orchestrator"):
            await service.submit(Source("photo", path=path))
    assert len(store.versions) == 1
    store.put(BUCKET, key, FIRST[:-1], content_type="image/png")
    with pytest.raises(RuntimeError, match="orchestrator"):
        await service.submit(Source("photo", path=path))
    assert store.get(BUCKET, key, limit_bytes=1000) == FIRST


def test_upload_with_other_bytes_is_not_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id, sha256 = uuid4(), hashlib.sha256(FIRST).hexdigest()
    key = raw_key(sha256, ".png")
    place.rows.queue(job_id, bucket=BUCKET, key=key, sha256=sha256)
    place.store.put(BUCKET, key, SECOND, content_type="image/png")
    monkeypatch.setattr(replaced_sources, "KEY", key)
    said = ""
    try:
        place.process(job_id)
    except UploadDamaged as error:
        said = error.code
    row = place.rows.get(job_id)
    assert row is not None
    assert (row.status, [entry.key for entry in place.store.list(BUCKET, "artifacts/")]) == ("running", [])
    assert said == UploadDamaged.code
