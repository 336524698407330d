"""Fault injection: a script selects the calls, jobs and notifications that fail, reproducibly.

A script is a seed and a list of rules. Whether a rule with a probability applies to a call depends only on the
seed, the rule's index, the call's operation and document, and the number of such calls before: the same script
and the same calls give the same faults, whatever else happens at the same time.
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

from textract_local.server.failures import (
    INTERNAL_FAULT,
    PROVISIONED_THROUGHPUT_EXCEEDED,
    THROTTLED,
    ErrorResponse,
)


class FaultKind(StrEnum):
    """The kinds of faults."""

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


_FAILURES: Mapping[FaultKind, ErrorResponse] = {
    FaultKind.THROTTLE: THROTTLED,
    FaultKind.PROVISIONED_THROUGHPUT: PROVISIONED_THROUGHPUT_EXCEEDED,
    FaultKind.INTERNAL_ERROR: INTERNAL_FAULT,
}
REQUEST_KINDS = frozenset({*_FAILURES, FaultKind.SLOW})
JOB_KINDS = frozenset({FaultKind.JOB_FAILS, FaultKind.JOB_PARTIAL, FaultKind.JOB_SLOW})
NOTIFICATION_KINDS = frozenset(FaultKind) - REQUEST_KINDS - JOB_KINDS
TIMED_KINDS = frozenset({FaultKind.SLOW, FaultKind.JOB_SLOW, FaultKind.NOTIFICATION_LATE})

# The real service's message for a failed job is not known.
DEFAULT_STATUS_MESSAGE = "The emulator was told to fail this job"


@dataclass(frozen=True)
class RequestFault:
    """Wait ``seconds`` before the call is handled; then respond with ``failure``, if there is one."""

    seconds: float = 0.0
    failure: ErrorResponse | None = None


@dataclass(frozen=True)
class JobFault:
    """The fault of a job.

    ``seconds`` is how much longer it stays IN_PROGRESS. With ``status`` None it ends as it would without the fault.
    A job of PARTIAL_SUCCESS has the first ``pages`` pages. ``status_message`` is never empty if ``status`` is set.
    """

    seconds: float = 0.0
    status: Literal["FAILED", "PARTIAL_SUCCESS"] | None = None
    status_message: str = ""
    pages: int = 0


@dataclass(frozen=True)
class NotificationFault:
    """The fault of one notification: ``copies`` is 0 if it is lost, 2 if it is doubled.

    ``held`` delays it until the next notification has been sent, so that the two change places.
    """

    seconds: float = 0.0
    copies: int = 1
    held: bool = False


@dataclass(frozen=True)
class FaultRule:
    """One rule of the script. If ``operations`` or ``document`` is empty, it matches all of them.

    It applies to the matching calls whose number (from 1) is in ``calls``, or to each with ``probability``, and to
    at most ``times`` of them. ``document`` is a shell pattern for a document's name: the key in S3 or
    ``s3://bucket/key``. ``seconds``, ``message`` and ``pages`` are for the kinds that use them.
    """

    kind: FaultKind
    operations: tuple[str, ...] = ()
    document: str = ""
    probability: float = 1.0
    calls: tuple[int, ...] = ()
    times: int | None = None
    seconds: float = 0.0
    message: str = DEFAULT_STATUS_MESSAGE
    pages: int = 1

    def matches(self, operation: str, document: str | None) -> bool:
        """Return whether the rule matches a call of an operation, and its document if that is known."""
        if self.operations and operation not in self.operations:
            return False
        if not self.document:
            return True
        return document is not None and (
            fnmatchcase(document, self.document) or fnmatchcase(_key(document), self.document)
        )


@dataclass
class _Progress:
    """The counts of one rule."""

    since: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    seen: int = 0
    taken: int = 0
    seen_by: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class FaultScript:
    """A seed and rules in their order of precedence."""

    seed: int = 0
    rules: tuple[FaultRule, ...] = ()


class FaultInjector:
    """A script and the counts of its rules. Not thread-safe: call it from the event loop."""

    def __init__(self, script: FaultScript | None = None) -> None:
        self.script = script or FaultScript()
        self._progress = [_Progress() for _ in self.script.rules]

    def replace(self, script: FaultScript) -> None:
        """Start another script with all counts at zero."""
        self.script = script
        self._progress = [_Progress() for _ in script.rules]

    def extend(self, script: FaultScript, *, seed: int | None) -> None:
        """Append a script's rules; the others keep their counts. A ``seed`` replaces that of all rules."""
        self.script = FaultScript(self.script.seed if seed is None else seed, (*self.script.rules, *script.rules))
        self._progress += [_Progress() for _ in script.rules]

    def for_request(self, operation: str) -> RequestFault | None:
        """Return the fault of a call. Delays add up until the first rule with a failure, which ends the search."""
        seconds = 0.0
        for rule in self._taken(REQUEST_KINDS, operation, None):
            if rule.kind in _FAILURES:
                return RequestFault(seconds, _FAILURES[rule.kind])
            seconds += rule.seconds
        return RequestFault(seconds) if seconds else None

    def for_job(self, operation: str, document_name: str) -> JobFault | None:
        """Return the fault of a job that the Start ``operation`` begins. Call it once per job: it counts."""
        seconds = 0.0
        for rule in self._taken(JOB_KINDS, operation, document_name):
            match rule.kind:
                case FaultKind.JOB_FAILS:
                    return JobFault(seconds, "FAILED", rule.message)
                case FaultKind.JOB_PARTIAL:
                    return JobFault(seconds, "PARTIAL_SUCCESS", rule.message, rule.pages)
            seconds += rule.seconds
        return JobFault(seconds) if seconds else None

    def for_notification(self, operation: str, document_name: str | None = None) -> NotificationFault | None:
        """Return the fault of the notification of a job. Call it once per notification: it counts."""
        seconds, copies, held = 0.0, 1, False
        rules = list(self._taken(NOTIFICATION_KINDS, operation, document_name))
        for rule in rules:
            match rule.kind:
                case FaultKind.NOTIFICATION_LOST:
                    copies = 0
                case FaultKind.NOTIFICATION_DOUBLED:
                    copies = 2 * copies
                case FaultKind.NOTIFICATION_OUT_OF_ORDER:
                    held = True
            seconds += rule.seconds
        return NotificationFault(seconds, copies, held) if rules else None

    def shown(self) -> dict[str, Any]:
        """Return the script as JSON data. Each rule has the time it was set and its counts ``seen`` and ``taken``."""
        return {
            "seed": self.script.seed,
            "rules": [
                {**_shown(rule), "since": progress.since, "seen": progress.seen, "taken": progress.taken}
                for rule, progress in zip(self.script.rules, self._progress, strict=True)
            ],
        }

    def _taken(self, kinds: frozenset[FaultKind], operation: str, document: str | None) -> Iterable[FaultRule]:
        """Yield the rules that apply to this call, and count it; rules after the last one consumed do not count it."""
        for index, (rule, progress) in enumerate(zip(self.script.rules, self._progress, strict=True)):
            if rule.kind not in kinds or not rule.matches(operation, document):
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
    """Return a number in [0, 1) that depends on the arguments alone."""
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
    if rule.kind in {FaultKind.JOB_FAILS, FaultKind.JOB_PARTIAL}:
        shown["message"] = rule.message
    if rule.kind is FaultKind.JOB_PARTIAL:
        shown["pages"] = rule.pages
    return shown
