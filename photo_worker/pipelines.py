"""The registry of pipelines: what the application knows of each workflow type, in one place.

The worker, the orchestrator, the reference pages, the scrubbing of histories, the crash matrix, ``erase`` and ``check``
read it, so that a new workflow is its own modules and one entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import ModuleType
from typing import Any
from uuid import UUID

from photo_worker import policies
from photo_worker.activities.assets import AssetActivities
from photo_worker.activities.ocr import OcrActivities
from photo_worker.activities.results import ResultActivities
from photo_worker.contracts import image, keys
from photo_worker.contracts.base import Contract
from photo_worker.contracts.references import WorkflowType
from photo_worker.policies import ActivityPolicy
from photo_worker.ports.document_decoder import DocumentDecoder
from photo_worker.ports.job_repository import JobRepository
from photo_worker.ports.object_store import ObjectStore
from photo_worker.ports.ocr import OcrBackend
from photo_worker.workflows.image import ImageProcessingWorkflow


@dataclass(frozen=True)
class ActivityPorts:
    """What activities are made from. ``bucket`` is the worker's own; ``backends`` returns an OCR backend by name."""

    store: ObjectStore
    repository: JobRepository
    backends: Callable[[str], OcrBackend]
    decoder: DocumentDecoder
    bucket: str


@dataclass(frozen=True)
class Step:
    """An activity, as a method of the class that holds its ports."""

    method: Callable[..., Any]

    @property
    def name(self) -> str:
        """The activity type."""
        return self.method.__name__


@dataclass(frozen=True)
class Pipeline:
    """One workflow type.

    ``kind`` has its name, its input and result models and the rule of its ids; ``contracts`` is the module of its
    models. ``make`` returns the objects whose methods the steps are. ``policies`` are what the worker passes to the
    workflow: an object with an ``ActivityPolicy`` for each step, by its name. ``artifact_keys`` return the keys that
    its results have, by job; each begins with a folder and the job's id. ``scenarios`` is the module of its recorded
    scenarios, in the checkout. ``waits`` is the longest time that a run takes beside its steps, for timers, signals and
    children, None if it has no limit: ``check`` reports a run that takes longer than its steps and this time.
    """

    kind: WorkflowType[Any, Any]
    workflow: type[Any]
    contracts: ModuleType
    steps: tuple[Step, ...]
    policies: object
    make: Callable[[ActivityPorts], Sequence[object]]
    artifact_keys: tuple[Callable[[UUID], str], ...]
    scenarios: str
    waits: timedelta | None = timedelta()

    def policy(self, step: Step) -> ActivityPolicy:
        """Return the policy that the workflow runs a step by."""
        found = getattr(self.policies, step.name)
        if not isinstance(found, ActivityPolicy):
            raise TypeError(f"the policy of {step.name} is {found!r}")
        return found

    def activities(self, ports: ActivityPorts) -> Iterator[Callable[..., Any]]:
        """Yield the activities of the steps, bound to ``ports``."""
        made = {type(one): one for one in self.make(ports)}
        for step in self.steps:
            owner = next(one for kind, one in made.items() if vars(kind).get(step.name) is step.method)
            yield getattr(owner, step.name)


@dataclass(frozen=True, kw_only=True)
class JobPipeline(Pipeline):
    """The pipeline that a job begins with: its workflow has the job's id, and moves the job's row to its final status.

    ``request`` returns the workflow's input by the job's id, the bucket and key that its row names, and the job's
    lifetime in seconds. ``check`` compares the run with the row: ``verifying`` are the steps up to the row's change
    after "running", ``reading`` those from then to its final status, and ``recording`` those that run again if the
    reply to the last change was lost.
    """

    request: Callable[[UUID, str, str, int | None], Contract]
    verifying: tuple[Step, ...]
    reading: tuple[Step, ...]
    recording: tuple[Step, ...]


def _image_activities(ports: ActivityPorts) -> Sequence[object]:
    return [
        AssetActivities(ports.store, ports.repository, ports.decoder, ports.bucket),
        OcrActivities(ports.store, ports.repository, ports.backends, ports.bucket),
        ResultActivities(ports.store, ports.repository, ports.bucket),
    ]


def _image_request(job_id: UUID, bucket: str, key: str, lifetime_seconds: int | None) -> image.ImageProcessingInput:
    return image.ImageProcessingInput(job_id=str(job_id), bucket=bucket, key=key, lifetime_seconds=lifetime_seconds)


IMAGE = JobPipeline(
    kind=image.IMAGE_PROCESSING,
    workflow=ImageProcessingWorkflow,
    contracts=image,
    steps=(
        Step(AssetActivities.verify_and_locate_asset),
        Step(OcrActivities.ocr_textract),
        Step(ResultActivities.persist_artifacts),
        Step(ResultActivities.record_failure),
    ),
    policies=policies.IMAGE,
    make=_image_activities,
    artifact_keys=(keys.ocr_key, keys.manifest_key),
    scenarios="tests.replay.scenarios.images",
    request=_image_request,
    verifying=(Step(AssetActivities.verify_and_locate_asset),),
    reading=(Step(OcrActivities.ocr_textract), Step(ResultActivities.persist_artifacts)),
    recording=(Step(ResultActivities.persist_artifacts),),
)

PIPELINES: tuple[Pipeline, ...] = (IMAGE,)


def workflow_types() -> tuple[WorkflowType[Any, Any], ...]:
    """Return the type of every pipeline."""
    return tuple(pipeline.kind for pipeline in PIPELINES)


def steps() -> dict[str, ActivityPolicy]:
    """Return the policy of every activity by its type."""
    return {step.name: pipeline.policy(step) for pipeline in PIPELINES for step in pipeline.steps}


def job_pipeline(pipelines: Iterable[Pipeline] = PIPELINES) -> JobPipeline:
    """Return the pipeline that jobs begin with, or the registered one if it is not among ``pipelines``."""
    return next((one for one in pipelines if isinstance(one, JobPipeline)), IMAGE)


def further_pipelines(pipelines: Iterable[Pipeline] = PIPELINES) -> tuple[Pipeline, ...]:
    """Return the pipelines whose workflows belong to jobs that have begun with another one."""
    return tuple(one for one in pipelines if not isinstance(one, JobPipeline))


def artifact_keys(job_id: UUID) -> list[str]:
    """Return the keys that a job's results have, of every pipeline."""
    return [key(job_id) for pipeline in PIPELINES for key in pipeline.artifact_keys]


def artifact_folders() -> tuple[str, ...]:
    """Return the folders of all results, each with a slash at its end."""
    return tuple(f"{folder}/" for folder in _keys_of_no_job())


def unused_keys() -> tuple[str, ...]:
    """Return a key in each folder of results, as the worker gives them, of a job that cannot exist."""
    return tuple(_keys_of_no_job().values())


def _keys_of_no_job() -> dict[str, str]:
    found: dict[str, str] = {}
    for key in artifact_keys(UUID(int=0)):
        found.setdefault(key.partition("/")[0], key)
    return found


def contract_models() -> dict[str, list[type[Contract]]]:
    """Return the models of every pipeline by the name of their module, in the order of their definition."""
    return {
        module.__name__: [
            kind
            for kind in vars(module).values()
            if isinstance(kind, type)
            and issubclass(kind, Contract)
            and kind is not Contract
            and kind.__module__ == module.__name__
        ]
        for module in dict.fromkeys(pipeline.contracts for pipeline in PIPELINES)
    }
