"""The contract of every ``JobRepository``. A subclass provides the fixture ``repository``."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from dataclasses import replace
from functools import partial
from threading import Barrier
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photo_worker.errors import JobConflict, JobErased
from photo_worker.ports.job_repository import JobRecord, JobRepository, OcrRecord
from tests.contracts.job_writes import BUCKET, FINAL, KEY, OCR, OTHER_SHA, SHA, STEPS, in_parallel, step


class JobRepositoryContract:
    @pytest.fixture
    def repository(self) -> JobRepository:
        raise NotImplementedError

    @pytest.fixture
    def job_id(self) -> UUID:
        return uuid4()

    def test_get_unknown_job_returns_none(self, repository: JobRepository, job_id: UUID) -> None:
        assert repository.get(job_id) is None

    def test_deployment_id_is_none_until_made(self, repository: JobRepository) -> None:
        assert repository.deployment_id() is None
        made = repository.make_deployment_id()
        assert repository.make_deployment_id() == repository.deployment_id() == made

    def test_make_deployment_id_concurrently_returns_one_id(self, repository: JobRepository) -> None:
        assert len(set(in_parallel([repository.make_deployment_id] * 4))) == 1

    def test_job_goes_from_queued_to_running_to_succeeded(self, repository: JobRepository, job_id: UUID) -> None:
        queued = repository.queue(job_id, bucket=BUCKET, key=KEY)
        assert (queued.id, queued.status, queued.content_sha256) == (job_id, "queued", "")
        assert (queued.s3_raw_bucket, queued.s3_raw_key) == (BUCKET, KEY)
        assert queued.created_at.tzinfo is not None
        assert queued.created_at == queued.updated_at
        running = repository.start(job_id, bucket=BUCKET, key=KEY, sha256="")
        assert (running.status, running.content_sha256) == ("running", "")
        running = repository.start(job_id, bucket=BUCKET, key=KEY, sha256=SHA)
        assert (running.status, running.content_sha256) == ("running", SHA)
        assert running.s3_ocr_key is None
        done = repository.succeed(job_id, bucket=BUCKET, key=KEY, sha256=SHA, ocr=OCR)
        assert (done.status, done.error_code, done.error_message) == ("succeeded", None, None)
        assert (
            OcrRecord(
                done.s3_bucket or "",
                done.s3_ocr_key or "",
                done.s3_manifest_key or "",
                done.ocr_engine or "",
                done.ocr_version or "",
                done.page_count or 0,
            )
            == OCR
        )
        assert done.created_at == queued.created_at
        assert done.updated_at > queued.updated_at
        assert repository.get(job_id) == done

    @pytest.mark.parametrize("name", STEPS)
    def test_write_may_be_the_first_of_a_job(self, repository: JobRepository, job_id: UUID, name: str) -> None:
        row = step(repository, name, job_id)
        assert row.status == {"queue": "queued", "start": "running", "succeed": "succeeded", "fail": "failed"}[name]
        assert repository.get(job_id) == row

    @pytest.mark.parametrize("name", STEPS)
    def test_write_repeated_changes_nothing(self, repository: JobRepository, job_id: UUID, name: str) -> None:
        first = step(repository, name, job_id)
        assert step(repository, name, job_id) == first
        assert step(repository, name, job_id) == first
        assert repository.get(job_id) == first

    def test_fail_again_keeps_the_first_reason(self, repository: JobRepository, job_id: UUID) -> None:
        repository.fail(job_id, bucket=BUCKET, key=KEY, code="object_missing", message="There is no object.")
        row = repository.fail(job_id, bucket=BUCKET, key=KEY, code="job_cancelled", message="The job was cancelled.")
        assert (row.status, row.error_code, row.error_message) == ("failed", "object_missing", "There is no object.")

    @pytest.mark.parametrize("final", ["succeed", "fail"])
    @pytest.mark.parametrize("late", STEPS)
    def test_write_after_final_status_keeps_it(
        self, repository: JobRepository, job_id: UUID, final: str, late: str
    ) -> None:
        before = step(repository, final, job_id)
        after = step(repository, late, job_id)
        assert replace(after, updated_at=before.updated_at, content_sha256=before.content_sha256) == before
        assert repository.get(job_id) == after

    def test_succeed_after_fail_stores_no_ocr_row(self, repository: JobRepository, job_id: UUID) -> None:
        step(repository, "fail", job_id)
        row = step(repository, "succeed", job_id)
        assert (row.status, row.s3_ocr_key, row.page_count) == ("failed", None, None)

    def test_queue_running_job_stays_running(self, repository: JobRepository, job_id: UUID) -> None:
        step(repository, "start", job_id)
        assert step(repository, "queue", job_id).status == "running"

    def test_start_instead_of_replaces_the_hash(self, repository: JobRepository, job_id: UUID) -> None:
        one, other = "1" * 64, "2" * 64
        repository.start(job_id, bucket=BUCKET, key=KEY, sha256=one)
        row = repository.start(job_id, bucket=BUCKET, key=KEY, sha256=other, instead_of=one)
        assert (row.status, row.content_sha256) == ("running", other)
        # Once more, as after a lost response.
        again = repository.start(job_id, bucket=BUCKET, key=KEY, sha256=other, instead_of=one)
        assert again.content_sha256 == other

    @pytest.mark.parametrize("instead_of", ["", "1" * 64])
    def test_start_with_stale_instead_of_raises_job_conflict(
        self, repository: JobRepository, job_id: UUID, instead_of: str
    ) -> None:
        repository.start(job_id, bucket=BUCKET, key=KEY, sha256="2" * 64)
        with pytest.raises(JobConflict):
            repository.start(job_id, bucket=BUCKET, key=KEY, sha256="3" * 64, instead_of=instead_of)
        row = repository.get(job_id)
        assert row is not None
        assert row.content_sha256 == "2" * 64

    def test_start_instead_of_after_fail_raises_job_conflict(self, repository: JobRepository, job_id: UUID) -> None:
        repository.start(job_id, bucket=BUCKET, key=KEY, sha256="1" * 64)
        repository.fail(job_id, bucket=BUCKET, key=KEY, code="c", message="m")
        with pytest.raises(JobConflict):
            repository.start(job_id, bucket=BUCKET, key=KEY, sha256="2" * 64, instead_of="1" * 64)
        row = repository.get(job_id)
        assert row is not None
        assert row.content_sha256 == "1" * 64

    def test_start_instead_of_concurrently_one_wins(self, repository: JobRepository, job_id: UUID) -> None:
        repository.start(job_id, bucket=BUCKET, key=KEY, sha256="f" * 64)

        def move(number: int) -> str:
            try:
                row = repository.start(job_id, bucket=BUCKET, key=KEY, sha256=f"{number}" * 64, instead_of="f" * 64)
            except JobConflict:
                return ""
            return row.content_sha256

        with ThreadPoolExecutor(8) as pool:
            won = [found for found in pool.map(move, range(8)) if found]
        row = repository.get(job_id)
        assert row is not None
        assert won == [row.content_sha256]

    def test_write_without_hash_keeps_the_known_hash(self, repository: JobRepository, job_id: UUID) -> None:
        step(repository, "start", job_id)
        assert step(repository, "start", job_id, sha256="").content_sha256 == SHA
        assert step(repository, "fail", job_id).content_sha256 == SHA

    @pytest.mark.parametrize(
        ("bucket", "key", "sha256"),
        [("elsewhere", KEY, SHA), (BUCKET, "raw/cake.jpg", SHA), (BUCKET, KEY, OTHER_SHA)],
    )
    @pytest.mark.parametrize("name", ["queue", "start", "succeed"])
    def test_write_for_another_asset_raises_job_conflict(
        self, repository: JobRepository, job_id: UUID, name: str, bucket: str, key: str, sha256: str
    ) -> None:
        before = step(repository, "start", job_id)
        writes: dict[str, Callable[..., JobRecord]] = {
            "queue": repository.queue,
            "start": repository.start,
            "succeed": partial(repository.succeed, ocr=OCR),
        }
        with pytest.raises(JobConflict) as caught:
            writes[name](job_id, bucket=bucket, key=key, sha256=sha256)
        assert str(job_id) in str(caught.value)
        assert f"s3://{BUCKET}/{KEY} with sha256 {SHA}" in str(caught.value)
        assert f"s3://{bucket}/{key}" in str(caught.value)
        assert repository.get(job_id) == before

    @pytest.mark.parametrize(("bucket", "key"), [("elsewhere", KEY), (BUCKET, "raw/cake.jpg")])
    def test_fail_for_another_asset_raises_job_conflict(
        self, repository: JobRepository, job_id: UUID, bucket: str, key: str
    ) -> None:
        before = step(repository, "start", job_id)
        with suppress(JobConflict):
            repository.fail(job_id, bucket=bucket, key=key, code="object_missing", message="no")
        assert repository.get(job_id) == before, "one photo's failure is in the row of the other"
        with pytest.raises(JobConflict):
            repository.fail(job_id, bucket=bucket, key=key, code="object_missing", message="no")

    def test_write_fills_in_an_unknown_bucket(self, repository: JobRepository, job_id: UUID) -> None:
        repository.start(job_id, bucket="", key=KEY, sha256=SHA)
        assert step(repository, "start", job_id).s3_raw_bucket == BUCKET
        row = repository.succeed(job_id, bucket="", key=KEY, sha256=SHA, ocr=OCR)
        assert (row.status, row.s3_raw_bucket) == ("succeeded", BUCKET)

    def test_write_leaves_other_jobs_unchanged(self, repository: JobRepository) -> None:
        one, other = uuid4(), uuid4()
        step(repository, "start", one)
        step(repository, "fail", other)
        assert (step(repository, "queue", one).status, step(repository, "queue", other).status) == ("running", "failed")

    @pytest.mark.parametrize("key", ["写真/レシピ 1.jpg", "a'; DROP TABLE recipes; --", "100% %s %(id)s", "../x", ""])
    def test_fail_records_any_key(self, repository: JobRepository, job_id: UUID, key: str) -> None:
        repository.fail(job_id, bucket=BUCKET, key=key, code="key_invalid", message=f"bad {key}")
        row = repository.get(job_id)
        assert row is not None
        assert (row.s3_raw_key, row.error_message) == (key, f"bad {key}")

    @pytest.mark.parametrize("key", ["a\x00b", "a\ud800b"])
    def test_fail_replaces_characters_that_cannot_be_stored(
        self, repository: JobRepository, job_id: UUID, key: str
    ) -> None:
        row = repository.fail(job_id, bucket=BUCKET, key=key, code="key_invalid", message=f"bad {key}")
        assert (row.status, row.s3_raw_key, row.error_message) == ("failed", "a\ufffdb", "bad a\ufffdb")
        assert repository.fail(job_id, bucket=BUCKET, key=key, code="key_invalid", message="again") == row

    def test_start_concurrently_makes_one_row(self, repository: JobRepository, job_id: UUID) -> None:
        rows = in_parallel([lambda: step(repository, "start", job_id)] * 16)
        assert len({(row.id, row.created_at) for row in rows}) == 1
        assert {row.status for row in rows} == {"running"}

    def test_queue_assets_with_one_id_concurrently_one_wins(self, repository: JobRepository, job_id: UUID) -> None:
        barrier = Barrier(16)

        def queue(number: int) -> str:
            barrier.wait(timeout=10)
            try:
                return repository.queue(job_id, bucket=BUCKET, key=f"raw/{number}.jpg").s3_raw_key
            except JobConflict:
                return "refused"

        with ThreadPoolExecutor(16) as pool:
            responses = list(pool.map(queue, range(16)))
        row = repository.get(job_id)
        assert row is not None
        assert sorted(set(responses)) == sorted({"refused", row.s3_raw_key})
        assert responses.count("refused") == 15

    def test_succeed_and_fail_concurrently_leave_one_outcome(self, repository: JobRepository) -> None:
        for _ in range(8):
            job_id = uuid4()
            step(repository, "start", job_id)
            names = ["succeed", "fail", "start", "queue"] * 3
            rows = in_parallel([partial(step, repository, name, job_id) for name in names])
            row = repository.get(job_id)
            assert row is not None
            assert {one.status for one in rows if one.status in FINAL} == {row.status}
            assert (row.status == "succeeded") == (row.s3_ocr_key is not None) == (row.error_code is None)
            assert all(one.s3_ocr_key == row.s3_ocr_key for one in rows if one.status == row.status)

    def test_write_in_any_order_first_final_status_wins(self, repository: JobRepository) -> None:
        ends = {"succeed": "succeeded", "fail": "failed"}
        order = {"queued": 0, "running": 1, "succeeded": 2, "failed": 2}

        @settings(max_examples=40, deadline=None)
        @given(names=st.lists(st.sampled_from(STEPS), min_size=1, max_size=12))
        def decides(names: list[str]) -> None:
            job_id = uuid4()
            seen = [step(repository, name, job_id).status for name in names]
            opened = "running" if "start" in names else "queued"
            assert seen[-1] == next((ends[name] for name in names if name in ends), opened)
            assert [order[status] for status in seen] == sorted(order[status] for status in seen)

        decides()

    def test_all_with_any_page_size_is_ordered_by_id(self, repository: JobRepository) -> None:
        assert list(repository.all()) == []
        ids = [UUID(int=0), UUID(int=(1 << 128) - 1), *(uuid4() for _ in range(11))]
        for number, job_id in enumerate(ids):
            step(repository, STEPS[number % len(STEPS)], job_id)
        rows = [repository.get(job_id) for job_id in sorted(ids)]
        for page in (1, 2, 3, 13, 1000):
            assert list(repository.all(page=page)) == rows

    def test_all_while_rows_change_yields_the_remaining(self, repository: JobRepository) -> None:
        ids = sorted(uuid4() for _ in range(9))
        for job_id in ids[1:]:
            step(repository, "queue", job_id)
        listing = repository.all(page=2)
        seen = [next(listing).id, next(listing).id]
        step(repository, "queue", ids[0])
        repository.delete(ids[2])
        repository.delete(ids[4])
        seen += [row.id for row in listing]
        assert seen == [ids[1], ids[2], ids[3], *ids[5:]]

    def test_earlier_hashes_keeps_replaced_hashes(self, repository: JobRepository, job_id: UUID) -> None:
        hashes = [character * 64 for character in "abc"]
        assert repository.earlier_hashes(job_id) == frozenset()
        for before, after in zip(["", *hashes], hashes, strict=False):
            repository.start(job_id, bucket=BUCKET, key=KEY, sha256="")
            repository.start(job_id, bucket=BUCKET, key=KEY, sha256=after, instead_of=before)
        assert repository.earlier_hashes(job_id) == set(hashes[:2])
        with pytest.raises(JobConflict):
            repository.start(job_id, bucket=BUCKET, key=KEY, sha256="d" * 64, instead_of="e" * 64)
        repository.succeed(job_id, bucket=BUCKET, key=KEY, sha256=hashes[2], ocr=OCR)
        assert repository.earlier_hashes(job_id) == set(hashes[:2])
        assert repository.earlier_hashes(uuid4()) == frozenset()

    @pytest.mark.parametrize("order", [1, -1])
    def test_delete_moves_hashes_to_one_job_of_the_object(
        self, repository: JobRepository, job_id: UUID, order: int
    ) -> None:
        others = [uuid4() for _ in range(3)]
        for other in others[:2]:
            repository.queue(other, bucket=BUCKET, key=KEY)
        repository.queue(others[2], bucket="elsewhere", key=KEY)
        repository.start(job_id, bucket=BUCKET, key=KEY, sha256=SHA)
        repository.start(job_id, bucket=BUCKET, key=KEY, sha256=OTHER_SHA, instead_of=SHA)
        repository.mark_erased(job_id)
        assert repository.delete(job_id)
        known = [repository.earlier_hashes(other) for other in others]
        assert sorted(known, key=len) == [frozenset(), frozenset(), {SHA, OTHER_SHA}]
        assert known[2] == frozenset()
        assert repository.earlier_hashes(job_id) == frozenset()
        for other in others[:2][::order]:
            repository.mark_erased(other)
            assert repository.delete(other)
        assert repository.earlier_hashes(others[2]) == frozenset()

    def test_delete_moves_no_hashes_to_an_erased_job(self, repository: JobRepository, job_id: UUID) -> None:
        other = uuid4()
        repository.start(job_id, bucket=BUCKET, key=KEY, sha256=SHA)
        repository.start(other, bucket=BUCKET, key=KEY, sha256="")
        for one in (job_id, other):
            repository.mark_erased(one)
        repository.delete(job_id)
        assert repository.earlier_hashes(other) == frozenset()

    def test_delete_removes_all_rows_of_the_job(self, repository: JobRepository, job_id: UUID) -> None:
        other = uuid4()
        assert repository.delete(job_id) is False
        step(repository, "succeed", job_id)
        kept = step(repository, "succeed", other)
        assert repository.delete(job_id) is True
        assert repository.delete(job_id) is False
        assert repository.get(job_id) is None
        assert list(repository.all()) == [kept]
        # The job was not marked as erased: a new job may use its id, and starts without a result.
        assert step(repository, "start", job_id).s3_ocr_key is None

    @pytest.mark.parametrize("name", STEPS)
    def test_write_after_erase_creates_no_row(self, repository: JobRepository, job_id: UUID, name: str) -> None:
        step(repository, "start", job_id)
        repository.mark_erased(job_id)
        repository.delete(job_id)
        with suppress(JobErased):
            step(repository, name, job_id)
        assert repository.get(job_id) is None

    @pytest.mark.parametrize("before", [None, *STEPS])
    @pytest.mark.parametrize("name", STEPS)
    def test_write_to_erased_job_raises_job_erased(
        self, repository: JobRepository, job_id: UUID, before: str | None, name: str
    ) -> None:
        if before is not None:
            step(repository, before, job_id)
        known = repository.get(job_id)
        assert repository.is_erased(job_id) is False
        for _ in range(2):
            repository.mark_erased(job_id)
            assert repository.is_erased(job_id) is True
            with pytest.raises(JobErased, match=str(job_id)):
                step(repository, name, job_id)
        assert repository.get(job_id) == known
        assert repository.delete(job_id) is (before is not None)
        with pytest.raises(JobErased):
            step(repository, name, job_id)
        assert repository.get(job_id) is None
        assert step(repository, name, uuid4()).id != job_id

    def test_queue_erased_id_for_another_asset_raises_job_erased(self, repository: JobRepository, job_id: UUID) -> None:
        step(repository, "start", job_id)
        repository.mark_erased(job_id)
        with pytest.raises(JobErased):
            repository.queue(job_id, bucket="elsewhere", key="raw/cake.jpg")

    def test_mark_erased_beside_writes_leaves_no_row(self, repository: JobRepository) -> None:
        """Rows written before the mark are deleted after it, and later writes are refused."""

        def write(job_id: UUID, name: str) -> JobRecord | None:
            try:
                return step(repository, name, job_id)
            except JobErased:
                return None

        def erase(job_id: UUID) -> JobRecord | None:
            repository.mark_erased(job_id)
            repository.delete(job_id)
            return repository.get(job_id)

        for _ in range(12):
            job_id = uuid4()
            in_parallel([partial(write, job_id, name) for name in STEPS * 3] + [partial(erase, job_id)])
            assert repository.get(job_id) is None

    @pytest.mark.parametrize("bucket", [BUCKET, ""])
    def test_sole_user_sees_other_jobs_of_the_object(
        self, repository: JobRepository, job_id: UUID, bucket: str
    ) -> None:
        def sole(where: str = BUCKET, key: str = KEY) -> bool:
            with repository.sole_user(job_id, bucket=where, key=key) as response:
                return response

        assert sole()
        step(repository, "succeed", job_id)
        repository.queue(uuid4(), bucket="elsewhere", key=KEY)
        repository.queue(uuid4(), bucket=BUCKET, key="raw/cake.jpg")
        assert sole()
        other = uuid4()
        repository.fail(other, bucket=bucket, key=KEY, code="job_cancelled", message="The job was cancelled.")
        assert not sole()
        assert sole(key="raw/pie.JPG")
        assert not sole(where="elsewhere")
        repository.delete(other)
        assert sole()

    def test_sole_user_with_hash_ignores_jobs_of_other_bytes(self, repository: JobRepository, job_id: UUID) -> None:
        def sole(sha256: str) -> bool:
            with repository.sole_user(job_id, bucket=BUCKET, key=KEY, sha256=sha256) as response:
                return response

        other = uuid4()
        repository.queue(other, bucket=BUCKET, key=KEY)
        assert (sole("a" * 64), sole("")) == (False, False)
        repository.start(other, bucket=BUCKET, key=KEY, sha256="b" * 64)
        assert (sole("a" * 64), sole("b" * 64), sole("")) == (True, False, False)
        repository.mark_erased(other)
        assert (sole("a" * 64), sole("b" * 64), sole("")) == (True, True, True)

    def test_sole_user_ignores_other_erased_jobs(self, repository: JobRepository) -> None:
        one, other = uuid4(), uuid4()
        for job_id in (one, other):
            step(repository, "start", job_id)
            repository.mark_erased(job_id)
        for job_id in (one, other):
            with repository.sole_user(job_id, bucket=BUCKET, key=KEY) as sole:
                assert sole

    def test_queue_for_locked_object_waits(self, repository: JobRepository, job_id: UUID) -> None:
        with ThreadPoolExecutor(2) as pool:
            with repository.sole_user(job_id, bucket=BUCKET, key=KEY) as sole:
                assert sole
                waiting = pool.submit(step, repository, "queue", uuid4())
                # Other objects are not locked.
                pool.submit(repository.queue, uuid4(), bucket=BUCKET, key="raw/cake.jpg").result(timeout=10)
                with pytest.raises(NotYet):
                    waiting.result(timeout=0.2)
            assert waiting.result(timeout=10).status == "queued"
        with repository.sole_user(job_id, bucket=BUCKET, key=KEY) as sole:
            assert not sole

    def test_write_existing_row_of_locked_object_does_not_wait(self, repository: JobRepository, job_id: UUID) -> None:
        other = uuid4()
        step(repository, "queue", other)
        with ThreadPoolExecutor(1) as pool, repository.sole_user(job_id, bucket=BUCKET, key=KEY) as sole:
            assert not sole
            for name in ("queue", "start", "succeed"):
                assert pool.submit(step, repository, name, other).result(timeout=10).id == other

    def test_sole_user_releases_the_lock_after_an_error(self, repository: JobRepository, job_id: UUID) -> None:
        with pytest.raises(OSError, match="disk full"), repository.sole_user(job_id, bucket=BUCKET, key=KEY):
            raise OSError("disk full")
        assert step(repository, "queue", uuid4()).status == "queued"

    def test_sole_user_concurrently_waits_for_the_other(self, repository: JobRepository, job_id: UUID) -> None:
        def look() -> bool:
            with repository.sole_user(uuid4(), bucket=BUCKET, key=KEY) as sole:
                return sole

        with ThreadPoolExecutor(1) as pool:
            with repository.sole_user(job_id, bucket=BUCKET, key=KEY):
                waiting = pool.submit(look)
                with pytest.raises(NotYet):
                    waiting.result(timeout=0.2)
            assert waiting.result(timeout=10) is True

    def test_describe_is_not_empty(self, repository: JobRepository) -> None:
        assert repository.describe()
