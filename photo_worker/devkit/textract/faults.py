"""The fault script: which calls, jobs and notifications go wrong, chosen so that a run can be repeated.

A script is a seed and a list of rules. Whether a rule of some probability takes a call follows from the
seed, the rule's place, what the call is about and how many such calls there were, and from nothing else:
the same script and the same calls give the same faults, whatever else happens at the same time.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, Literal

from photo_worker.devkit.textract.failures import (
    INTERNAL_FAULT,
    PROVISIONED_THROUGHPUT_EXCEEDED,
    THROTTLED,
    ErrorResponse,
)


class Kind(StrEnum):
    """What a rule does."""

    THROTTLE = "throttle"
    PROVISIONED_THROUGHPUT = "provisioned-throughput"
    INTERNAL_ERROR = "internal-error"
    SLOW = "slow"
    JOB_FAILS = "job-fails"
    JOB_PARTIAL = "job-partial"
    JOB_SLOW = "job-slow"
    NOTIFICATION_LATE = "notification-late"
    NOTIFICATION_DOUBLED = "notification-doubled"
    NOTIFICATION_LOST = "notification-lost"
    NOTIFICATION_OUT_OF_ORDER = "notification-out-of-order"


_FAILURES: Mapping[Kind, ErrorResponse] = {
    Kind.THROTTLE: THROTTLED,
    Kind.PROVISIONED_THROUGHPUT: PROVISIONED_THROUGHPUT_EXCEEDED,
    Kind.INTERNAL_ERROR: INTERNAL_FAULT,
}
REQUEST_KINDS = frozenset({*_FAILURES, Kind.SLOW})
JOB_KINDS = frozenset({Kind.JOB_FAILS, Kind.JOB_PARTIAL, Kind.JOB_SLOW})
NOTIFICATION_KINDS = frozenset(Kind) - REQUEST_KINDS - JOB_KINDS
TIMED_KINDS = frozenset({Kind.SLOW, Kind.JOB_SLOW, Kind.NOTIFICATION_LATE})

# No words of the real service's are known for a job that failed.
DEFAULT_STATUS_MESSAGE = "The emulator was told to fail this job"


@dataclass(frozen=True)
class RequestFault:
    """Wait ``seconds`` before the call is looked at; then answer with ``failure``, where there is one."""

    seconds: float = 0.0
    failure: ErrorResponse | None = None


@dataclass(frozen=True)
class JobFault:
    """What becomes of a job instead of SUCCEEDED.

    ``seconds`` is how much longer it stays IN_PROGRESS. ``status`` None leaves its end as it is. A job of
    PARTIAL_SUCCESS has the first ``pages`` pages, and ``status_message`` is never empty with a status.
    """

    seconds: float = 0.0
    status: Literal["FAILED", "PARTIAL_SUCCESS"] | None = None
    status_message: str = ""
    pages: int = 0


@dataclass(frozen=True)
class NotificationFault:
    """What becomes of one notification: ``copies`` is 0 where it is lost, 2 where it is doubled.

    ``held`` keeps it back until the next notification has gone out, so that the two change places.
    """

    seconds: float = 0.0
    copies: int = 1
    held: bool = False


@dataclass(frozen=True)
class FaultRule:
    """One line of the script. Where ``operations`` or ``document`` is empty, it is about all of them.

    It takes the matching calls whose number (from 1) is in ``calls``, or each with ``probability``, and at
    most ``times`` of them. ``document`` is a shell pattern for a document's name, the key in S3 or
    ``s3://bucket/key``. ``seconds``, ``message`` and ``pages`` belong to the kinds that have a use for them.
    """

    kind: Kind
    operations: tuple[str, ...] = ()
    document: str = ""
    probability: float = 1.0
    calls: tuple[int, ...] = ()
    times: int | None = None
    seconds: float = 0.0
    message: str = DEFAULT_STATUS_MESSAGE
    pages: int = 1

    def about(self, operation: str, document: str | None) -> bool:
        """Say whether a call for an operation, and a document where one is known, is the rule's business."""
        if self.operations and operation not in self.operations:
            return False
        if not self.document:
            return True
        return document is not None and (
            fnmatchcase(document, self.document) or fnmatchcase(_key(document), self.document)
        )


@dataclass
class _Progress:
    """How far one rule is."""

    since: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    seen: int = 0
    taken: int = 0
    seen_by: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Script:
    """A seed and rules in their order of precedence."""

    seed: int = 0
    rules: tuple[FaultRule, ...] = ()


