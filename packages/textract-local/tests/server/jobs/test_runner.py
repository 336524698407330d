"""Running jobs: their outcomes, their counts, and their continuation after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from textract_local.errors import DataInUse
from textract_local.server.failures import BAD_DOCUMENT, INTERNAL_ERROR, INVALID_JOB_ID, DiskFails, ServiceError
from textract_local.server.faults import FaultInjector, FaultKind, FaultRule, FaultScript
from textract_local.server.jobs.records import EXPIRY_SECONDS
from textract_local.server.jobs.responses import warning_code
from textract_local.server.jobs.thread import RetryWaits
from textract_support.job_parts import TEXT, Emulated, Objects, Open, until

FAILED = ["JobStatus", "StatusMessage", "DetectDocumentTextModelVersion"]


def script(faults: FaultInjector, *rules: FaultRule) -> None:
    faults.replace(FaultScript(rules=rules))


async def until_read(emulated: Emulated, pages: int) -> None:
    async def are_read() -> bool:
        return [job["PagesDone"] for job in await emulated.jobs.shown()] == [pages]

    await until(are_read)


async def until_kept(directory: Path, documents: int) -> None:
    async def are_kept() -> bool:
        return len(list((directory / "jobs" / "documents").iterdir())) == documents

    await until(are_kept)


@pytest.mark.parametrize("kind", ["unsupported", "gone"])
async def test_job_unreadable_document_fails(emulated: Emulated, objects: Objects, kind: str) -> None:
    sha256 = objects.put(pages=None)
    if kind == "gone":
        objects.failing = [ServiceError(BAD_DOCUMENT, problem="it went away")]
    response = await emulated.ended(await emulated.start())
    assert list(response) == FAILED
    assert response["JobStatus"] == "FAILED"
    assert (
        response["StatusMessage"]
        == {
            "unsupported": "Request has unsupported document format",
            "gone": "it went away",
        }[kind]
    )
    assert emulated.billed(sha256) == 0


async def test_job_unreadable_pages_are_warnings_of_partial_success(emulated: Emulated, objects: Objects) -> None:
    sha256 = objects.put(pages=[2, -1, 1, -1])
    response = await emulated.ended(await emulated.start())
    assert list(response) == [
        *("DocumentMetadata", "JobStatus", "Blocks", "Warnings", "StatusMessage"),
        "DetectDocumentTextModelVersion",
    ]
    assert (response["JobStatus"], response["DocumentMetadata"]) == ("PARTIAL_SUCCESS", {"Pages": 4})
    assert response["StatusMessage"] == "page 2 is damaged"
    assert response["Warnings"] == [{"ErrorCode": "BAD_DOCUMENT", "Pages": [2, 4]}]
    assert [block["Page"] for block in response["Blocks"]] == [1, 1, 3]
    assert emulated.billed(sha256) == 1


async def test_job_without_readable_page_fails(emulated: Emulated, objects: Objects) -> None:
    sha256 = objects.put(pages=[-1, -1])
    response = await emulated.ended(await emulated.start())
    assert (response["JobStatus"], response["StatusMessage"]) == ("FAILED", "page 1 is damaged")
    assert emulated.billed(sha256) == 0


@pytest.mark.parametrize("where", ["pages", "page"])
async def test_job_reader_defect_fails_one_job_and_is_logged(
    emulated: Emulated, objects: Objects, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    objects.put(defect=where)
    objects.put("good.pdf")
    response = await emulated.ended(await emulated.start())
    assert (response["JobStatus"], "ZeroDivisionError" in response["StatusMessage"]) == ("FAILED", True)
    assert "the reader fell over" in caplog.text
    assert (await emulated.ended(await emulated.start(name="good.pdf")))["JobStatus"] == "SUCCEEDED"


async def test_job_s3_outage_is_retried_then_fails(opened: Open, objects: Objects) -> None:
    emulated = await opened(waits=RetryWaits(s3=(0.01, 0.01)))
    objects.put()
    objects.failing = [ServiceError(INTERNAL_ERROR, problem="S3 does not respond")] * 2
    assert (await emulated.ended(await emulated.start()))["JobStatus"] == "SUCCEEDED"
    objects.failing = [ServiceError(INTERNAL_ERROR, problem="S3 does not respond")] * 3
    response = await emulated.ended(await emulated.start())
    assert (response["JobStatus"], response["StatusMessage"]) == ("FAILED", "S3 does not respond")


async def test_job_resumes_from_done_pages_after_restart(opened: Open, objects: Objects) -> None:
    emulated = await opened()
    sha256 = objects.put(pages=[2, 3, 1, 1, 1], free=2)
    emulated.reader.gate.clear()
    job_id = await emulated.start(ClientRequestToken="t")
    await until_read(emulated, 2)
    # A change of the object in the meantime has no effect.
    objects.put(pages=[1])
    again = await opened()
    assert again.reader is not emulated.reader
    response = await again.ended(job_id)
    assert [block["Page"] for block in response["Blocks"]] == [1, 1, 2, 2, 2, 3, 4, 5]
    assert dict(again.reader.read) == {(sha256, number): 1 for number in (3, 4, 5)}
    assert objects.fetched["scan.pdf"] == 1
    assert await again.start(ClientRequestToken="t") == job_id
    assert again.billed(sha256) == 1


async def test_job_restart_with_another_engine_reads_all_pages_again(opened: Open, objects: Objects) -> None:
    emulated = await opened()
    sha256 = objects.put(pages=[2, 3], free=1)
    emulated.reader.gate.clear()
    job_id = await emulated.start()
    await until_read(emulated, 1)
    again = await opened(version="2")
    assert len((await again.ended(job_id))["Blocks"]) == 5
    assert dict(again.reader.read) == {(sha256, 1): 1, (sha256, 2): 1}


async def test_job_finished_deletes_its_document(emulated: Emulated, objects: Objects, tmp_path: Path) -> None:
    objects.put()
    emulated.reader.gate.clear()
    job_id = await emulated.start()
    await until_kept(tmp_path, 1)
    emulated.reader.gate.set()
    await emulated.ended(job_id)
    await until_kept(tmp_path, 0)


@pytest.mark.parametrize("how", ["reset", "age"])
async def test_job_reset_or_expired_stops_and_deletes_document(
    emulated: Emulated, objects: Objects, tmp_path: Path, how: str
) -> None:
    sha256 = objects.put(pages=[1, 1])
    emulated.reader.gate.clear()
    job_id = await emulated.start(ClientRequestToken="t")
    await until_kept(tmp_path, 1)
    if how == "reset":
        await emulated.jobs.reset()
    else:
        await emulated.jobs.age(job_id, EXPIRY_SECONDS)
    with pytest.raises(ServiceError) as raised:
        await emulated.get(job_id)
    assert raised.value.failure is INVALID_JOB_ID
    assert await emulated.jobs.shown() == []
    await until_kept(tmp_path, 0)
    emulated.reader.gate.set()
    again = await emulated.start(ClientRequestToken="t")
    assert again != job_id
    await emulated.ended(again)
    # The first job's pages were never read.
    assert (emulated.reader.read[sha256, 1], emulated.billed(sha256)) == (1, 1)


async def test_job_fails_fault_reads_nothing(emulated: Emulated, objects: Objects) -> None:
    sha256 = objects.put()
    script(emulated.faults, FaultRule(FaultKind.JOB_FAILS, calls=(1,), message="out of paper"))
    response = await emulated.ended(await emulated.start())
    assert list(response) == FAILED
    assert (response["JobStatus"], response["StatusMessage"]) == ("FAILED", "out of paper")
    assert (emulated.billed(sha256), objects.fetched["scan.pdf"]) == (0, 0)
    assert (await emulated.ended(await emulated.start()))["JobStatus"] == "SUCCEEDED"


@pytest.mark.parametrize(("pages", "unread"), [(0, [1, 2, 3]), (1, [2, 3]), (3, []), (9, [])])
async def test_job_partial_fault_leaves_pages_unread(
    emulated: Emulated, objects: Objects, pages: int, unread: list[int]
) -> None:
    objects.put(pages=[2, 1, 1])
    script(emulated.faults, FaultRule(FaultKind.JOB_PARTIAL, pages=pages, message="out of paper"))
    response = await emulated.ended(await emulated.start())
    assert (response["JobStatus"], response["StatusMessage"]) == ("PARTIAL_SUCCESS", "out of paper")
    assert response["DocumentMetadata"] == {"Pages": 3}
    assert sorted({1, 2, 3} - {block["Page"] for block in response["Blocks"]}) == unread
    assert response.get("Warnings", []) == ([{"ErrorCode": "INTERNAL_SERVER_ERROR", "Pages": unread}] if unread else [])


async def test_job_slow_fault_stays_in_progress_over_restart(opened: Open, objects: Objects) -> None:
    emulated = await opened()
    objects.put()
    script(emulated.faults, FaultRule(FaultKind.JOB_SLOW, seconds=3600))
    job_id = await emulated.start()
    await until_read(emulated, 1)
    again = await opened()
    await until_read(again, 1)
    assert (await again.get(job_id))["JobStatus"] == "IN_PROGRESS"
    later = await opened(later=3600)
    assert (await later.ended(job_id))["JobStatus"] == "SUCCEEDED"


async def test_job_slow_fault_does_not_block_other_jobs(emulated: Emulated, objects: Objects) -> None:
    objects.put()
    objects.put("quick.pdf")
    script(emulated.faults, FaultRule(FaultKind.JOB_SLOW, document="scan.pdf", seconds=3600))
    for _ in range(40):
        await emulated.start()
    assert (await emulated.ended(await emulated.start(name="quick.pdf")))["JobStatus"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("BadDocumentException", "BAD_DOCUMENT"),
        ("InternalServerError", "INTERNAL_SERVER_ERROR"),
        ("InvalidS3ObjectException", "INVALID_S3_OBJECT"),
        ("InvalidKMSKeyException", "INVALID_KMS_KEY"),
    ],
)
def test_warning_code_is_upper_snake_case(code: str, shown: str) -> None:
    assert warning_code(code) == shown


async def test_jobs_shown_lists_fields_of_job(emulated: Emulated, objects: Objects) -> None:
    objects.put(pages=[1, 1])
    job_id = await emulated.start(JobTag="tag")
    await emulated.ended(job_id)
    assert await emulated.jobs.shown() == [
        {
            "JobId": job_id,
            "JobStatus": "SUCCEEDED",
            "API": TEXT,
            "JobTag": "tag",
            "Document": "s3://scans/scan.pdf",
            "Pages": 2,
            "PagesDone": 2,
            "NotificationsSent": 0,
        }
    ]


async def test_jobs_close_after_data_in_use_leaves_owner_running(
    emulated: Emulated, objects: Objects, tmp_path: Path
) -> None:
    second = Emulated(tmp_path, objects)
    with pytest.raises(DataInUse):
        await second.jobs.open()
    await second.jobs.close()
    second.spool.close()
    objects.put()
    assert (await emulated.ended(await emulated.start()))["JobStatus"] == "SUCCEEDED"


async def test_job_disk_full_resumes_without_loss_when_space_is_free(
    opened: Open, objects: Objects, caplog: pytest.LogCaptureFixture
) -> None:
    emulated = await opened(waits=RetryWaits(first_disk=0.01))
    sha256 = objects.put(pages=[2000, 2000, 2000])
    emulated.reader.gate.clear()
    job_id = await emulated.start()
    await until_kept(emulated.jobs._directory.parent, 1)
    store = emulated.jobs._store

    async def allow(pages: int) -> None:
        await store.do(lambda store: store._connected.execute(f"PRAGMA max_page_count = {pages}").fetchall())

    # SQLite does not go below the current size, and is then out of space.
    await allow(1)
    emulated.reader.gate.set()

    async def is_refused() -> bool:
        return "The emulator cannot write its files: database or disk is full" in caplog.text

    await until(is_refused)
    with pytest.raises(
        ServiceError, match="InternalServerError: The emulator cannot write its files: database or disk"
    ):
        await emulated.start(JobTag="x" * 40_000)
    assert (await emulated.get(job_id))["JobStatus"] == "IN_PROGRESS"
    await allow(1_000_000)
    response = await emulated.ended(job_id)
    assert (response["JobStatus"], response["DocumentMetadata"]) == ("SUCCEEDED", {"Pages": 3})
    assert {emulated.reader.read[sha256, number] for number in (1, 2, 3)} == {1}
    assert emulated.billed(sha256) == 1
    assert (await emulated.ended(await emulated.start()))["JobStatus"] == "SUCCEEDED"


async def test_job_page_disk_error_is_retried(opened: Open, objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    emulated = await opened(waits=RetryWaits(first_disk=0.01))
    objects.put(pages=[2, 2])
    failing = [DiskFails("No space left on device") for _ in range(5)]
    page = emulated.reader.page

    async def page_or_not(*given: Any, **named: Any) -> Any:
        if failing:
            raise failing.pop()
        return await page(*given, **named)

    monkeypatch.setattr(emulated.reader, "page", page_or_not)
    assert (await emulated.ended(await emulated.start()))["JobStatus"] == "SUCCEEDED"
    assert not failing
