"""The registry of pipelines is complete, and all that reads it agrees with it."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from temporalio import activity, workflow

from photo_worker import pipelines
from photo_worker.adapters.memory.job_repository import MemoryJobRepository
from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.bootstrap import Application, build_activities, workflow_classes
from photo_worker.cli.replay_vocabulary import vocabulary
from photo_worker.config import Settings
from photo_worker.contracts.references import job_of, main_id
from photo_worker.pipelines import PIPELINES, JobPipeline, Pipeline
from photo_worker.ports.orchestrator import WorkflowState
from photo_worker.services.consistency.evidence import JOB_FOLDERS, owner_of
from photo_worker.services.consistency.rules_progress import SLACK, longest
from photo_worker.services.erasure import Erasure
from tests.support.healthy_deployment import BUCKET, JOB, Deployment
from tests.unit.integrity.repairing import repair, repaired

EACH = [pytest.param(pipeline, id=pipeline.kind.name) for pipeline in PIPELINES]


def test_pipelines_have_unique_names_and_ids() -> None:
    kinds = pipelines.workflow_types()
    assert len({kind.name for kind in kinds}) == len(kinds)
    assert len({kind.of(JOB).workflow_id for kind in kinds}) == len(kinds)
    assert {job_of(kind.of(JOB).workflow_id) for kind in kinds} == {JOB}


@pytest.mark.parametrize("pipeline", EACH)
def test_pipeline_names_are_those_of_its_code(pipeline: Pipeline) -> None:
    assert workflow._Definition.must_from_class(pipeline.workflow).name == pipeline.kind.name
    for step in pipeline.steps:
        assert activity._Definition.must_from_callable(step.method).name == step.name
        assert pipeline.policy(step) is pipelines.steps()[step.name]
    models = pipelines.contract_models()[pipeline.contracts.__name__]
    assert {pipeline.kind.input, pipeline.kind.result} <= set(models)


@pytest.mark.parametrize("pipeline", EACH)
def test_pipeline_artifacts_belong_to_job(pipeline: Pipeline) -> None:
    """``check`` finds whose an object is by its key, and ``erase`` what a job has."""
    job_id = uuid4()
    for key in pipeline.artifact_keys:
        assert owner_of(key(job_id)) == job_id
        assert key(job_id).startswith(JOB_FOLDERS)
        assert key(job_id) in pipelines.artifact_keys(job_id)


def test_jobs_begin_with_one_pipeline() -> None:
    (first,) = [pipeline for pipeline in PIPELINES if isinstance(pipeline, JobPipeline)]
    assert pipelines.job_pipeline() is first
    assert first.kind.of(JOB).workflow_id == main_id(JOB)


def with_run(pipeline: Pipeline, state: str, code: str | None = None) -> Deployment:
    """Return a deployment with a job whose workflow of this type has begun, or ended for a reason, just now."""
    deployment = Deployment()
    if isinstance(pipeline, JobPipeline):
        deployment.queued()
    else:
        deployment.succeeded()
    ended = None if state == "running" else deployment.time
    found = WorkflowState(state, deployment.time, ended, code, None if code is None else "A service refused it.")
    deployment.temporal.states[pipeline.kind.of(JOB).workflow_id] = found
    return deployment


@pytest.mark.parametrize("pipeline", EACH)
async def test_check_overdue_run_is_reported(pipeline: Pipeline) -> None:
    deployment = with_run(pipeline, "running")
    assert (await repair(deployment, JOB)).left == []
    waits = timedelta(days=3650) if pipeline.waits is None else pipeline.waits
    deployment.time += waits + SLACK + sum((longest(pipeline.policy(step)) for step in pipeline.steps), timedelta())
    deployment.time += timedelta(minutes=1)
    report = (await repair(deployment, JOB)).report
    found = [(one.code, one.where) for one in report.findings]
    limited = isinstance(pipeline, JobPipeline) or pipeline.waits is not None
    assert found == ([("job_stuck", f"workflow {pipeline.kind.of(JOB).workflow_id}")] if limited else [])


@pytest.mark.parametrize("pipeline", EACH)
async def test_check_repair_run_that_gave_up_starts_it_again(pipeline: Pipeline) -> None:
    deployment = with_run(pipeline, "failed", "service_refused")
    found = await repair(deployment)
    assert found.said == repaired("workflow_gave_up")
    assert deployment.temporal.states[pipeline.kind.of(JOB).workflow_id].is_open
    assert found.left == []


@pytest.mark.parametrize("pipeline", EACH)
async def test_check_run_that_its_job_ended_is_not_started_again(pipeline: Pipeline) -> None:
    found = await repair(with_run(pipeline, "failed", "job_missing"))
    assert "workflow_gave_up" not in found.left
    assert ("workflow_gave_up", "begun") not in found.said


@pytest.mark.parametrize("pipeline", EACH)
async def test_check_repair_run_without_row_keeps_objects(pipeline: Pipeline) -> None:
    deployment = with_run(pipeline, "running")
    deployment.rows.delete(JOB)
    key = pipeline.artifact_keys[0](JOB)
    deployment.store.put(BUCKET, key, b"result", content_type="application/json")
    deployment.time += timedelta(days=1)
    found = await repair(deployment, JOB)
    assert [(one.code, one.where) for one in found.report.findings] == [
        ("workflow_without_row", f"workflow {pipeline.kind.of(JOB).workflow_id}")
    ]
    assert found.said == []
    assert deployment.store.get(BUCKET, key, limit_bytes=100) == b"result"


@pytest.mark.parametrize("pipeline", EACH)
async def test_erase_run_and_its_objects_are_gone(pipeline: Pipeline) -> None:
    deployment = with_run(pipeline, "running")
    for key in pipeline.artifact_keys:
        deployment.store.put(BUCKET, key(JOB), b"result", content_type="application/json")
    await Erasure(deployment.store, deployment.rows, deployment.temporal, BUCKET).erase(JOB)
    assert deployment.temporal.states == {}
    assert [one.key for folder in JOB_FOLDERS for one in deployment.store.list(BUCKET, folder)] == []
    assert (await repair(deployment, JOB)).left == []
    # A paused client may start it once more, behind the erase.
    again = WorkflowState("running", deployment.time)
    deployment.temporal.states[pipeline.kind.of(JOB).workflow_id] = again
    assert (await repair(deployment, JOB)).said == repaired("erased_traces")
    assert deployment.temporal.states == {}


def test_worker_has_what_is_registered() -> None:
    application = Application(Settings(), MemoryObjectStore(), MemoryJobRepository())
    names = [activity._Definition.must_from_callable(one).name for one in build_activities(application)]
    assert names == list(pipelines.steps())
    assert workflow_classes() == [pipeline.workflow for pipeline in PIPELINES]


def test_scrubbing_keeps_registered_names_and_keys() -> None:
    words = vocabulary()
    assert {kind.name for kind in pipelines.workflow_types()} | {*pipelines.steps()} <= words.words
    for key in pipelines.artifact_keys(JOB):
        assert any(form.fullmatch(key) for form in words.forms), key