class FaultInjector:
    """A script and how far it is. Its methods belong to one thread, the event loop's."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or Script()
        self._progress = [_Progress() for _ in self.script.rules]

    def replace(self, script: Script) -> None:
        """Begin another script, its counts at zero."""
        self.script = script
        self._progress = [_Progress() for _ in script.rules]

    def extend(self, script: Script, *, seed: int | None) -> None:
        """Add a script's rules after those there are, which go on from where they are; a ``seed`` counts for all."""
        self.script = Script(self.script.seed if seed is None else seed, (*self.script.rules, *script.rules))
        self._progress += [_Progress() for _ in script.rules]

    def for_request(self, operation: str) -> RequestFault | None:
        """Return what befalls a call; the first rule with a failure ends the search, waits add up."""
        seconds = 0.0
        for rule in self._taken(REQUEST_KINDS, operation, None):
            if rule.kind in _FAILURES:
                return RequestFault(seconds, _FAILURES[rule.kind])
            seconds += rule.seconds
        return RequestFault(seconds) if seconds else None

    def for_job(self, operation: str, document_name: str) -> JobFault | None:
        """Return what becomes of a job that the Start ``operation`` begins. Ask once a job."""
        seconds = 0.0
        for rule in self._taken(JOB_KINDS, operation, document_name):
            match rule.kind:
                case Kind.JOB_FAILS:
                    return JobFault(seconds, "FAILED", rule.message)
                case Kind.JOB_PARTIAL:
                    return JobFault(seconds, "PARTIAL_SUCCESS", rule.message, rule.pages)
            seconds += rule.seconds
        return JobFault(seconds) if seconds else None

    def for_notification(self, operation: str, document_name: str | None = None) -> NotificationFault | None:
        """Return what becomes of the notification of a job that ``operation`` began. Ask once a notification."""
        seconds, copies, held = 0.0, 1, False
        rules = list(self._taken(NOTIFICATION_KINDS, operation, document_name))
        for rule in rules:
            match rule.kind:
                case Kind.NOTIFICATION_LOST:
                    copies = 0
                case Kind.NOTIFICATION_DOUBLED:
                    copies = 2 * copies
                case Kind.NOTIFICATION_OUT_OF_ORDER:
                    held = True
            seconds += rule.seconds
        return NotificationFault(seconds, copies, held) if rules else None

    def shown(self) -> dict[str, Any]:
        """Return the script as JSON data, and for each rule since when it is there and what it saw and took."""
        return {
            "seed": self.script.seed,
            "rules": [
                {**_shown(rule), "since": progress.since, "seen": progress.seen, "taken": progress.taken}
                for rule, progress in zip(self.script.rules, self._progress, strict=True)
            ],
        }

    def _taken(self, kinds: frozenset[Kind], operation: str, document: str | None) -> Iterable[FaultRule]:
        """Yield the rules that take this call, counting; those after the one a caller stops at do not count it."""
        for index, (rule, progress) in enumerate(zip(self.script.rules, self._progress, strict=True)):
            if rule.kind not in kinds or not rule.about(operation, document):
                continue
            progress.seen += 1
            subject = f"{operation} {document or ''}"
            progress.seen_by[subject] += 1
            if rule.times is not None and progress.taken >= rule.times:
                continue
            if rule.calls:
                chosen = progress.seen in rule.calls
            else:
                chosen = _draw(self.script.seed, index, subject, progress.seen_by[subject]) < rule.probability
            if chosen:
                progress.taken += 1
                yield rule


def _draw(seed: int, rule: int, subject: str, number: int) -> float:
    """Return a number in [0, 1) that follows from the arguments alone."""
    digest = hashlib.sha256(f"{seed} {rule} {number} {subject}".encode(errors="backslashreplace")).digest()
    # 53 bits: with more, the division could round up to 1.
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)


def _key(document: str) -> str:
    """Return the key of ``s3://bucket/key``."""
    return document.removeprefix("s3://").partition("/")[2] if document.startswith("s3://") else document


def _shown(rule: FaultRule) -> dict[str, Any]:
    shown: dict[str, Any] = {"kind": rule.kind.value}
    if rule.operations:
        shown["operations"] = list(rule.operations)
    if rule.document:
        shown["document"] = rule.document
    if rule.calls:
        shown["calls"] = list(rule.calls)
    else:
        shown["probability"] = rule.probability
    if rule.times is not None:
        shown["times"] = rule.times
    if rule.kind in TIMED_KINDS:
        shown["seconds"] = rule.seconds
    if rule.kind in {Kind.JOB_FAILS, Kind.JOB_PARTIAL}:
        shown["message"] = rule.message
    if rule.kind is Kind.JOB_PARTIAL:
        shown["pages"] = rule.pages
    return shown
