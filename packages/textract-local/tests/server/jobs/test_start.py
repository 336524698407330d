"""Start: new jobs, jobs found by their token, and refused calls."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from textract_local.server.failures import (
    IDEMPOTENT_PARAMETER_MISMATCH,
    INVALID_S3_OBJECT,
    LIMIT_EXCEEDED,
    ErrorResponse,
    ServiceError,
)
from textract_local.server.faults import JobFault
from textract_local.server.jobs.records import EXPIRY_SECONDS
from textract_support.job_parts import ANALYSIS, TEXT, Emulated, Objects, Open, start_input, until


async def refused(emulated: Emulated, failure: ErrorResponse, operation: str = TEXT, /, **members: Any) -> None:
    with pytest.raises(ServiceError) as raised:
        await emulated.start(operation, **members)
    assert raised.value.failure is failure


async def test_start_without_token_returns_new_64_digit_hex_id(emulated: Emulated, objects: Objects) -> None:
    objects.put()
    ids = [await emulated.start() for _ in range(3)]
    assert len(set(ids)) == 3
    assert all(re.fullmatch("[0-9a-f]{64}", job_id) for job_id in ids)


async def test_start_missing_object_begins_no_job(emulated: Emulated, objects: Objects) -> None:
    await refused(emulated, INVALID_S3_OBJECT, ClientRequestToken="t")
    assert await emulated.jobs.shown() == []
    objects.put()
    # The token is still free.
    assert (await emulated.ended(await emulated.start(ClientRequestToken="t")))["JobStatus"] == "SUCCEEDED"


async def test_start_known_token_returns_job_if_object_is_gone(emulated: Emulated, objects: Objects) -> None:
    sha256 = objects.put()
    job_id = await emulated.start(ClientRequestToken="t")
    await emulated.ended(job_id)
    objects.content.clear()
    assert await emulated.start(ClientRequestToken="t") == job_id
    assert (emulated.billed(sha256), objects.fetched["scan.pdf"]) == (1, 1)


OTHER_INPUTS: dict[str, dict[str, Any]] = {
    "object": {"name": "other.pdf"},
    "tag": {"JobTag": "b"},
    "no-tag": {},
    "prefix": {"JobTag": "a", "OutputConfig": {"S3Bucket": "scans", "S3Prefix": "x"}},
    "key": {"JobTag": "a", "KMSKeyId": "alias/key"},
    "channel": {
        "JobTag": "a",
        "NotificationChannel": {
            "SNSTopicArn": "arn:aws:sns:us-east-1:000000000000:done",
            "RoleArn": "arn:aws:iam::000000000000:role/r",
        },
    },
}


@pytest.mark.parametrize("other", OTHER_INPUTS.values(), ids=OTHER_INPUTS)
async def test_start_known_token_with_other_input_is_refused(
    emulated: Emulated, objects: Objects, other: dict[str, Any]
) -> None:
    objects.put()
    objects.put("other.pdf")
    job_id = await emulated.start(JobTag="a", ClientRequestToken="t")
    await refused(emulated, IDEMPOTENT_PARAMETER_MISMATCH, **other, ClientRequestToken="t")
    assert await emulated.start(JobTag="a", ClientRequestToken="t") == job_id


@pytest.mark.parametrize(
    "changed",
    [
        {"FeatureTypes": ["TABLES"]},
        {"QueriesConfig": {"Queries": [{"Text": "Who?"}]}},
        {"QueriesConfig": {"Queries": [{"Text": "When?", "Alias": "a"}]}},
    ],
)
async def test_start_known_token_with_other_features_is_refused(
    emulated: Emulated, objects: Objects, changed: dict[str, Any]
) -> None:
    objects.put()
    asked = {"FeatureTypes": ["QUERIES"], "QueriesConfig": {"Queries": [{"Text": "When?"}]}}
    job_id = await emulated.start(ANALYSIS, **asked, ClientRequestToken="t")
    await refused(emulated, IDEMPOTENT_PARAMETER_MISMATCH, ANALYSIS, **{**asked, **changed}, ClientRequestToken="t")
    assert await emulated.start(ANALYSIS, **asked, ClientRequestToken="t") == job_id


async def test_start_known_token_ignores_order_of_members(emulated: Emulated, objects: Objects) -> None:
    objects.put()
    there = {**start_input(), "JobTag": "a", "ClientRequestToken": "t"}
    back = dict(reversed(list(there.items())))
    first = await emulated.jobs.start(TEXT, there, emulated.counters)
    assert await emulated.jobs.start(TEXT, back, emulated.counters) == first


async def test_start_tokens_are_separate_per_operation(emulated: Emulated, objects: Objects) -> None:
    objects.put()
    text = await emulated.start(ClientRequestToken="t")
    analysis = await emulated.start(ANALYSIS, FeatureTypes=["TABLES"], ClientRequestToken="t")
    assert text != analysis
    assert (await emulated.ended(analysis, ANALYSIS))["JobStatus"] == "SUCCEEDED"


async def test_start_cancelled_before_save_still_runs_job(
    emulated: Emulated, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.put()
    for_job = emulated.faults.for_job

    def goes_away(operation: str, document_name: str) -> JobFault | None:
        # This is called right before the job is saved.
        caller.cancel()
        return for_job(operation, document_name)

    monkeypatch.setattr(emulated.faults, "for_job", goes_away)
    caller = asyncio.create_task(emulated.start(ClientRequestToken="t"))
    with pytest.raises(asyncio.CancelledError):
        await caller

    async def has_ended() -> bool:
        return [job["JobStatus"] for job in await emulated.jobs.shown()] == ["SUCCEEDED"]

    await until(has_ended)


async def test_start_16_concurrent_with_one_token_are_one_job(emulated: Emulated, objects: Objects) -> None:
    sha256 = objects.put()
    ids = await asyncio.gather(*(emulated.start(ClientRequestToken="t") for _ in range(16)))
    assert len(set(ids)) == 1
    await emulated.ended(ids[0])
    assert len(await emulated.jobs.shown()) == 1
    assert emulated.billed(sha256) == 1
    assert (objects.checked["scan.pdf"], objects.fetched["scan.pdf"], emulated.reader.read[sha256, 1]) == (1, 1, 1)


async def test_start_16_concurrent_with_two_inputs_one_wins(emulated: Emulated, objects: Objects) -> None:
    objects.put()
    starts = (emulated.start(ClientRequestToken="t", JobTag=f"tag-{number % 2}") for number in range(16))
    outcomes = await asyncio.gather(*starts, return_exceptions=True)
    won = [outcome for outcome in outcomes if isinstance(outcome, str)]
    lost = [outcome.failure for outcome in outcomes if isinstance(outcome, ServiceError)]
    assert (len(won), len(set(won)), lost) == (8, 1, [IDEMPOTENT_PARAMETER_MISMATCH] * 8)


async def test_start_token_of_expired_job_begins_new_job(emulated: Emulated, objects: Objects) -> None:
    objects.put()
    first = await emulated.start(ClientRequestToken="t")
    emulated.clock.now += EXPIRY_SECONDS - 1
    assert await emulated.start(ClientRequestToken="t") == first
    emulated.clock.now += 1
    second = await emulated.start(ClientRequestToken="t", JobTag="another")
    assert second != first
    assert (await emulated.ended(second))["JobStatus"] == "SUCCEEDED"


async def test_start_over_quota_of_open_jobs_is_refused(opened: Open, objects: Objects) -> None:
    emulated = await opened(most_open=2)
    objects.put()
    emulated.reader.gate.clear()
    ids = [await emulated.start(ClientRequestToken="t"), await emulated.start()]
    looked_at = objects.checked["scan.pdf"]
    await refused(emulated, LIMIT_EXCEEDED)
    assert objects.checked["scan.pdf"] == looked_at
    # A known token starts no job, so that the quota does not apply.
    assert await emulated.start(ClientRequestToken="t") == ids[0]
    emulated.reader.gate.set()
    await emulated.ended(ids[0])
    await emulated.ended(ids[1])
    await emulated.start()


async def test_start_quota_holds_for_concurrent_starts(opened: Open, objects: Objects) -> None:
    emulated = await opened(most_open=3)
    objects.put()
    emulated.reader.gate.clear()
    outcomes = await asyncio.gather(*(emulated.start() for _ in range(12)), return_exceptions=True)
    assert len([outcome for outcome in outcomes if isinstance(outcome, str)]) == 3
    emulated.reader.gate.set()


async def test_start_cancelled_at_any_step_leaves_no_stuck_job(emulated: Emulated, objects: Objects) -> None:
    objects.put()
    for steps in range(1, 30):
        starting = asyncio.create_task(emulated.start(ClientRequestToken=f"t{steps}"))
        for _ in range(steps):
            await asyncio.sleep(0.0005)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        job_id = await emulated.start(ClientRequestToken=f"t{steps}")
        assert (await emulated.ended(job_id))["JobStatus"] == "SUCCEEDED"
