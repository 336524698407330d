"""Rules, their breaches and the findings that a check reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar
from uuid import UUID

_E = TypeVar("_E")


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    """A promise of the worker does not hold."""
    WARNING = "warning"
    """An operator should look at it: it may become an error, or hide one."""
    NOTICE = "notice"
    """Worth knowing, and no fault of the deployment; it does not make a check fail."""


class Repair(StrEnum):
    """A repair that needs no decision of an operator: it costs nothing, loses nothing and may run again."""

    START_WORKFLOW = "start_workflow"
    START_AGAIN = "start_again"
    RECORD_END = "record_end"
    RECORD_RESULT = "record_result"
    ERASE_TRACES = "erase_traces"
    DELETE_ARTIFACTS = "delete_artifacts"
    DELETE_PHOTO = "delete_photo"


REPAIRS = {
    Repair.START_WORKFLOW: "start the job's workflow, without the OCR engine and the content type that its submission"
    " may have asked for: these are not kept",
    Repair.START_AGAIN: "start the job's workflow once more, with the input it had",
    Repair.RECORD_END: "write into the row why the workflow ended",
    Repair.RECORD_RESULT: "write the result that the manifest describes into the row",
    Repair.ERASE_TRACES: "run the erase to its end",
    Repair.DELETE_ARTIFACTS: "delete the objects",
    Repair.DELETE_PHOTO: "delete the photo, or the copy of one, unless somebody submits it at this moment",
}


@dataclass(frozen=True)
class RuleBreach:
    """A breach as the rule words it: where, the problem, its possible causes, and what to do about it."""

    where: str
    problem: str
    why: str
    todo: str
    repair: Repair | None = None


@dataclass(frozen=True)
class IntegrityFinding:
    """A problem with the rule that it breaks. ``job_id`` is None if the problem belongs to no job."""

    code: str
    severity: Severity
    job_id: UUID | None
    where: str
    problem: str
    why: str
    todo: str
    repair: Repair | None = None

    def as_dict(self) -> dict[str, str | None]:
        """Return the finding as JSON shows it; keys are always present."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "job_id": None if self.job_id is None else str(self.job_id),
            "where": self.where,
            "problem": self.problem,
            "why": self.why,
            "todo": self.todo,
            "repair": None if self.repair is None else self.repair.value,
        }


@dataclass(frozen=True)
class Rule(Generic[_E]):
    """One rule: its code, the statement that holds unless it is broken, and the function that finds breaches.

    ``invariant`` is the number of the promise that it belongs to (``rules.PROMISES``). ``repair`` is the repair that
    its findings may offer; a single finding may still offer none.
    """

    code: str
    invariant: int
    severity: Severity
    holds: str
    check: Callable[[_E], Iterator[RuleBreach]]
    repair: Repair | None = None

    def findings(self, evidence: _E, job_id: UUID | None = None) -> Iterator[IntegrityFinding]:
        """Return a finding for each breach of the rule."""
        for found in self.check(evidence):
            yield IntegrityFinding(
                self.code,
                self.severity,
                job_id,
                found.where,
                found.problem,
                found.why,
                found.todo,
                found.repair,
            )
