"""Checks the invariants after a soak, when its faults have ended and all jobs are final."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from temporalio.client import WorkflowHistory

from photo_worker.activities.ocr import encode_response
from photo_worker.contracts.keys import ocr_key
from photo_worker.errors import UnreadableDocument
from photo_worker.ports.job_repository import JobRecord
from tests.crash.real.documents import words_of
from tests.crash.real.environment import World
from tests.crash.real.facts import Facts, gather
from tests.crash.real.invariants_of_facts import broken_rules, leaks, too_many_attempts, unreplayable, wrong_charges
from tests.crash.soaking.schedule import sound
from tests.crash.soaking.uploads import Users
from tests.crash.violation import Violation
from tests.support.resources import session_of

# The pattern of documents.words_of.
_WORDS = re.compile(r"\b[a-z]{4,6} [0-9]{5}\b")


@dataclass(frozen=True)
class Verdict:
    """The violations and figures of a soak."""

    violations: tuple[Violation, ...]
    succeeded: int
    failed: int
    erased: int
    retries: int
    charges: int
    closed: int
    failures: Mapping[str, int]
    """Failed jobs by their row's code."""
    least: int
    """The number of uploads that must succeed."""


async def judge(world: World, users: Users, finals: Mapping[UUID, str], secrets: Sequence[str] = ()) -> Verdict:
    """Check everything. ``finals`` are the final statuses that were observed during the faults.

    ``secrets``, like the database's password, must not be in any log.
    """
    left = [job_id for job_id in users.accepted if job_id not in users.erased]
    facts = await gather(world, left)
    rows = {row.id: row for row in facts.rows}
    violations = [
        *await broken_rules(world.ports),
        *(Violation(2, f"a user was turned away: {problem}") for problem in users.problems),
        *_conservation(users, rows, facts),
        *_endings(users, rows),
        *_too_few(users, rows),
        *_went_back(users, rows, finals),
        *wrong_charges(facts),
        *await _texts(world, users, rows, facts),
        *too_many_attempts(facts),
        *leaks(facts, secrets, world.variables),
        *_words(users, facts),
        *await unreplayable(workflow.history for workflow in facts.workflows.values()),
    ]
    failed = [row for row in rows.values() if row.status == "failed"]
    return Verdict(
        violations=tuple(violations),
        succeeded=sum(row.status == "succeeded" for row in rows.values()),
        failed=len(failed),
        erased=len(users.erased & set(users.accepted)),
        retries=sum(attempt - 1 for workflow in facts.workflows.values() for attempt in workflow.attempts.values()),
        charges=sum(facts.charges.values()),
        closed=sum(workflow.status != "running" for workflow in facts.workflows.values()),
        failures=dict(Counter(row.error_code or "" for row in failed)),
        least=len(_sound(users)),
    )


def _sound(users: Users) -> set[UUID]:
    """Return the accepted uploads whose documents can be read, and which are neither cancelled nor erased."""
    return sound(users.accepted.values(), users.damaged)


def _too_few(users: Users, rows: Mapping[UUID, JobRecord]) -> Iterator[Violation]:
    """Yield a violation unless the sound uploads have succeeded, whatever errors the others have."""
    wanted = _sound(users)
    succeeded = sum(job_id in rows and rows[job_id].status == "succeeded" for job_id in wanted)
    if succeeded < len(wanted):
        yield Violation(2, f"{succeeded} of the {len(wanted)} uploads that have no reason to fail have succeeded")


def _conservation(users: Users, rows: Mapping[UUID, JobRecord], facts: Facts) -> Iterator[Violation]:
    """Uploads = succeeded + failed + erased, and as many rows and closed workflows as jobs that are not erased."""
    expected = {job_id for job_id in users.accepted if job_id not in users.erased}
    for job_id in expected - set(rows):
        yield Violation(10, f"{job_id} was accepted and has no row")
    for job_id in set(rows) - expected:
        yield Violation(10, f"{job_id} has a row and was {'erased' if job_id in users.erased else 'never accepted'}")
    for job_id in expected:
        status = facts.workflows[str(job_id)].status if str(job_id) in facts.workflows else "missing"
        if status in {"running", "missing"}:
            yield Violation(10, f"the workflow of {job_id} is {status}")


def _endings(users: Users, rows: Mapping[UUID, JobRecord]) -> Iterator[Violation]:
    """Yield jobs that have neither succeeded nor failed for a reason of their own upload or user.

    Faults of services and workers are no reason, so that a product in which every job fails has as many violations.
    """
    for job_id, row in rows.items():
        upload = users.accepted.get(job_id)
        if upload is None:
            continue
        unreadable = upload.document in users.damaged
        allowed: set[str] = set()
        if unreadable:
            allowed |= {UnreadableDocument.code}
        if upload.cancel_after is not None:
            allowed |= {"job_cancelled"}
        if row.status == "succeeded" and unreadable:
            yield Violation(2, f"{job_id} succeeded although its document cannot be read")
        elif row.status == "failed" and (row.error_code not in allowed or not row.error_message):
            yield Violation(2, f"{job_id} failed with {row.error_code}: {row.error_message}")
        elif row.status not in {"succeeded", "failed"}:
            yield Violation(2, f"{job_id} is still {row.status}")


def _went_back(users: Users, rows: Mapping[UUID, JobRecord], finals: Mapping[UUID, str]) -> Iterator[Violation]:
    for job_id, status in finals.items():
        if job_id in rows and rows[job_id].status != status and job_id not in users.erased:
            yield Violation(6, f"{job_id} was {status} and is {rows[job_id].status}")


async def _texts(world: World, users: Users, rows: Mapping[UUID, JobRecord], facts: Facts) -> list[Violation]:
    """Compare each stored response with that of its document alone, byte for byte."""
    succeeded = {job_id: users.accepted[job_id].document for job_id, row in rows.items() if row.status == "succeeded"}
    stack = world.environment.stack
    client = session_of(stack).client("textract", endpoint_url=stack["AWS_ENDPOINT_URL_TEXTRACT"])

    def read(document: int) -> bytes:
        response = dict(client.detect_document_text(Document={"Bytes": users.body(document)}))
        members = ("DocumentMetadata", "Blocks", "DetectDocumentTextModelVersion")
        return encode_response({name: response[name] for name in members})

    found = []
    alone = {document: await asyncio.to_thread(read, document) for document in sorted(set(succeeded.values()))}
    for job_id, document in succeeded.items():
        kept = facts.objects.get(ocr_key(job_id))
        if kept is None or kept.body != alone[document]:
            found.append(Violation(5, f"{job_id} has another text than its document {document}"))
    return found


def _words(users: Users, facts: Facts) -> Iterator[Violation]:
    """Search logs and histories for documents' words, with one pattern for all."""
    known = {words_of(upload.document) for upload in users.accepted.values()}
    for found in known & set(_WORDS.findall(facts.logs)):
        yield Violation(12, f"a log holds a document's words, {found!r}")
    for job_id, workflow in facts.workflows.items():
        for found in known & set(_WORDS.findall(_text_of(workflow.history))):
            yield Violation(12, f"the history of {job_id} holds a document's words, {found!r}")


def _text_of(history: WorkflowHistory) -> str:
    return "\n".join(event.SerializeToString().decode("latin-1") for event in history.events)
