"""Production's policies with shorter waits, for processes that tests kill.

The product does not read these: a child's main replaces the constants by them before its worker starts. Limits on
attempts stay the same, so that a job may not fail sooner than in production.
"""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

import photo_worker.worker
from photo_worker import admission, policies
from photo_worker.adapters.ocr import textract
from photo_worker.adapters.postgres import connection as pg_connection
from photo_worker.adapters.postgres import job_repository as postgres
from photo_worker.adapters.s3 import object_store as s3_boto
from photo_worker.policies import ActivityPolicy, CountedPolicies

VARIABLE = "PHOTO_WORKER_TEST_SCALE"

POLICIES = ("VERIFY", "OCR", "PERSIST", "RECORD_FAILURE")


@dataclass(frozen=True)
class Scale:
    """Upper bounds of the policies in seconds; a policy with a lower value keeps it."""

    heartbeat: float = 2.0
    start_to_close: float = 3.0
    initial_interval: float = 0.2
    maximum_interval: float = 1.0
    sticky: float = 1.0
    """The time after which a dead worker's workflow task is given to another worker."""
    look: float = 1.0
    """Bounds the waits between two checks of a service that is away, and between attempts of a held-back activity."""
    answer: float | None = None
    """The timeout for a response of Postgres, S3 or Textract; None keeps the product's timeouts."""

    def as_variables(self) -> dict[str, str]:
        """Return the environment variable that passes it to a child."""
        return {VARIABLE: json.dumps(asdict(self))}

    def of(self, policy: ActivityPolicy) -> ActivityPolicy:
        """Return the policy within these bounds.

        A policy with a heartbeat keeps three times the bound for an attempt: the heartbeat detects a death.
        """
        beats = policy.heartbeat_timeout is not None
        return replace(
            policy,
            heartbeat_timeout=_least(policy.heartbeat_timeout, self.heartbeat) if policy.heartbeat_timeout else None,
            start_to_close_timeout=_least(policy.start_to_close_timeout, self.start_to_close * (3 if beats else 1)),
            initial_interval=_least(policy.initial_interval, self.initial_interval),
            maximum_interval=_least(policy.maximum_interval, self.maximum_interval),
        )


def _least(value: timedelta, seconds: float) -> timedelta:
    return min(value, timedelta(seconds=seconds))


def scaled(scale: Scale) -> dict[str, ActivityPolicy]:
    """Return every policy of the product within the bounds, by its constant's name."""
    return {name: scale.of(getattr(policies, name)) for name in POLICIES}


def counted(scale: Scale) -> CountedPolicies:
    """Return the policies of counted attempts, within the bounds."""
    own = policies.COUNTED
    return CountedPolicies(
        verify=scale.of(own.verify),
        ocr=scale.of(own.ocr),
        persist=scale.of(own.persist),
        record_failure=scale.of(own.record_failure),
    )


def longest_count_seconds(scale: Scale) -> float:
    """Return the longest time of an activity with counted attempts: all of them at their limits, and the waits.

    A longer outage fails every job that it meets, unless attempts that meet it are not counted.
    """
    own = counted(scale)
    found = 0.0
    for policy in (own.verify, own.ocr, own.persist):
        tried = range(2, policy.maximum_attempts + 1)
        waits = sum(policy.wait_before(attempt).total_seconds() for attempt in tried)
        found = max(found, waits + policy.maximum_attempts * policy.start_to_close_timeout.total_seconds())
    return found


def install(variables: dict[str, str]) -> None:
    """Scale down the policies of this process if its environment variables ask for it."""
    text = variables.get(VARIABLE)
    if not text:
        return
    scale = Scale(**json.loads(text))
    shorter_counted = counted(scale)
    for name, policy in scaled(scale).items():
        setattr(policies, name, policy)
    setattr(policies, "COUNTED", shorter_counted)  # noqa: B010 - a constant to a type checker
    for name in ("FIRST_LOOK_SECONDS", "LONGEST_LOOK_SECONDS", "LONGEST_PAUSE_SECONDS"):
        setattr(admission, name, min(getattr(admission, name), scale.look))
    if scale.answer is not None:
        _answer_within(scale.answer)
    shorter = functools.partial(
        photo_worker.worker.Worker,  # type: ignore[attr-defined]
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=scale.sticky),
        # The sandbox imports the product's modules again with their constants; it must reuse this one.
        workflow_runner=SandboxedWorkflowRunner(
            SandboxRestrictions.default.with_passthrough_modules(policies.__name__)
        ),
    )
    setattr(photo_worker.worker, "Worker", shorter)  # noqa: B010 - a type checker knows it as a class


def _answer_within(seconds: float) -> None:
    """Set the timeout of every call of a service; that of connections and statements is lower, as in the product."""
    sooner = max(round(seconds * 2 / 3), 1)
    _default(s3_boto.make_client, connect_timeout=sooner, read_timeout=seconds)
    _default(
        postgres.make_pool, timeout=sooner, connect_timeout=sooner, statement_timeout=sooner, answer_timeout=seconds
    )
    _default(pg_connection.connect, patience=seconds)
    pg_connection.LimitedConnection.patience = seconds
    pg_connection.CONNECT_TIMEOUT_SECONDS = sooner
    textract.CONNECT_TIMEOUT_SECONDS = sooner
    setattr(textract, "JOB_READ_TIMEOUT_SECONDS", seconds)  # noqa: B010 - an int to a type checker


def _default(function: Any, **seconds: float) -> None:
    """Change existing defaults of a function's parameters."""
    known = function.__kwdefaults__
    if not known.keys() >= seconds.keys():
        raise TypeError(f"{function.__name__} has no such defaults: {seconds}")
    known.update(seconds)
