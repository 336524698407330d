"""Production's policies with shorter waits, for processes that are there to be killed.

Nothing in the product reads these: a child's main puts them in place of the constants before its worker starts.
Limits on attempts stay as they are, so that a job may fail no sooner than in production.
"""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass, replace
from datetime import timedelta

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

import photo_worker.worker
from photo_worker import policies
from photo_worker.policies import ActivityPolicy

VARIABLE = "PHOTO_WORKER_TEST_SCALE"

POLICIES = ("VERIFY", "OCR", "PERSIST", "RECORD_FAILURE")


@dataclass(frozen=True)
class Scale:
    """Bounds in seconds on what the policies say; a policy that says less keeps its own."""

    heartbeat: float = 2.0
    start_to_close: float = 3.0
    initial_interval: float = 0.2
    maximum_interval: float = 1.0
    sticky: float = 1.0
    """After which a dead worker's workflow task is given to another."""

    def as_variables(self) -> dict[str, str]:
        """Return the variable that carries it to a child."""
        return {VARIABLE: json.dumps(asdict(self))}

    def of(self, policy: ActivityPolicy) -> ActivityPolicy:
        """Return the policy within these bounds.

        A policy with a heartbeat keeps three times the time for an attempt: the heartbeat tells of a death.
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


def install(variables: dict[str, str]) -> None:
    """Scale the policies of this process down, where its variables ask for it."""
    text = variables.get(VARIABLE)
    if not text:
        return
    scale = Scale(**json.loads(text))
    for name, policy in scaled(scale).items():
        setattr(policies, name, policy)
    shorter = functools.partial(
        photo_worker.worker.Worker,  # type: ignore[attr-defined]
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=scale.sticky),
        # The sandbox imports the product's modules anew, constants and all; this one it shall take from here.
        workflow_runner=SandboxedWorkflowRunner(
            SandboxRestrictions.default.with_passthrough_modules(policies.__name__)
        ),
    )
    setattr(photo_worker.worker, "Worker", shorter)  # noqa: B010 - a type checker knows it as a class
