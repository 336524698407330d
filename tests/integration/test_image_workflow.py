"""The image workflow on the real stack, with each of its outcomes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
from temporalio import workflow
from temporalio.api.common.v1 import Payload, WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

from photo_worker import policies
from photo_worker.adapters.ocr.recorded import RecordedBackend
from photo_worker.contracts.image import IMAGE_PROCESSING, ImageProcessingInput, ImageProcessingResult
from photo_worker.errors import JobCancelled, JobFailed, OcrUnavailable, SourceReplaced
from photo_worker.ports.job_repository import JobRecord
from photo_worker.ports.object_store import DocumentRef
from photo_worker.ports.ocr import DetectedText
from photo_worker.sources import Source
from photo_worker.workflows.image import LIFETIME, ImageProcessingWorkflow
from temporal_replay_gate.record import replay_problem
from tests.replay.product import product_code
from tests.support.harness import FIXTURES, Harness, eventually, open_harness, waiting_for
from tests.support.proxy import proxy_to

pytestmark = pytest.mark.stack

GOOD = {"job_id": str(uuid4()), "bucket": "some-bucket", "key": "some-key"}


def a_photo() -> Source:
    path = sorted((FIXTURES / "photos").glob("*.png"))[0]
    return Source(label=path.name, path=path)


@pytest.fixture
async def running(harness: Harness) -> AsyncIterator[Harness]:
    async with harness.worker():
        yield harness


async def row(harness: Harness, job_id: UUID) -> JobRecord:
    found = await asyncio.to_thread(harness.application.repository.get, job_id)
    assert found is not None
    return found


async def status_of(harness: Harness, job_id: UUID) -> str:
    found = await asyncio.to_thread(harness.application.repository.get, job_id)
    return "" if found is None else found.status


class TestSuccess:
    async def test_workflow_success_stores_row_and_objects(self, running: Harness) -> None:
        submission = await running.service.submit(a_photo(), engine="recorded")
        report = await running.service.wait(submission.job_id)
        recipe = report.record
        assert (recipe.status, recipe.error_code, recipe.ocr_engine) == ("succeeded", None, "recorded")
        assert recipe.s3_ocr_key == f"artifacts/{submission.job_id}/textract.json"
        assert report.words is not None
        assert report.words > 10
        store, bucket = running.application.store, running.settings.s3_bucket
        manifest = json.loads(store.get(bucket, f"artifacts/{submission.job_id}/manifest.json", limit_bytes=10_000))
        assert manifest["sha256"] == recipe.content_sha256
        assert manifest["s3_raw_key"] == recipe.s3_raw_key

    async def test_workflow_result_is_small(self, running: Harness) -> None:
        submission = await running.service.submit(a_photo(), engine="recorded")
        handle = running.client.get_workflow_handle(str(submission.job_id), result_type=ImageProcessingResult)
        result = await handle.result()
        assert result.job_id == str(submission.job_id)
        assert result.status == "succeeded"
        assert result.page_count == 1

    async def test_workflow_history_contains_no_document_text(self, running: Harness) -> None:
        submission = await running.service.submit(a_photo(), engine="recorded")
        report = await running.service.wait(submission.job_id)
        history = await running.client.get_workflow_handle(str(submission.job_id)).fetch_history()
        text = history.to_json()
        assert len(text) < 40_000
        longest = max(report.lines, key=len)
        assert longest not in text

    async def test_workflow_same_job_id_runs_once(self, running: Harness) -> None:
        job_id = uuid4()
        submissions = await asyncio.gather(
            *(running.service.submit(a_photo(), job_id=job_id, engine="recorded") for _ in range(8))
        )
        assert sum(not submission.joined for submission in submissions) == 1
        first = await running.service.wait(job_id)
        again = await running.service.submit(a_photo(), job_id=job_id, engine="recorded")
        assert again.joined
        assert (await running.service.wait(job_id)).record == first.record
        runs = [execution async for execution in running.client.list_workflows(f"WorkflowId = '{job_id}'")]
        assert len(runs) <= 1

    async def test_workflow_without_engine_uses_configured_engine(self, stack_variables: dict[str, str]) -> None:
        async with open_harness(stack_variables | {"OCR_ENGINE": "recorded"}) as harness, harness.worker():
            submission = await harness.service.submit(a_photo())
            assert (await harness.service.wait(submission.job_id)).record.ocr_engine == "recorded"


class TestFailure:
    async def test_workflow_invalid_job_id_fails(self, running: Harness) -> None:
        with pytest.raises(WorkflowFailureError) as caught:
            await running.client.execute_workflow(
                ImageProcessingWorkflow.run,
                ImageProcessingInput(job_id="42", bucket="b", key="k"),
                id=f"bad-{uuid4()}",
                task_queue=running.settings.temporal_task_queue,
            )
        assert getattr(caught.value.cause, "type", None) == "job_id_invalid"

    async def test_workflow_invalid_input_fails(self, running: Harness) -> None:
        with pytest.raises(WorkflowFailureError) as caught:
            await running.client.execute_workflow(
                "image_processing_workflow",
                {"bucket": "b", "key": 7},
                id=f"bad-{uuid4()}",
                task_queue=running.settings.temporal_task_queue,
            )
        assert getattr(caught.value.cause, "type", None) == "contract_invalid"
        assert "job_id" in str(caught.value.cause)

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ([], "there are 0 arguments instead of one"),
            ([GOOD, GOOD], "there are 2 arguments instead of one"),
            ([42], "the argument is no JSON object"),
            ([[GOOD]], "the argument is no JSON object"),
            # Temporal's encoding of null, of bytes, and of what its UI sends for its other encoding.
            ([None], "the argument is no JSON object"),
            ([b"a photo"], "the argument is no JSON object"),
            ([RawValue(Payload(metadata={"encoding": b"json/protobuf"}, data=b"{}"))], "Unknown Protobuf type"),
        ],
    )
    async def test_workflow_malformed_arguments_fail(self, running: Harness, given: list[object], said: str) -> None:
        job_id = uuid4()
        handle = await running.client.start_workflow(
            "image_processing_workflow", args=given, id=str(job_id), task_queue=running.settings.temporal_task_queue
        )
        with pytest.raises(WorkflowFailureError) as caught:
            await asyncio.wait_for(handle.result(), 30)
        cause = caught.value.cause
        assert isinstance(cause, ApplicationError)
        assert (cause.type, cause.non_retryable) == ("contract_invalid", True)
        assert said in cause.message
        assert await status_of(running, job_id) == ""
        history = (await handle.fetch_history()).to_json_dict()
        assert await asyncio.to_thread(replay_problem, product_code(), [history]) is None

    @pytest.mark.parametrize("seconds", [10**18, -(10**12), 31_536_001, -1])
    async def test_workflow_invalid_lifetime_fails(self, running: Harness, seconds: int) -> None:
        job_id = str(uuid4())
        handle = await running.client.start_workflow(
            "image_processing_workflow",
            {"job_id": job_id, "bucket": running.settings.s3_bucket, "key": "k", "lifetime_seconds": seconds},
            id=job_id,
            task_queue=running.settings.temporal_task_queue,
        )
        with pytest.raises(WorkflowFailureError) as caught:
            await asyncio.wait_for(handle.result(), 30)
        assert getattr(caught.value.cause, "type", None) == "contract_invalid"
        assert "lifetime_seconds" in str(caught.value.cause)

    async def test_orchestrator_result_raises_reason(self, running: Harness) -> None:
        source = Source("s3", bucket=running.settings.s3_bucket, key="absent.png")
        submission = await running.service.submit(source)
        orchestrator = running.application.orchestrator
        with pytest.raises(JobFailed) as caught:
            await orchestrator.result(IMAGE_PROCESSING.of(submission.job_id))
        assert caught.value.context["reason_code"] == "object_missing"

    async def test_workflow_backend_defect_fails_after_attempts(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(self: object, document: DocumentRef) -> DetectedText:
            raise ZeroDivisionError("a defect")

        monkeypatch.setattr("photo_worker.adapters.ocr.recorded.RecordedBackend.detect_text", broken)
        async with harness.worker(policies=QUICK):
            submission = await harness.service.submit(a_photo(), engine="recorded")
            recipe = (await harness.service.wait(submission.job_id)).record
        assert (recipe.status, recipe.error_code) == ("failed", "step_failed")
        assert "ocr_textract" in (recipe.error_message or "")
        assert "ZeroDivisionError" in (recipe.error_message or "")
        assert await ends_of(harness, submission.job_id, "ocr_textract") == policies.OCR.maximum_attempts


async def test_workflow_before_lifetimes_bounds_rereads(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    def replaced(self: object, document: DocumentRef) -> DetectedText:
        raise SourceReplaced(bucket=document.bucket, key=document.key)

    patched = workflow.patched
    monkeypatch.setattr("photo_worker.adapters.ocr.recorded.RecordedBackend.detect_text", replaced)
    rereading = replace(QUICK, reread_longest_wait=timedelta(milliseconds=50))
    submission = await harness.service.submit(a_photo(), engine="recorded")
    with monkeypatch.context() as earlier:
        earlier.setattr(workflow, "patched", lambda name: name != LIFETIME and patched(name))
        async with harness.worker(policies=rereading):
            await eventually(lambda: _has_read(harness, submission.job_id, times=4))
    # Its readings so far exceed the lifetime now, and are replayed as they were recorded.
    async with harness.worker(policies=replace(rereading, lifetime=timedelta(seconds=1))):
        recipe = (await asyncio.wait_for(harness.service.wait(submission.job_id), 60)).record
    assert (recipe.status, recipe.error_code) == ("failed", "source_replaced")
    description = await harness.client.get_workflow_handle(str(submission.job_id)).describe()
    assert description.status == WorkflowExecutionStatus.FAILED


async def _has_read(harness: Harness, job_id: UUID, *, times: int) -> bool:
    return await ends_of(harness, job_id, "ocr_textract") >= times


def quick(policy: policies.ActivityPolicy) -> policies.ActivityPolicy:
    """Return the policy with waits of milliseconds between attempts."""
    return replace(policy, initial_interval=timedelta(milliseconds=20), maximum_interval=timedelta(milliseconds=100))


QUICK = policies.ImagePolicies(
    verify_and_locate_asset=quick(policies.VERIFY),
    ocr_textract=quick(policies.OCR),
    persist_artifacts=quick(policies.PERSIST),
    record_failure=quick(policies.RECORD_FAILURE),
)


async def ends_of(harness: Harness, job_id: UUID, activity: str) -> int:
    """Return how many times an activity ended with a failure, from the job's history."""
    events = (await harness.client.get_workflow_handle(str(job_id)).fetch_history()).events
    scheduled = {
        event.event_id
        for event in events
        if event.activity_task_scheduled_event_attributes.activity_type.name == activity
    }
    failed = [event for event in events if event.HasField("activity_task_failed_event_attributes")]
    return sum(event.activity_task_failed_event_attributes.scheduled_event_id in scheduled for event in failed)


