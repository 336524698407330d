"""An erasure's order, its completion after any crash, and what it keeps for other jobs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from photo_worker.cli.erase import describe_traces
from photo_worker.contracts.image import (
    ImageProcessingInput,
    ImageProcessingResult,
)
from photo_worker.contracts.keys import converted_key, manifest_key, ocr_key
from photo_worker.contracts.references import WorkflowType
from photo_worker.crash_points import CrashPoint, Phase, armed
from photo_worker.errors import JobErased, JobMissing, ObjectForbidden, TemporalUnavailable
from photo_worker.ports.job_repository import OcrRecord
from photo_worker.ports.object_store import ObjectEntry
from photo_worker.services.binding import bind
from photo_worker.services.erasure import Erasure, ErasureStep, Part
from photo_worker.sources import Source
from tests.unit.erasures import BODY, BUCKET, COPY, POINTS, RAW, SHA, World, left


@pytest.fixture
def world() -> World:
    return World()


async def test_erase_deletes_rows_last(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = await world.finished()
    world.observe(monkeypatch)
    heard: list[ErasureStep] = []
    steps = await world.erasure.erase(job_id, on_step=heard.append)
    assert steps == heard
    assert [step.part for step in steps] == list(Part)
    assert left(steps) == {}
    assert world.calls == [
        "mark",
        "erase workflow",
        f"delete object {ocr_key(job_id)}",
        f"delete object {manifest_key(job_id)}",
        f"delete object tags/{job_id}/tags.json",
        f"delete object {COPY}",
        f"delete object {RAW}",
        "delete rows",
    ]
    assert world.listing() == []
    assert world.is_gone(job_id)
    assert world.repository.is_erased(job_id)


async def test_erase_leaves_other_jobs(world: World) -> None:
    job_id, other = await world.finished(), await world.finished(key="raw/" + "b" * 64)
    row, keys = world.repository.get(other), [key for key in world.listing() if str(other) in key]
    await world.erasure.erase(job_id)
    assert world.repository.get(other) == row
    assert world.listing() == [*keys[:2], "raw/" + "b" * 64, *keys[2:]]
    assert str(other) in world.workflows.states


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("point", POINTS)
async def test_erase_after_crash_is_completed_by_next_call(world: World, point: CrashPoint, phase: Phase) -> None:
    job_id = await world.finished()

    class Died(BaseException):
        pass

    def die(at: CrashPoint, when: Phase) -> None:
        if (at, when) == (point, phase):
            raise Died

    with armed(die), pytest.raises(Died):
        await world.erasure.erase(job_id)
    if (point, phase) != (CrashPoint.ERASURE_MARKED, Phase.BEFORE):
        # Whatever is left, no process can bring the job back meanwhile.
        with pytest.raises(JobErased):
            world.repository.start(job_id, bucket=BUCKET, key=RAW, sha256=SHA)
    await world.erasure.erase(job_id)
    assert world.is_gone(job_id)
    assert world.listing() == []


@pytest.mark.parametrize("point", POINTS)
async def test_erase_passes_each_crash_point(world: World, point: CrashPoint) -> None:
    passed: list[tuple[CrashPoint, Phase]] = []
    with armed(lambda at, when: passed.append((at, when))):
        await world.erasure.erase(await world.finished())
    assert (point, Phase.BEFORE) in passed
    assert (point, Phase.AFTER) in passed
    assert {at for at, _ in passed} == set(POINTS)


async def test_erase_when_temporal_is_away_deletes_nothing(world: World) -> None:
    job_id = await world.finished()
    keys = world.listing()
    world.workflows.away = True
    with pytest.raises(TemporalUnavailable):
        await world.erasure.erase(job_id)
    assert world.listing() == keys
    assert world.repository.is_erased(job_id)
    world.workflows.away = False
    await world.erasure.erase(job_id)
    assert world.is_gone(job_id)


async def test_erase_deletes_objects_stored_before_workflow_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its activity is not retried, so no other attempt finds the mark and deletes the object."""
    job_id = await world.finished()
    stop = world.workflows.erase

    async def store_and_die(job_id: UUID) -> bool:
        world.store.put(BUCKET, ocr_key(job_id), BODY, content_type="application/json")
        return await stop(job_id)

    monkeypatch.setattr(world.workflows, "erase", store_and_die)
    await world.erasure.erase(job_id)
    assert world.listing() == []


