"""External services: the stack uses an endpoint instead of running the service itself.

They are probed like the stack's own services, and the resources that the stack needs are created in them. Nothing
in them is ever deleted, and they are never started or stopped.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlunsplit

from photo_worker.devkit import probes
from photo_worker.devkit.environment import environment_of
from photo_worker.devkit.errors import ExternalInvalid, OfflineRefused, ServiceFailed
from photo_worker.devkit.service_registry import endpoints
from photo_worker.devkit.state import StackRecord
from photo_worker.loopback import is_loopback

if TYPE_CHECKING:
    from photo_worker.devkit.status import ServiceStatus
    from photo_worker.devkit.timeline import Timeline

DEFAULT_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "postgres": 5432}
# The service may be starting right now; a longer wait would only delay the error.
PATIENCE_SECONDS = 10.0
_RESPONSE_SECONDS = 1.0


def forms() -> dict[str, str]:
    """Return the form of each external service's endpoint, in the order in which services are shown."""
    return {name: endpoint.form for name, endpoint in endpoints().items()}


def parse(service: str, endpoint: str) -> str:
    """Return an endpoint in the form used in variables; raises ``ExternalInvalid``, which never shows the input."""
    known = endpoints()
    if service not in known:
        raise ExternalInvalid(service=service, reason=f"the stack has {', '.join(known)}")
    kind, text = known[service], endpoint.strip()
    try:
        url = kind.split(text)
        port = url.port
    except ValueError:
        raise ExternalInvalid(service=service, reason=f"it has to look like {kind.form}") from None
    if not url.hostname or url.scheme not in kind.schemes or port == 0 or re.search(r"\s", text):
        raise ExternalInvalid(service=service, reason=f"it has to look like {kind.form}")
    return kind.parse(text, url)


def require_sns_with_sqs(external: Mapping[str, str]) -> None:
    """Raise ``ExternalInvalid`` if only one of SNS and SQS is external: topic and queue need the same server."""
    for one, other in (("sns", "sqs"), ("sqs", "sns")):
        if one in external and other not in external:
            raise ExternalInvalid(service=one, reason=f"{one} and {other} belong together: name {other} too")


def refuse_offline(external: Mapping[str, str]) -> None:
    """Raise ``OfflineRefused`` for the first endpoint that is not on loopback; does no DNS lookup."""
    for service, endpoint in external.items():
        host = endpoints()[service].split(endpoint).hostname or ""
        if not is_loopback(host):
            raise OfflineRefused(what=f"{service} at {host}")


def external_services(record: StackRecord) -> list[ExternalService]:
    """Return the external services of a stack."""
    return [ExternalService(name, record.external[name], record) for name in endpoints() if name in record.external]


def make_ready(record: StackRecord, timeline: Timeline, seconds: float = PATIENCE_SECONDS) -> StackRecord:
    """Probe all external services at the same time, and return the record with the names that they chose.

    Raises ``ServiceFailed`` if one cannot be used within ``seconds``, or a more specific error.
    """
    externals = external_services(record)
    outcomes: queue.SimpleQueue[dict[str, str] | BaseException] = queue.SimpleQueue()
    for external in externals:
        # Daemon threads: an interrupt must not wait for a client's own timeout.
        threading.Thread(target=_report, args=(external, timeline, seconds, outcomes), daemon=True).start()
    found: dict[str, str] = {}
    for _ in externals:
        outcome = outcomes.get()
        if isinstance(outcome, BaseException):
            raise outcome
        found |= outcome
    return record.with_(found=found)


def _report(
    external: ExternalService,
    timeline: Timeline,
    seconds: float,
    outcomes: queue.SimpleQueue[dict[str, str] | BaseException],
) -> None:
    try:
        outcomes.put(_made_ready(external, timeline, seconds))
    except BaseException as error:
        outcomes.put(error)


def _made_ready(external: ExternalService, timeline: Timeline, seconds: float) -> dict[str, str]:
    from photo_worker.devkit.readiness import NotReady

    deadline = time.monotonic() + seconds
    with timeline.span(external.name, "external round trip"):
        while True:
            try:
                return external.probe_ready()
            except NotReady as error:
                if time.monotonic() > deadline:
                    reason = f"{external.url} is not the stack's own, and cannot be used: {str(error).rstrip('.')}"
                    raise ServiceFailed(service=external.name, reason=reason, log="") from error
                time.sleep(0.1)


@dataclass(frozen=True)
class ExternalService:
    """One external service."""

    name: str
    endpoint: str = field(repr=False)
    record: StackRecord = field(repr=False)
    response_seconds: float = _RESPONSE_SECONDS
    """How long ``is_alive`` waits for a response."""

    @property
    def _url(self) -> SplitResult:
        return endpoints()[self.name].split(self.endpoint)

    @property
    def url(self) -> str:
        """The endpoint as a URL without its password."""
        url = self._url
        if url.password is None:
            return self.endpoint
        host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
        at = host if url.port is None else f"{host}:{url.port}"
        # The query may hold a password as well.
        return urlunsplit(url._replace(netloc=f"{url.username}@{at}", query=""))

    @property
    def port(self) -> int:
        """The endpoint's port; the scheme's default if none is given."""
        url = self._url
        return url.port or DEFAULT_PORTS[url.scheme]

    def probe_ready(self) -> dict[str, str]:
        """Do one real round trip, creating what the stack needs; return the variables whose values the service chose.

        Raises ``NotReady``, or a specific error if a retry cannot help.
        """
        return endpoints()[self.name].probe_ready(environment_of(self.record))

    def is_alive(self) -> bool:
        """Return whether the service responds within ``response_seconds``."""
        url = self._url
        greeting = endpoints()[self.name].greeting(url)
        return probes.responds(
            url.hostname or "", self.port, greeting, tls=url.scheme == "https", timeout=self.response_seconds
        )

    def status(self) -> ServiceStatus:
        """Return its line of ``photo-worker status``: running or silent, without a process."""
        from photo_worker.devkit.status import ServiceStatus

        return ServiceStatus(
            name=self.name,
            state="running" if self.is_alive() else "silent",
            version="external",
            url=self.url,
            port=self.port,
            pid=None,
            uptime_seconds=None,
            exit_code=None,
        )


def describe(services: Iterable[str]) -> str:
    """Join service names for a sentence: a, b and c."""
    names = [name for name in endpoints() if name in set(services)]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