class TestCancellation:
    async def test_cancel_before_worker_started_fails_job(self, harness: Harness) -> None:
        submission = await harness.service.submit(a_photo(), engine="recorded")
        await harness.application.orchestrator.cancel(IMAGE_PROCESSING.of(submission.job_id))
        async with harness.worker():
            with pytest.raises(JobCancelled):
                await harness.application.orchestrator.result(IMAGE_PROCESSING.of(submission.job_id))
        recipe = await row(harness, submission.job_id)
        assert (recipe.status, recipe.error_code) == ("failed", "job_cancelled")

    async def test_cancel_during_ocr_fails_job(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        entered, leave = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def slow(self: object, document: DocumentRef) -> DetectedText:
            loop.call_soon_threadsafe(entered.set)
            asyncio.run_coroutine_threadsafe(leave.wait(), loop).result(30)
            return DetectedText({"DocumentMetadata": {"Pages": 1}, "Blocks": []}, "1.0")

        monkeypatch.setattr("photo_worker.adapters.ocr.recorded.RecordedBackend.detect_text", slow)
        async with harness.worker():
            submission = await harness.service.submit(a_photo(), engine="recorded")
            await asyncio.wait_for(entered.wait(), 30)
            assert await status_of(harness, submission.job_id) == "running"
            await harness.application.orchestrator.cancel(IMAGE_PROCESSING.of(submission.job_id))
            with pytest.raises(JobCancelled):
                await harness.application.orchestrator.result(IMAGE_PROCESSING.of(submission.job_id))
            leave.set()
        recipe = await row(harness, submission.job_id)
        assert (recipe.status, recipe.error_code) == ("failed", "job_cancelled")
        description = await harness.client.get_workflow_handle(str(submission.job_id)).describe()
        assert description.status == WorkflowExecutionStatus.CANCELED

    async def test_cancel_during_persist_is_too_late(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        entered, leave = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        repository = harness.application.repository
        succeed = type(repository).succeed

        def slow(self: object, *given: object, **named: object) -> object:
            loop.call_soon_threadsafe(entered.set)
            asyncio.run_coroutine_threadsafe(leave.wait(), loop).result(30)
            return succeed(self, *given, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(type(repository), "succeed", slow)
        async with harness.worker():
            submission = await harness.service.submit(a_photo(), engine="recorded")
            await asyncio.wait_for(entered.wait(), 30)
            await harness.application.orchestrator.cancel(IMAGE_PROCESSING.of(submission.job_id))
            leave.set()
            result = await harness.application.orchestrator.result(IMAGE_PROCESSING.of(submission.job_id))
        assert result.status == "succeeded"
        assert (await row(harness, submission.job_id)).status == "succeeded"


async def test_wait_for_terminated_job_records_reason(harness: Harness) -> None:
    submission = await harness.service.submit(a_photo(), engine="recorded")
    await harness.client.get_workflow_handle(str(submission.job_id)).terminate("by hand")
    recipe = (await harness.service.wait(submission.job_id)).record
    assert (recipe.status, recipe.error_code) == ("failed", "terminated")


async def test_wait_for_reset_job_follows_new_run(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reset terminates the awaited run and starts another one at once."""
    reads = RecordedBackend.detect_text

    def away(self: object, document: DocumentRef) -> DetectedText:
        raise OcrUnavailable(engine="recorded", reason="it is away")

    monkeypatch.setattr(RecordedBackend, "detect_text", away)
    async with harness.worker():
        submission = await harness.service.submit(a_photo(), engine="recorded")
        waiting = asyncio.create_task(harness.service.wait(submission.job_id))
        await waiting_for(harness, submission.job_id, 1)
        await reset(harness, submission.job_id)
        done, _ = await asyncio.wait([waiting], timeout=3)
        assert not done, (await row(harness, submission.job_id)).error_message
        monkeypatch.setattr(RecordedBackend, "detect_text", reads)
        report = await asyncio.wait_for(waiting, 60)
    assert (report.record.status, report.record.error_code) == ("succeeded", None)


async def reset(harness: Harness, job_id: UUID) -> None:
    """Reset a job to its first workflow task, as an operator does."""
    handle = harness.client.get_workflow_handle(str(job_id))
    events = (await handle.fetch_history()).events
    (first, *_) = [event.event_id for event in events if event.HasField("workflow_task_completed_event_attributes")]
    await harness.client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=harness.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=str(job_id), run_id=(await handle.describe()).run_id),
            reason="go on",
            request_id=str(uuid4()),
            workflow_task_finish_event_id=first,
        )
    )


@pytest.mark.io_bound
class TestOutages:
    """Outages of a service behind a proxy that is cut; the worker goes on in every case."""

    @pytest.mark.parametrize(
        ("variable", "code", "attempts"),
        [
            # The connection pool waits for seconds if the database is unavailable.
            ("DATABASE_URL", "database_unavailable", 6),
            ("AWS_ENDPOINT_URL_S3", "storage_unavailable", 12),
            ("AWS_ENDPOINT_URL_TEXTRACT", "ocr_unavailable", 12),
        ],
    )
    async def test_outage_longer_than_attempts_only_delays(
        self,
        stack_variables: dict[str, str],
        variable: str,
        code: str,
        attempts: int,
    ) -> None:
        url = urlsplit(stack_variables[variable])
        assert url.port is not None
        with proxy_to("127.0.0.1", url.port) as proxy:
            through = url._replace(netloc=url.netloc.replace(f":{url.port}", f":{proxy.port}")).geturl()
            async with open_harness(stack_variables | {variable: through}) as harness:
                submission = await harness.service.submit(a_photo())
                proxy.down()
                async with harness.worker(policies=QUICK):
                    waiting = await waiting_for(harness, submission.job_id, attempts)
                    assert waiting.code == code
                    proxy.up()
                    report = await harness.service.wait(submission.job_id)
                    assert (report.record.status, report.record.error_code) == ("succeeded", None)

    async def test_outage_longer_than_lifetime_fails_with_reason(self, stack_variables: dict[str, str]) -> None:
        hasty = replace(QUICK, last_chance=timedelta(seconds=3))
        url = urlsplit(stack_variables["AWS_ENDPOINT_URL_TEXTRACT"])
        assert url.port is not None
        with proxy_to("127.0.0.1", url.port) as proxy:
            through = url._replace(netloc=url.netloc.replace(f":{url.port}", f":{proxy.port}")).geturl()
            variables = stack_variables | {"AWS_ENDPOINT_URL_TEXTRACT": through}
            async with open_harness(variables) as harness:
                harness.service._lifetime_seconds = 1
                submission = await harness.service.submit(a_photo())
                proxy.down()
                async with harness.worker(policies=hasty):
                    recipe = (await harness.service.wait(submission.job_id)).record
        assert (recipe.status, recipe.error_code) == ("failed", "job_expired")
        assert "[ocr_unavailable]" in (recipe.error_message or "")

    @pytest.mark.parametrize("variable", ["DATABASE_URL", "AWS_ENDPOINT_URL_S3"])
    async def test_outage_short_is_not_visible_in_result(self, stack_variables: dict[str, str], variable: str) -> None:
        url = urlsplit(stack_variables[variable])
        assert url.port is not None
        with proxy_to("127.0.0.1", url.port) as proxy:
            through = url._replace(netloc=url.netloc.replace(f":{url.port}", f":{proxy.port}")).geturl()
            async with open_harness(stack_variables | {variable: through}) as harness:
                submission = await harness.service.submit(a_photo(), engine="recorded")
                proxy.down()
                async with harness.worker():
                    await asyncio.wait_for(retrying_activity(harness, submission.job_id), 60)
                    proxy.up()
                    assert (await harness.service.wait(submission.job_id)).record.status == "succeeded"

    async def test_outage_of_temporal_only_delays(self, stack_variables: dict[str, str]) -> None:
        host, _, port = stack_variables["TEMPORAL_TARGET"].rpartition(":")
        with proxy_to(host, int(port)) as proxy:
            variables = stack_variables | {"TEMPORAL_TARGET": f"127.0.0.1:{proxy.port}"}
            async with open_harness(variables) as harness, harness.worker():
                proxy.down()
                async with open_harness(stack_variables) as direct:
                    submission = await direct.service.submit(a_photo(), engine="recorded")
                    assert await status_of(direct, submission.job_id) == "queued"
                    proxy.up()
                    assert (await direct.service.wait(submission.job_id)).record.status == "succeeded"


async def retrying_activity(harness: Harness, job_id: UUID) -> None:
    """Wait until an attempt of a pending activity of the job has failed."""

    async def probe() -> bool:
        description = await harness.client.get_workflow_handle(str(job_id)).describe()
        return any(pending.attempt > 1 for pending in description.raw_description.pending_activities)

    await eventually(probe, seconds=60)


# A task that was in flight to the stopped worker is dispatched again only after its timeout.
@pytest.mark.timeout(300)
async def test_worker_that_dies_is_replaced(harness: Harness) -> None:
    submission = await harness.service.submit(a_photo(), engine="recorded")
    async with harness.worker():
        await eventually(lambda: _is_running_or_done(harness, submission.job_id))
    async with harness.worker():
        assert (await harness.service.wait(submission.job_id)).record.status == "succeeded"


async def _is_running_or_done(harness: Harness, job_id: UUID) -> bool:
    return await status_of(harness, job_id) in {"running", "succeeded"}