async def test_erase_with_concurrent_attempt_leaves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attempt stores the manifest right after its deletion, and deletes it again when it finds the mark."""
    job_id = await world.finished()
    delete, late = world.store.delete, [job_id]

    def behind_it(bucket: str, key: str) -> int:
        deleted = delete(bucket, key)
        if key == manifest_key(job_id) and late:
            with contextlib.suppress(JobErased):
                world.persist_again(late.pop())
        return deleted

    monkeypatch.setattr(world.store, "delete", behind_it)
    await world.erasure.erase(job_id)
    assert late == []
    assert world.listing() == []
    assert world.is_gone(job_id)


async def test_erase_shared_photo_is_deleted_with_last_job(world: World) -> None:
    one, other = await world.finished(), await world.finished()
    assert (await world.erasure.traces(one)).shared
    said = left(await world.erasure.erase(one))
    assert RAW in world.listing(), "the other job's photo is gone"
    assert list(said) == [Part.PHOTO]
    assert not (await world.erasure.traces(other)).shared
    assert left(await world.erasure.erase(other)) == {}
    assert world.listing() == []


async def test_erase_shared_copy_is_deleted_with_last_job(world: World) -> None:
    one, other = await world.finished(), await world.finished()
    world.store.put(BUCKET, COPY, b"copy", content_type="image/jpeg")
    assert (await world.erasure.traces(one)).copies == ((BUCKET, COPY),)
    said = left(await world.erasure.erase(one))
    assert COPY in world.listing(), "the copy that the other job reads is gone"
    assert list(said) == [Part.COPY, Part.PHOTO]
    assert f"s3://{BUCKET}/{COPY} is read by other jobs too" in said[Part.COPY]
    assert left(await world.erasure.erase(other)) == {}
    assert world.listing() == []


async def test_erase_copy_of_user_photo_is_deleted_at_once(world: World) -> None:
    job_id = await world.finished(bucket="somebodys", key="pie.heic")
    copy = converted_key("somebodys", "pie.heic", SHA)
    world.store.put(BUCKET, copy, b"copy", content_type="image/jpeg")
    # A job of the object's current bytes; those of the erased job are different.
    world.repository.start(uuid4(), bucket="somebodys", key="pie.heic", sha256="c" * 64)
    said = left(await world.erasure.erase(job_id))
    assert world.listing() == []
    assert world.listing("somebodys") == ["pie.heic"]
    assert list(said) == [Part.PHOTO]


@pytest.mark.parametrize("older", [False, True], ids=["kept", "older than the record"])
@pytest.mark.parametrize("shared", [False, True])
async def test_erase_deletes_copies_of_replaced_bytes(
    world: World, monkeypatch: pytest.MonkeyPatch, shared: bool, older: bool
) -> None:
    """An attempt that died after storing its copy leaves it, and the next attempt finds other bytes."""
    job_id = await world.finished(bucket="somebodys", key="pie.heic", before="d" * 64)
    if older:
        monkeypatch.setattr(world.repository, "earlier_hashes", lambda job_id: frozenset({""}))
    copies = [converted_key("somebodys", "pie.heic", sha256) for sha256 in (SHA, "d" * 64)]
    elsewhere = converted_key("somebodys", "cake.heic", "d" * 64)
    for copy in (*copies, elsewhere):
        world.store.put(BUCKET, copy, b"copy", content_type="image/jpeg")
    if shared:
        world.repository.start(uuid4(), bucket="somebodys", key="pie.heic", sha256="d" * 64)
    shown = (await world.erasure.traces(job_id)).copies
    said = left(await world.erasure.erase(job_id))
    kept = copies[1:] if shared else []
    assert sorted(world.listing()) == sorted([elsewhere, *kept])
    assert sorted(shown) == sorted((BUCKET, copy) for copy in copies if copy not in kept)
    assert list(said) == [Part.PHOTO]


async def test_erase_lists_no_copies_of_other_photos(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a million photos of other jobs, each erasure would send a thousand requests."""
    job_id = await world.finished(bucket="somebodys", key="pie.heic", before="d" * 64)
    left = [converted_key("somebodys", "pie.heic", sha256) for sha256 in (SHA, "d" * 64)]
    others = [converted_key("somebodys", f"{number}.heic", f"{number:064x}") for number in range(5000)]
    for copy in left + others:
        world.store.put(BUCKET, copy, b"copy", content_type="image/jpeg")
    listed: list[str] = []
    listing = world.store.list

    def noted(bucket: str, prefix: str) -> Iterator[ObjectEntry]:
        for entry in listing(bucket, prefix):
            listed.append(entry.key)
            yield entry

    monkeypatch.setattr(world.store, "list", noted)
    assert sorted(key for _, key in (await world.erasure.traces(job_id)).copies) == sorted(left)
    await world.erasure.erase(job_id)
    assert all(str(job_id) in key for key in listed), f"{len(listed)} keys were listed"
    monkeypatch.undo()
    assert sorted(world.listing()) == sorted(others)


