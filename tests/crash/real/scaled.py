"""Production's policies with shorter waits, for processes that tests kill.

A child's main passes these to the product. Limits on attempts stay the same, so that a job may not fail sooner than in
production.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any

from photo_worker.adapters.times import PostgresTimes, S3Times, ServiceTimes, TextractTimes
from photo_worker.admission import AdmissionTimes
from photo_worker.pipelines import IMAGE, PIPELINES, Pipeline
from photo_worker.policies import IMAGE as IMAGE_POLICIES
from photo_worker.policies import ActivityPolicy, CountedPolicies, ImagePolicies
from photo_worker.worker import WorkerOptions

VARIABLE = "PHOTO_WORKER_TEST_SCALE"


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
    response: float | None = None
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


def scaled(scale: Scale) -> ImagePolicies:
    """Return the image workflow's policies within the bounds."""
    own = IMAGE_POLICIES
    return replace(own, **_bounded(scale, own), counted=replace(own.counted, **_bounded(scale, own.counted)))


def _bounded(scale: Scale, own: ImagePolicies | CountedPolicies) -> dict[str, Any]:
    """Return the policies of the image workflow's activities within the bounds, by activity type."""
    return {step.name: scale.of(getattr(own, step.name)) for step in IMAGE.steps}


def pipelines_of(scale: Scale) -> tuple[Pipeline, ...]:
    """Return the product's pipelines with the policies within the bounds."""
    return tuple(replace(each, policies=scaled(scale)) if each is IMAGE else each for each in PIPELINES)


def options_of(scale: Scale, policies: Mapping[str, object]) -> WorkerOptions:
    """Return the options of a worker whose waits are within the bounds."""
    own = AdmissionTimes()
    return WorkerOptions(
        policies=policies,
        admission=AdmissionTimes(
            first_look=min(own.first_look, scale.look),
            longest_look=min(own.longest_look, scale.look),
            longest_pause=min(own.longest_pause, scale.look),
        ),
        sticky_timeout=timedelta(seconds=scale.sticky),
    )


def longest_count_seconds(scale: Scale) -> float:
    """Return the longest time of an activity with counted attempts: all of them at their limits, and the waits.

    A longer outage fails every job that it meets, unless attempts that meet it are not counted.
    """
    own = scaled(scale).counted
    found = 0.0
    for policy in (own.verify_and_locate_asset, own.ocr_textract, own.persist_artifacts):
        tried = range(2, policy.maximum_attempts + 1)
        waits = sum(policy.wait_before(attempt).total_seconds() for attempt in tried)
        found = max(found, waits + policy.maximum_attempts * policy.start_to_close_timeout.total_seconds())
    return found


def scale_of(variables: Mapping[str, str]) -> Scale | None:
    """Return the scale that these environment variables ask for."""
    text = variables.get(VARIABLE)
    return Scale(**json.loads(text)) if text else None


def times_of(scale: Scale) -> ServiceTimes:
    """Return the limits of waits for services; those of connections and statements are lower, as in the product."""
    if scale.response is None:
        return ServiceTimes()
    sooner = max(round(scale.response * 2 / 3), 1)
    return ServiceTimes(
        postgres=PostgresTimes(pool=sooner, connect=sooner, statement=sooner, response=scale.response),
        s3=S3Times(connect=sooner, read=scale.response),
        textract=TextractTimes(connect=sooner, job_read=scale.response),
    )
