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
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from photo_worker.devkit import probes
from photo_worker.devkit.environment import environment_of
from photo_worker.devkit.state import StackRecord
from photo_worker.loopback import is_loopback
from photo_worker.stack_errors import ExternalInvalid, OfflineRefused, ServiceFailed

if TYPE_CHECKING:
    from photo_worker.devkit.status import ServiceStatus
    from photo_worker.devkit.timeline import Timeline

# The form of each service's endpoint; in the order in which services are shown.
FORMS = {
    "temporal": "HOST:PORT",
    "postgres": "postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
    "s3": "http://HOST:PORT",
    "sns": "http://HOST:PORT",
    "sqs": "http://HOST:PORT",
    "textract": "http://HOST:PORT",
}
_DEFAULT_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "postgres": 5432}
_HOST_AND_PORT = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s/:@\[\]]+):\d{1,5}")
# The service may be starting right now; a longer wait would only delay the error.
PATIENCE_SECONDS = 10.0
_ANSWER_SECONDS = 1.0


def parse(service: str, endpoint: str) -> str:
    """Return an endpoint in the form used in variables; raises ``ExternalInvalid``, which never shows the input."""
    form = FORMS.get(service)
    if form is None:
        raise ExternalInvalid(service=service, reason=f"the stack has {', '.join(FORMS)}")
    text = endpoint.strip()
    try:
        url = _split(service, text)
        port = url.port
    except ValueError:
        raise ExternalInvalid(service=service, reason=f"it has to look like {form}") from None
    whole = service != "temporal" or bool(_HOST_AND_PORT.fullmatch(text))
    schemes = {"temporal": {""}, "postgres": {"postgresql", "postgres"}}.get(service, {"http", "https"})
    if not whole or not url.hostname or url.scheme not in schemes or port == 0 or re.search(r"\s", text):
        raise ExternalInvalid(service=service, reason=f"it has to look like {form}")
    if service == "postgres" and (not url.username or not re.fullmatch(r"/[^/]+", url.path)):
        raise ExternalInvalid(service=service, reason=f"it needs a user and a database: {form}")
    if service not in {"temporal", "postgres"}:
        if url.username is not None or url.query or url.fragment:
            reason = f"credentials belong in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; it has to look like {form}"
            raise ExternalInvalid(service=service, reason=reason)
        return text.rstrip("/")
    return text


def require_sns_with_sqs(endpoints: Mapping[str, str]) -> None:
    """Raise ``ExternalInvalid`` if only one of SNS and SQS is external: topic and queue need the same server."""
    for one, other in (("sns", "sqs"), ("sqs", "sns")):
        if one in endpoints and other not in endpoints:
            raise ExternalInvalid(service=one, reason=f"{one} and {other} belong together: name {other} too")


def refuse_offline(endpoints: Mapping[str, str]) -> None:
    """Raise ``OfflineRefused`` for the first endpoint that is not on loopback; does no DNS lookup."""
    for service, endpoint in endpoints.items():
        host = _split(service, endpoint).hostname or ""
        if not is_loopback(host):
            raise OfflineRefused(what=f"{service} at {host}")


def external_services(record: StackRecord) -> list[ExternalService]:
    """Return the external services of a stack."""
    return [ExternalService(name, record.external[name], record) for name in FORMS if name in record.external]


def make_ready(record: StackRecord, timeline: Timeline) -> StackRecord:
    """Probe all external services at the same time, and return the record with the names that they chose.

    Raises ``ServiceFailed`` if one cannot be used within ``PATIENCE_SECONDS``, or a more specific error.
    """
    externals = external_services(record)
    outcomes: queue.SimpleQueue[dict[str, str] | BaseException] = queue.SimpleQueue()
    for external in externals:
        # Daemon threads: an interrupt must not wait for a client's own timeout.
        threading.Thread(target=_report, args=(external, timeline, outcomes), daemon=True).start()
    found: dict[str, str] = {}
    for _ in externals:
        outcome = outcomes.get()
        if isinstance(outcome, BaseException):
            raise outcome
        found |= outcome
    return record.with_(found=found)


def _report(
    external: ExternalService, timeline: Timeline, outcomes: queue.SimpleQueue[dict[str, str] | BaseException]
) -> None:
    try:
        outcomes.put(_made_ready(external, timeline))
    except BaseException as error:
        outcomes.put(error)


def _made_ready(external: ExternalService, timeline: Timeline) -> dict[str, str]:
    from photo_worker.devkit.readiness import NotReady

    deadline = time.monotonic() + PATIENCE_SECONDS
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

    @property
    def url(self) -> str:
        """The endpoint as a URL without its password."""
        url = _split(self.name, self.endpoint)
        if url.password is None:
            return self.endpoint
        host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
        at = host if url.port is None else f"{host}:{url.port}"
        # The query may hold a password as well.
        return urlunsplit(url._replace(netloc=f"{url.username}@{at}", query=""))

    @property
    def port(self) -> int:
        """The endpoint's port; the scheme's default if none is given."""
        url = _split(self.name, self.endpoint)
        return url.port or _DEFAULT_PORTS[url.scheme]

    def probe_ready(self) -> dict[str, str]:
        """Do one real round trip, creating what the stack needs; return the variables whose values the service chose.

        Raises ``NotReady``, or a specific error if a retry cannot help.
        """
        from photo_worker.devkit import readiness

        env = environment_of(self.record)
        if self.name == "temporal":
            from photo_worker.devkit.services import temporal_program

            readiness.ensure_namespace(env, temporal_program())
        elif self.name == "postgres":
            from photo_worker.devkit import database

            database.migrate_external(env["DATABASE_URL"])
        elif self.name == "s3":
            readiness.probe_s3(env)
        elif self.name == "sns":
            return readiness.probe_sns_and_sqs(env)
        elif self.name == "sqs":
            # The delivery through SNS has probed it.
            return {}
        else:
            readiness.probe_textract(env)
        return {}

    def is_alive(self) -> bool:
        """Return whether the service responds within one second."""
        url = _split(self.name, self.endpoint)
        host = url.hostname or ""
        if self.name == "temporal":
            greeting = probes.HTTP2_PREFACE
        elif self.name == "postgres":
            greeting = probes.startup_message(unquote(url.username or ""), unquote(url.path.lstrip("/")))
        else:
            greeting = f"GET / HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n\r\n".encode("ascii", "replace")
        return probes.responds(host, self.port, greeting, tls=url.scheme == "https", timeout=_ANSWER_SECONDS)

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


def describe(endpoints: Iterable[str]) -> str:
    """Join service names for a sentence: a, b and c."""
    names = [name for name in FORMS if name in set(endpoints)]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _split(service: str, endpoint: str) -> SplitResult:
    return urlsplit(f"//{endpoint}" if service == "temporal" else endpoint)