async def test_erase_keeps_copy_that_queued_job_may_read(world: World) -> None:
    """The queued job may have the same bytes; it then finds others, and nothing names the copy."""
    job_id = await world.finished(bucket="somebodys", key="pie.heic", before="d" * 64)
    copies = [converted_key("somebodys", "pie.heic", sha256) for sha256 in (SHA, "d" * 64)]
    for copy in copies:
        world.store.put(BUCKET, copy, b"copy", content_type="image/jpeg")
    waiting = uuid4()
    world.repository.queue(waiting, bucket="somebodys", key="pie.heic")
    await world.erasure.erase(job_id)
    assert sorted(world.listing()) == sorted(copies)
    world.repository.start(waiting, bucket="somebodys", key="pie.heic", sha256="e" * 64)
    await world.erasure.erase(waiting)
    assert world.listing() == []


async def test_erase_keeps_copy_of_job_without_hash(world: World) -> None:
    job_id = await world.finished(bucket="somebodys", key="pie.heic")
    copy = converted_key("somebodys", "pie.heic", SHA)
    world.store.put(BUCKET, copy, b"copy", content_type="image/jpeg")
    world.repository.queue(uuid4(), bucket="somebodys", key="pie.heic")
    assert Part.COPY in left(await world.erasure.erase(job_id))
    assert copy in world.listing()


async def test_erase_without_row_finds_copy_in_manifest(world: World) -> None:
    job_id = await world.finished()
    world.store.put(BUCKET, COPY, b"copy", content_type="image/jpeg")
    world.repository.delete(job_id)
    await world.erasure.erase(job_id)
    assert world.listing() == []


@pytest.mark.parametrize(
    ("bucket", "key"),
    [("somebodys", "pie.png"), ("somebodys", RAW), (BUCKET, "inbox/pie.png"), (BUCKET, "raw/pie.png")],
)
async def test_erase_user_photo_requires_with_source(world: World, bucket: str, key: str) -> None:
    job_id = await world.finished(bucket=bucket, key=key)
    said = left(await world.erasure.erase(job_id))
    assert world.listing(bucket) == [key], "the owner's photo is gone"
    assert world.is_gone(job_id)
    assert "--with-source" in said[Part.PHOTO]
    again = await world.finished(bucket=bucket, key=key)
    assert left(await world.erasure.erase(again, with_source=True)) == {}
    assert world.listing(bucket) == []


async def test_erase_with_forbidden_source_keeps_rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = await world.finished(bucket="somebodys", key="pie.png")
    delete = world.store.delete

    def refused(bucket: str, key: str) -> int:
        if bucket == "somebodys":
            raise ObjectForbidden(bucket=bucket, key=key)
        return delete(bucket, key)

    monkeypatch.setattr(world.store, "delete", refused)
    with pytest.raises(ObjectForbidden):
        await world.erasure.erase(job_id, with_source=True)
    assert world.repository.get(job_id) is not None
    assert list(left(await world.erasure.erase(job_id))) == [Part.PHOTO]
    assert world.is_gone(job_id)


async def test_erase_without_row_finds_photo_in_manifest(world: World) -> None:
    job_id = await world.finished()
    world.repository.delete(job_id)
    await world.erasure.erase(job_id)
    assert world.listing() == []


async def test_erase_deletes_objects_in_former_bucket(world: World) -> None:
    job_id = await world.finished()
    world.store.ensure_bucket("the-next-bucket")
    bind(world.store, world.repository, "the-next-bucket")
    moved = Erasure(world.store, world.repository, world.workflows, "the-next-bucket")
    assert (await moved.traces(job_id)).uploaded
    assert left(await moved.erase(job_id)) == {}
    assert world.listing() == []
    assert world.is_gone(job_id)


async def test_erase_when_former_bucket_is_missing_completes(world: World) -> None:
    job_id = await world.finished(bucket="somebodys", key="pie.png")
    ocr = OcrRecord("a-former-bucket", ocr_key(job_id), manifest_key(job_id), "recorded", "1", 1)
    world.repository.succeed(job_id, bucket="somebodys", key="pie.png", sha256=SHA, ocr=ocr)
    await world.erasure.erase(job_id)
    assert world.is_gone(job_id)


