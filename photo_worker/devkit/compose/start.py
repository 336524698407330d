"""Wait until every container of a stack is usable from this machine, as its users will use it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import partial

from photo_worker.devkit.compose.output import shown
from photo_worker.devkit.concurrency import Cancelled, run_all
from photo_worker.devkit.container_engine import ContainerEngine
from photo_worker.devkit.containers import Container, containers, details
from photo_worker.devkit.errors import ServiceFailed
from photo_worker.devkit.service import Service
from photo_worker.devkit.state import StackRecord
from photo_worker.devkit.timeline import Timeline

# Containers seldom end or become unhealthy; a request costs the engine some milliseconds.
_LOOK_SECONDS = 0.25
_POLL_SECONDS = 0.05


class ReadinessWait:
    """Waits for the services of one start, each in its own thread."""

    def __init__(
        self,
        engine: ContainerEngine,
        project: str,
        record: StackRecord,
        services: Sequence[Service],
        timeline: Timeline,
        seconds: float,
    ) -> None:
        self._engine = engine
        self._project = project
        self._record = record
        self._services = services
        self._timeline = timeline
        self._seconds = seconds
        self._cancelled = threading.Event()
        self._guard = threading.Lock()
        self._looked = float("-inf")
        self._seen: dict[str, Container] = {}

    def wait(self) -> None:
        """Return when each service has done a real round trip and its own health check agrees.

        Raises the first failure, mostly ``ServiceFailed``: a container has ended, is unhealthy, or was
        not usable in time.
        """
        run_all([partial(self._make_ready, service) for service in self._services], self._cancelled)

    def _make_ready(self, service: Service) -> None:
        from photo_worker.devkit.readiness import NotReady

        deadline = time.monotonic() + self._seconds
        with self._timeline.span(service.name, "load client"):
            service.warm_imports()
        with self._timeline.span(service.name, "answer"):
            while not service.is_alive(self._record):
                self._give_up(service, deadline, f"nothing responds on port {self._record.ports[service.uses[0]]}")
        with self._timeline.span(service.name, "round trip"):
            while True:
                try:
                    service.probe_ready(self._record)
                except NotReady as error:
                    self._give_up(service, deadline, str(error))
                else:
                    break
        with self._timeline.span(service.name, "healthy"):
            # A container whose image has no health check counts as healthy.
            while (found := self._container(service)) is not None and found.health == "starting":
                self._give_up(service, deadline, "its health check has not passed")

    def _give_up(self, service: Service, deadline: float, reason: str) -> None:
        """Sleep until the next attempt; raise if waiting longer cannot help."""
        if self._cancelled.wait(_POLL_SECONDS):
            raise Cancelled
        found = self._container(service)
        said: str | None = None
        if found is None:
            said = "it has no container"
        elif found.state in {"exited", "dead", "removing"}:
            said = f"its container ended with code {found.exit_code}"
        elif found.health == "unhealthy":
            closer = details(self._engine, [found]).get(service.name)
            heard = closer.health_said if closer is not None else None
            said = f"its container is unhealthy: {heard or 'its health check says nothing'}"
        elif time.monotonic() > deadline:
            said = f"{reason} after {self._seconds:g} seconds"
        if said is not None:
            log = "" if found is None else shown(self._engine, found)
            raise ServiceFailed(service=service.name, reason=said, log=log)

    def _container(self, service: Service) -> Container | None:
        """Return the service's container from a list that is at most a moment old and shared by all threads."""
        with self._guard:
            if time.monotonic() - self._looked > _LOOK_SECONDS:
                self._seen = containers(self._engine, self._project)
                self._looked = time.monotonic()
            return self._seen.get(service.name)
