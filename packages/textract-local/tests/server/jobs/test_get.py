"""Get: its responses, their order and paging, and the calls that it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as given_that
from hypothesis import strategies as st

from textract_local.server.failures import INVALID_JOB_ID, INVALID_PARAMETER, ErrorResponse, ServiceError
from textract_local.server.jobs.records import EXPIRY_SECONDS
from textract_support.job_parts import ANALYSIS, TEXT, Emulated, Objects, Open


async def refused(
    emulated: Emulated, failure: ErrorResponse, job_id: str, operation: str = TEXT, /, **more: Any
) -> None:
    with pytest.raises(ServiceError) as raised:
        await emulated.get(job_id, operation, **more)
    assert raised.value.failure is failure


async def read_all(emulated: Emulated, job_id: str, most: int | None = None) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    more: dict[str, Any] = {} if most is None else {"MaxResults": most}
    while True:
        response = await emulated.get(job_id, **more)
        blocks += response["Blocks"]
        if "NextToken" not in response:
            return blocks
        more["NextToken"] = response["NextToken"]


@pytest.mark.parametrize(
    ("operation", "members", "version"),
    [
        (TEXT, {}, "DetectDocumentTextModelVersion"),
        (ANALYSIS, {"FeatureTypes": ["TABLES"]}, "AnalyzeDocumentModelVersion"),
    ],
)
async def test_get_in_progress_has_no_blocks_until_done(
    emulated: Emulated, objects: Objects, operation: str, members: dict[str, Any], version: str
) -> None:
    objects.put(pages=[2, 1])
    emulated.reader.gate.clear()
    job_id = await emulated.start(operation, **members)
    for _ in range(2):
        assert await emulated.get(job_id, operation) == {"JobStatus": "IN_PROGRESS", version: "1.0"}
    emulated.reader.gate.set()
    response = await emulated.ended(job_id, operation)
    assert list(response) == ["DocumentMetadata", "JobStatus", "Blocks", version]
    assert response == {
        "DocumentMetadata": {"Pages": 2},
        "JobStatus": "SUCCEEDED",
        "Blocks": [
            {"BlockType": "PAGE", "Id": "1-0", "Page": 1},
            {"BlockType": "WORD", "Id": "1-1", "Page": 1},
            {"BlockType": "PAGE", "Id": "2-0", "Page": 2},
        ],
        version: "1.0",
    }
    assert all(list(block)[-1] == "Page" for block in response["Blocks"])
    assert [asked and asked.features for asked in emulated.reader.asked] == [
        frozenset(members["FeatureTypes"]) if members else None
    ] * 2
    # Get can be repeated.
    assert await emulated.get(job_id, operation) == response


async def test_get_max_results_is_capped_at_1000_blocks(emulated: Emulated, objects: Objects) -> None:
    objects.put(pages=[600, 0, 700, 701])
    job_id = await emulated.start()
    response = await emulated.ended(job_id)
    assert list(response) == ["DocumentMetadata", "JobStatus", "NextToken", "Blocks", "DetectDocumentTextModelVersion"]
    assert len(response["Blocks"]) == 1000
    assert await emulated.get(job_id, MaxResults=2000) == response
    blocks = await read_all(emulated, job_id)
    assert [block["Id"] for block in blocks] == [
        f"{number}-{index}" for number, count in ((1, 600), (3, 700), (4, 701)) for index in range(count)
    ]


async def test_get_exactly_1000_blocks_has_no_next_token(emulated: Emulated, objects: Objects) -> None:
    objects.put(pages=[1000])
    assert "NextToken" not in await emulated.ended(await emulated.start())


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given_that(st.lists(st.integers(min_value=1, max_value=12), min_size=1, max_size=6), st.integers(1, 15))
async def test_get_any_max_results_returns_same_blocks(
    emulated: Emulated, objects: Objects, counts: list[int], most: int
) -> None:
    objects.put(pages=counts)
    job_id = await emulated.start()
    whole = (await emulated.ended(job_id))["Blocks"]
    assert len(whole) == sum(counts)
    assert await read_all(emulated, job_id, most) == whole


async def test_get_next_token_is_reusable_also_after_restart(opened: Open, objects: Objects) -> None:
    emulated = await opened()
    objects.put(pages=[10])
    job_id = await emulated.start()
    await emulated.ended(job_id)
    token = (await emulated.get(job_id, MaxResults=4))["NextToken"]
    expected = [f"1-{index}" for index in range(4, 10)]
    for _ in range(2):
        for _ in range(2):
            response = await emulated.get(job_id, NextToken=token)
            assert [block["Id"] for block in response["Blocks"]] == expected
            some = await emulated.get(job_id, NextToken=token, MaxResults=1)
            assert [block["Id"] for block in some["Blocks"]] == expected[:1]
        emulated = await opened()


async def test_get_foreign_or_invented_token_is_refused(emulated: Emulated, objects: Objects) -> None:
    objects.put(pages=[10])
    first, second = await emulated.start(), await emulated.start()
    await emulated.ended(first)
    await emulated.ended(second)
    token = (await emulated.get(first, MaxResults=4))["NextToken"]
    await refused(emulated, INVALID_PARAMETER, second, NextToken=token)
    await refused(emulated, INVALID_PARAMETER, first, NextToken="1")


async def test_get_unknown_or_other_operations_job_is_refused(emulated: Emulated, objects: Objects) -> None:
    objects.put()
    text, analysis = await emulated.start(), await emulated.start(ANALYSIS, FeatureTypes=["TABLES"])
    await refused(emulated, INVALID_JOB_ID, "ab" * 32)
    await refused(emulated, INVALID_JOB_ID, text, ANALYSIS)
    await refused(emulated, INVALID_JOB_ID, analysis, TEXT)


async def test_get_expires_7_days_after_start(emulated: Emulated, objects: Objects) -> None:
    objects.put()
    job_id = await emulated.start()
    await emulated.ended(job_id)
    emulated.clock.now += EXPIRY_SECONDS - 1
    await emulated.get(job_id)
    emulated.clock.now += 1
    await refused(emulated, INVALID_JOB_ID, job_id)


async def test_age_one_job_expires_only_that_job(emulated: Emulated, objects: Objects) -> None:
    objects.put()
    old, young = await emulated.start(), await emulated.start()
    await emulated.ended(old)
    await emulated.ended(young)
    assert await emulated.jobs.age(old, EXPIRY_SECONDS - 1) == 1
    await emulated.get(old)
    assert await emulated.jobs.age(old, 1) == 1
    await refused(emulated, INVALID_JOB_ID, old)
    await emulated.get(young)
    assert await emulated.jobs.age(None, EXPIRY_SECONDS) == 1
    assert await emulated.jobs.age(young, 1) == 0
    assert await emulated.jobs.shown() == []