async def test_erase_ambiguous_object_key_is_reported_and_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = await world.finished()
    odd = f"artifacts/{job_id}/../pie.png"
    listed = world.store.list

    def listing(bucket: str, prefix: str) -> Iterator[ObjectEntry]:
        yield from listed(bucket, prefix)
        if odd.startswith(prefix):
            yield ObjectEntry(bucket, odd, 1, datetime.now(UTC))

    monkeypatch.setattr(world.store, "list", listing)
    steps = await world.erasure.erase(job_id)
    assert odd in left(steps)[Part.OBJECTS]
    monkeypatch.undo()
    assert world.listing() == []


async def test_erase_twice_concurrently_completes(world: World) -> None:
    job_id, other = await world.finished(), await world.finished()
    await asyncio.gather(*(world.erasure.erase(one) for one in (job_id, other, job_id, other)))
    assert world.is_gone(job_id)
    assert world.is_gone(other)
    assert world.listing() == []


@pytest.mark.parametrize("body", [b"", b"no json", b"{}", b"[1]"])
async def test_erase_with_invalid_manifest_completes(world: World, body: bytes) -> None:
    job_id = uuid4()
    world.store.put(BUCKET, manifest_key(job_id), body, content_type="application/json")
    await world.erasure.erase(job_id)
    assert world.listing() == []


@pytest.mark.parametrize("key", ["../x", "a\nb"])
async def test_erase_job_with_invalid_key_completes(world: World, key: str) -> None:
    job_id = uuid4()
    world.repository.fail(job_id, bucket="no-such-bucket", key=key, code="key_invalid", message="no")
    for with_source in (False, True):
        await world.erasure.erase(job_id, with_source=with_source)
    assert world.is_gone(job_id)


async def test_traces_change_nothing(world: World) -> None:
    job_id = await world.finished()
    keys, row = world.listing(), world.repository.get(job_id)
    traces = await world.erasure.traces(job_id)
    assert (traces.known, traces.gone, traces.marked, traces.shared, traces.uploaded) == (
        True,
        False,
        False,
        False,
        True,
    )
    assert traces.photo == (BUCKET, RAW)
    assert len(traces.objects) == 3
    assert (world.listing(), world.repository.get(job_id)) == (keys, row)
    assert not world.repository.is_erased(job_id)
    await world.erasure.erase(job_id)
    after = await world.erasure.traces(job_id)
    assert (after.known, after.gone) == (True, True)
    assert not (await world.erasure.traces(uuid4())).known


async def test_job_service_erased_id_is_refused(world: World, tmp_path: Path) -> None:
    job_id = await world.finished()
    await world.erasure.erase(job_id)
    photo = tmp_path / "pie.png"
    photo.write_bytes(BODY)
    with pytest.raises(JobErased):
        await world.service.submit(Source("pie", path=photo), job_id=job_id)
    with pytest.raises(JobErased):
        world.service.report(job_id)
    with pytest.raises(JobErased):
        await world.service.wait(job_id)
    assert world.is_gone(job_id)
    assert world.listing() == []
    unknown = uuid4()
    with pytest.raises(JobMissing):
        world.service.report(unknown)
    with pytest.raises(JobMissing):
        await world.service.wait(unknown)


async def test_report_of_marked_job_is_refused(world: World) -> None:
    job_id = await world.finished()
    world.repository.mark_erased(job_id)
    with pytest.raises(JobErased):
        world.service.report(job_id)


async def test_erase_deletes_workflows_of_every_type(world: World) -> None:
    job_id, other = await world.finished(), await world.finished()
    kind = WorkflowType("later_workflow", ImageProcessingInput, ImageProcessingResult, suffix="later")
    for each in (job_id, other):
        request = ImageProcessingInput(job_id=str(each), bucket=BUCKET, key=RAW)
        await world.workflows.start(kind.of(each), request)
    traces = await world.erasure.traces(job_id)
    assert [one.workflow_id for one in traces.others] == [f"{job_id}/later"]
    assert f"workflow  {job_id}/later running, with its history" in describe_traces(traces, with_source=False)
    await world.erasure.erase(job_id)
    assert (await world.erasure.traces(job_id)).gone
    assert await world.workflows.workflows_of(job_id) == []
    assert len(await world.workflows.workflows_of(other)) == 2
    # Started by what did not know of the erasure.
    await world.workflows.start(kind.of(job_id), ImageProcessingInput(job_id=str(job_id), bucket=BUCKET, key=RAW))
    assert not (await world.erasure.traces(job_id)).gone
