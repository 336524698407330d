"""Hold attempts at a crash point until they are released, so that jobs are at known steps."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from temporalio import activity
from temporalio.exceptions import ApplicationError

from photo_worker.crash_points import CrashPoint, Phase

VARIABLE = "PHOTO_WORKER_TEST_HOLDS"

_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Holds:
    """The crash point before which each job's attempts are held, as long as ``directory`` has no file ``go``."""

    places: Mapping[UUID, CrashPoint]
    directory: Path

    def as_variables(self) -> dict[str, str]:
        """Return the environment variable that passes it to a worker."""
        places = {str(job_id): point.value for job_id, point in self.places.items()}
        return {VARIABLE: json.dumps({"places": places, "directory": str(self.directory)})}

    def held(self) -> bool:
        """Return whether every job has reached its point."""
        return all((self.directory / str(job_id)).exists() for job_id in self.places)

    def release(self) -> None:
        """Release all attempts."""
        (self.directory / "go").touch()


class Holder:
    """Holds the attempts of a ``Holds``; passed to ``crash_points.armed``."""

    def __init__(self, holds: Holds) -> None:
        self._holds = holds

    def __call__(self, point: CrashPoint, phase: Phase) -> None:
        """Wait if this is the point of the attempt's job, sending heartbeats."""
        if phase is not Phase.BEFORE or not activity.in_activity():
            return
        job_id = activity.info().workflow_id or ""
        if self._holds.places.get(UUID(job_id)) is not point:
            return
        (self._holds.directory / job_id).touch()
        limit = activity.info().start_to_close_timeout
        over = time.monotonic() + limit.total_seconds() if limit else float("inf")
        while not (self._holds.directory / "go").exists():
            if time.monotonic() > over:
                # The server has timed it out: the next attempt waits here by now, and needs the thread.
                raise ApplicationError("held for too long", type="held")
            activity.heartbeat()
            time.sleep(_LOOK_SECONDS)


def holder_of(variables: Mapping[str, str]) -> Holder | None:
    """Return the holder of a worker's environment variables, None without one."""
    text = variables.get(VARIABLE)
    if not text:
        return None
    asked = json.loads(text)
    places = {UUID(job_id): CrashPoint(point) for job_id, point in asked["places"].items()}
    return Holder(Holds(places, Path(asked["directory"])))
