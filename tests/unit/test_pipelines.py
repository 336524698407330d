"""The registry of pipelines is complete, and all that reads it agrees with it."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from temporalio import activity, workflow

from photo_worker import pipelines
from photo_worker.adapters.memory.job_repository import MemoryJobRepository
from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.bootstrap import Application, build_activities, workflow_classes
from photo_worker.cli.replay_vocabulary import vocabulary
from photo_worker.config import Settings
from photo_worker.contracts.references import job_of
from photo_worker.pipelines import PIPELINES, Pipeline
from photo_worker.services.consistency.evidence import JOB_FOLDERS, owner_of

JOB = UUID("00000000-0000-4000-8000-000000000001")
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
