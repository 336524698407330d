"""Typed references to the workflows of a job: which type, which models, and which workflow id. No I/O.

A workflow that belongs to a job has the job's id as its own id, or begins with it and a slash. So everything of a job
is found by the job's id, in Temporal as in the object store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar
from uuid import UUID

from photo_worker.contracts.keys import parse_job_id
from photo_worker.errors import InvalidJobId

if TYPE_CHECKING:
    from photo_worker.contracts.base import Contract

Input = TypeVar("Input", bound="Contract")
Result = TypeVar("Result", bound="Contract")

_SEPARATOR = "/"


@dataclass(frozen=True)
class WorkflowType(Generic[Input, Result]):
    """A workflow type with its input and result models. ``name`` is in recorded histories.

    ``suffix`` is the rule of its ids: the workflow's id is ``JOB/suffix``, or the job's id alone if it is empty.
    """

    name: str
    input: type[Input]
    result: type[Result]
    suffix: str = ""

    def of(self, job_id: UUID) -> WorkflowRef[Input, Result]:
        """Return the reference to the job's workflow of this type."""
        return WorkflowRef(self, job_id)


@dataclass(frozen=True)
class WorkflowRef(Generic[Input, Result]):
    """A job's workflow of one type, whether it exists or not."""

    type: WorkflowType[Input, Result]
    job_id: UUID

    @property
    def workflow_id(self) -> str:
        """The workflow's id in Temporal."""
        return f"{self.job_id}{_SEPARATOR}{self.type.suffix}" if self.type.suffix else main_id(self.job_id)


def main_id(job_id: UUID) -> str:
    """Return the id of the workflow that a job begins with."""
    return str(job_id)


def prefix_of(job_id: UUID) -> str:
    """Return how the ids of a job's further workflows begin."""
    return f"{job_id}{_SEPARATOR}"


def job_of(workflow_id: str) -> UUID | None:
    """Return the job that a workflow belongs to, None if its id names none."""
    try:
        return parse_job_id(workflow_id.partition(_SEPARATOR)[0])
    except InvalidJobId:
        return None
