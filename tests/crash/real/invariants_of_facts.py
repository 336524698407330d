"""The invariants of the facts that real processes leave, besides the comparison with a run without faults.

Invariants of live data are checked by the product's own rules, ``photo_worker.services.consistency``. Numbers are
those of docs/explanation/crash-safety.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote, urlsplit

from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from photo_worker.adapters.temporal.converter import data_converter
from photo_worker.bootstrap import workflow_classes
from photo_worker.contracts.keys import converted_key
from photo_worker.policies import UNEXPECTED
from photo_worker.ports.job_repository import JobRecord
from photo_worker.services.consistency.finding import Severity
from photo_worker.services.consistency.inspector import InspectionConfig, InspectionPorts
from photo_worker.services.consistency.rules import all_rules
from photo_worker.services.consistency.scan import open_scanner
from tests.crash.real.facts import Facts
from tests.crash.violation import POLICIES, Violation


async def broken_rules(ports: InspectionPorts) -> list[Violation]:
    """Return the findings of the product's own check in a deployment at rest, without notices."""
    means = InspectionConfig(now=lambda: datetime.now(UTC), grace=timedelta(0), parallel=2)
    async with open_scanner(ports, means) as scanner:
        report = await scanner.scan_all()
    invariants = {rule.code: rule.invariant for rule in all_rules()}
    return [
        Violation(invariants[found.code], f"{found.code} at {found.where}: {found.problem}")
        for found in report.findings
        if found.severity is not Severity.NOTICE
    ]


def wrong_charges(facts: Facts) -> Iterator[Violation]:
    """Yield documents that were charged twice, or were read without exactly one charge."""
    read = {_read_by(facts, row) for row in facts.rows if row.status == "succeeded"}
    for document, number in facts.charges.items():
        if number > 1:
            yield Violation(3, f"{document} was charged {number} times")
    for document in sorted(read - set(facts.charges)):
        yield Violation(3, f"{document} was read, and never charged: what is counted is not what happens")


def _read_by(facts: Facts, row: JobRecord) -> str:
    """Return the object that OCR read for a job: the copy of its photo if there is one."""
    copy = converted_key(row.s3_raw_bucket, row.s3_raw_key, row.content_sha256)
    return f"s3://{row.s3_raw_bucket}/{copy if copy in facts.objects else row.s3_raw_key}"


def too_many_attempts(facts: Facts) -> Iterator[Violation]:
    """Yield activities with more unexpected errors than their policy allows."""
    for job_id, workflow in facts.workflows.items():
        names: dict[int, str] = {}
        ends: Counter[str] = Counter()
        for event in workflow.history.events:
            if event.HasField("activity_task_scheduled_event_attributes"):
                names[event.event_id] = event.activity_task_scheduled_event_attributes.activity_type.name
            failed = event.activity_task_failed_event_attributes
            if failed.failure.application_failure_info.type == UNEXPECTED:
                ends[names[failed.scheduled_event_id]] += 1
        for activity, number in ends.items():
            limit = POLICIES[activity].maximum_attempts
            if limit and number > limit:
                yield Violation(
                    11, f"{activity} of {job_id} failed {number} times unexpectedly, the policy says {limit}"
                )


def leaks(facts: Facts, words: Iterable[str], variables: Mapping[str, str]) -> Iterator[Violation]:
    """Yield documents' words and passwords found in logs or histories."""
    password = unquote(urlsplit(variables["DATABASE_URL"]).password or "")
    for secret in [password, *words] if password else words:
        if secret in facts.logs:
            yield Violation(12, f"a log holds {_hidden(secret, password)}")
        for job_id, workflow in facts.workflows.items():
            if any(secret.encode() in event.SerializeToString() for event in workflow.history.events):
                yield Violation(12, f"the history of {job_id} holds {_hidden(secret, password)}")


def _hidden(secret: str, password: str) -> str:
    return "the database's password" if secret == password else f"a document's words, {secret!r}"


async def unreplayable(histories: Iterable[WorkflowHistory]) -> list[Violation]:
    """Replay histories with the current code; return those that do not replay."""
    replayer = Replayer(workflows=workflow_classes(), data_converter=data_converter)
    found = []
    for history in histories:
        result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
        if result.replay_failure is not None:
            found.append(Violation(8, f"{history.workflow_id}: {result.replay_failure}"))
    return found
