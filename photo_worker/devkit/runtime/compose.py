"""Services as containers of one project of Docker Compose.

Their data is in the engine's volumes, the stack's record where a native stack's is. LocalStack keeps nothing over a
stop: topic, queue and, if it is the S3 server, objects are lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from photo_worker.devkit import external, fault_rules, logs, pausing
from photo_worker.devkit.compose.guards import require_free, require_same_postgres
from photo_worker.devkit.compose.project import KIND, compose_file, started_services, variables
from photo_worker.devkit.compose.status import look
from photo_worker.devkit.container_engine import ContainerEngine
from photo_worker.devkit.containers import Container, containers, is_up, project_name, project_volumes, remove
from photo_worker.devkit.environment import environment_of
from photo_worker.devkit.errors import (
    DataMismatch,
    DockerFailed,
    FaultNotSet,
    ServiceFailed,
    SnapshotOfOtherKind,
    StackError,
    StackNotRunning,
    StackOfOtherKind,
)
from photo_worker.devkit.layout import StackPaths, delete_tree
from photo_worker.devkit.runtime.protocol import RunningServices, Services
from photo_worker.devkit.signals import ignore_signals
from photo_worker.devkit.stack_options import Kind
from photo_worker.devkit.state import Processes, StackRecord

if TYPE_CHECKING:
    from photo_worker.devkit.compose.images import Image
    from photo_worker.devkit.compose.program import Compose
    from photo_worker.devkit.snapshots import Snapshot
    from photo_worker.devkit.status import StackStatus
    from photo_worker.devkit.timeline import Timeline

_PASSWORD_LABEL = "photo-worker.password"  # noqa: S105 - the label's name
_READY_SECONDS = 150.0
_COMPOSE_SECONDS = 120.0
_GRACE_SECONDS = 10.0
_LOCK_SECONDS = 30.0
_POLL_SECONDS = 0.1
_KEPT_LINES = 5_000
_FREEZES = 20


class ComposeRuntime:
    """The containers of one stack; with ``offline``, missing images are not fetched."""

    kind: Kind = "compose"
    subject = "its container"
    lock_seconds = _READY_SECONDS + _LOCK_SECONDS
    stop_lock_seconds = lock_seconds

    def __init__(self, paths: StackPaths, *, offline: bool, external_seconds: float) -> None:
        self._paths = paths
        self._offline = offline
        self._external_seconds = external_seconds
        self._new = False

    @property
    def project(self) -> str:
        """The name of its project, as ``docker compose ls`` shows it."""
        return project_name(self._paths)

    def is_up(self) -> bool:
        """Return whether a container runs, by one request."""
        return is_up(self._paths)

    def is_settled(self) -> bool:
        """Return true: only a command, which holds the stack's lock, starts containers."""
        return True

    def observe(self) -> RunningServices:
        """Return which containers run; raises ``StackError`` if the engine does not respond."""
        found = containers(ContainerEngine(), self.project)
        names = frozenset(name for name, entry in found.items() if entry.is_running)
        return RunningServices(bool(names), names)

    def status(self, record: StackRecord, services: Services) -> StackStatus:
        """Probe every service, and ask the engine for its container; takes at most some 200 ms."""
        return look(self._paths, record)

    def refuse(self, record: StackRecord | None) -> None:
        """Raise ``StackOfOtherKind`` if processes of the stack run."""
        if Processes.load(self._paths).alive:
            raise StackOfOtherKind(name=self._paths.name, kind="native")

    def versioned(self, record: StackRecord, services: Services) -> StackRecord:
        """Return the record as it is: the versions are the images of the last start."""
        return record

    def require_startable(self, services: Services) -> None:
        """Raise ``DataMismatch`` if the volumes hold half a snapshot."""
        if self._half_loaded.exists():
            raise DataMismatch(path=f"volumes of {self.project}", reason="a snapshot was not loaded to its end")

    def prepare(
        self, known: StackRecord | None, record: StackRecord, services: Services, timeline: Timeline
    ) -> StackRecord:
        """Fetch missing images; return the record with these, and with the password of volumes that exist already.

        Raises ``DataMismatch`` if volumes have another password, or were written by another Postgres.
        """
        engine = ContainerEngine()
        before = {} if known is None or known.kind != KIND else known.versions
        record = self._with_password(engine, known, record)
        with timeline.span("stack", "images"):
            record = record.with_(versions=_versions(self._images(engine, record)))
        if project_volumes(engine, self.project):
            require_same_postgres(before, record.versions, f"volumes of {self.project}")
        return record

    def launch(self, record: StackRecord, services: Services, timeline: Timeline) -> StackRecord:
        """Create and start the containers of a stopped stack, and wait until they are usable."""
        engine = ContainerEngine()
        require_free(engine, record, services)
        # Postgres takes a half-initialised directory for a database and never starts on it: remove new volumes too.
        self._new = not project_volumes(engine, self.project)
        if services:
            with timeline.span("stack", "containers"):
                self._run_compose(engine, record, "up", "--detach", doing="start the containers")
        return self._wait(engine, record, services, timeline)

    def abandon(self) -> None:
        """Remove the containers, and volumes that were new."""
        with ignore_signals():
            remove(ContainerEngine(), self.project, grace=0, volumes=self._new)

    def make_ready(self, record: StackRecord, services: Services, timeline: Timeline) -> StackRecord:
        """Start what serves another container if it is missing, and wait until all are usable."""
        engine = ContainerEngine()
        found = containers(engine, self.project)
        if not all(name in found and found[name].is_running for name in started_services(record)):
            # It stores nothing: no reason to restart the others.
            self._run_compose(engine, record, "up", "--detach", "--no-recreate", doing="start the containers")
        return self._wait(engine, record, services, timeline)

    def restart_helps(self, error: ServiceFailed, record: StackRecord, services: Services) -> bool:
        """Return whether a container has ended meanwhile."""
        return not {service.name for service in services} <= self.observe().services

    def wipe(self, record: StackRecord, services: Services, timeline: Timeline) -> StackRecord:
        """Empty the services that support it, and replace the containers and volumes of the others."""
        from photo_worker.devkit.compose import reset

        engine = ContainerEngine()
        if "textract" in {service.name for service in services}:
            fault_rules.delete_rules(environment_of(record)["AWS_ENDPOINT_URL_TEXTRACT"])
        with timeline.span("stack", "empty"):
            reset.reset_services(engine, containers(engine, self.project), record, self._paths)
        # Containers whose file or image has changed in the meantime are recreated here too.
        with timeline.span("stack", "containers"):
            self._run_compose(engine, record, "up", "--detach", doing="start the containers")
        record = self._wait(engine, record, services, timeline)
        logs.erase(self._paths.logs, ())
        return record

    def stop(self) -> bool:
        """Remove the containers and the network after saving their last lines; keep the volumes."""
        from photo_worker.devkit.compose import output

        engine = ContainerEngine()
        for entry in containers(engine, self.project).values():
            with suppress(StackError, OSError):
                lines = output.tail(engine, entry, _KEPT_LINES)
                if lines:
                    text = "".join(f"{line}\n" for line in lines)
                    self._paths.log(entry.service).write_text(text, encoding="utf-8")
        return remove(engine, self.project, grace=_GRACE_SECONDS, volumes=False)

    def stop_lost(self, *, data: bool) -> bool:
        """Remove the containers, and with ``data`` the volumes."""
        return remove(ContainerEngine(), self.project, grace=0 if data else _GRACE_SECONDS, volumes=data)

    def erase(self, known: StackRecord | None) -> None:
        """Remove containers and volumes, and delete the logs."""
        remove(ContainerEngine(), self.project, grace=0, volumes=True)
        delete_tree(self._paths.logs)
        self._half_loaded.unlink(missing_ok=True)
        if known is None:
            # Unreadable, it would prevent a start; the data that it describes is deleted.
            self._paths.record.unlink(missing_ok=True)

    def has_data(self, record: StackRecord) -> bool:
        """Return whether the stack has volumes."""
        return record.kind == KIND and bool(project_volumes(ContainerEngine(), self.project))

    def copy_out(self, record: StackRecord, services: Services, directory: Path) -> None:
        """Write an archive of each volume, by containers that are created for it and never started."""
        from photo_worker.devkit.compose import volumes

        engine = ContainerEngine()
        try:
            self._create(engine, record)
            volumes.save(engine, containers(engine, self.project), directory)
        finally:
            remove(engine, self.project, grace=0, volumes=False)

    def restore(self, snapshot: Snapshot, record: StackRecord, services: Services, timeline: Timeline) -> None:
        """Replace the volumes; an interrupt leaves neither the old nor the new data.

        Raises ``SnapshotOfOtherKind`` for one with another S3 server, and ``DataMismatch`` for another Postgres.
        """
        from photo_worker.devkit import snapshots
        from photo_worker.devkit.compose import volumes

        engine = ContainerEngine()
        record = record.with_(password=snapshot.password)
        if snapshot.s3 != record.s3:
            kind, wanted = _with_s3(snapshot.s3), _with_s3(record.s3)
            raise SnapshotOfOtherKind(name=snapshot.name, kind=kind, wanted=wanted)
        with timeline.span("stack", "images"):
            record = record.with_(versions=_versions(self._images(engine, record)))
        directory = snapshots.directory_of(self._paths, snapshot.name)
        require_same_postgres(snapshot.versions, record.versions, str(directory))
        try:
            with timeline.span("stack", "stop and delete"):
                remove(engine, self.project, grace=_GRACE_SECONDS, volumes=True)
            self._half_loaded.touch()
            record.save(self._paths)
            with timeline.span("stack", "copy"):
                self._create(engine, record)
                volumes.load(engine, containers(engine, self.project), directory)
        except BaseException:
            with ignore_signals():
                remove(engine, self.project, grace=0, volumes=True)
                self._half_loaded.unlink(missing_ok=True)
            raise
        self._half_loaded.unlink(missing_ok=True)

    def pause(self, service: str) -> None:
        """Pause a service's container."""
        engine = ContainerEngine()
        found = containers(engine, self.project)
        if not any(entry.is_running for entry in found.values()):
            raise StackNotRunning(name=self._paths.name)
        entry = found.get(service)
        if entry is None or entry.state not in {"running", "paused"}:
            raise FaultNotSet(service=service, reason="it is not there" if entry is None else f"it is {entry.state}")
        if entry.state == "running":
            _freeze(engine, entry)
            # The engine does not report the time of a pause.
            pausing.record_paused(self._paths, service)

    def resume(self, service: str | None = None) -> None:
        """Let a paused container, or all, go on."""
        engine = ContainerEngine()
        found = containers(engine, self.project)
        _resume(engine, [entry for name, entry in found.items() if service in {None, name}])
        pausing.resume(self._paths, service)

    def paused(self, services: Collection[str]) -> dict[str, str | None]:
        """Return the paused services with the time of the pause; None if another program paused it."""
        found, noted = containers(ContainerEngine(), self.project), pausing.paused_since(self._paths)
        return {name: noted.get(name) for name in services if _is_paused(found.get(name))}

    def tail(self, service: str, lines: int) -> list[str]:
        """Return the last lines of a service's container; after ``stop``, those that were saved."""
        from photo_worker.devkit.compose import output

        engine = ContainerEngine()
        entry = containers(engine, self.project).get(service)
        return logs.tail(self._paths.log(service), lines) if entry is None else output.tail(engine, entry, lines)

    def follow(
        self, services: Sequence[str], own: Collection[str], stop: Callable[[], bool]
    ) -> Iterator[tuple[str, str]]:
        """Yield (service, line) as containers write, and the processes beside them, such as the demo's worker."""
        from photo_worker.devkit.compose.output import Follower

        files = [logs.LogReader(name, self._paths.log(name)) for name in services if name not in own]
        return Follower(ContainerEngine(), self.project, services, files).lines(stop)

    @property
    def _half_loaded(self) -> Path:
        """The file that exists while the volumes hold half a snapshot."""
        return self._paths.root / "loading"

    def _wait(
        self, engine: ContainerEngine, record: StackRecord, services: Services, timeline: Timeline
    ) -> StackRecord:
        from photo_worker.devkit.compose.start import ReadinessWait

        ReadinessWait(engine, self.project, record, services, timeline, _READY_SECONDS).wait()
        return external.make_ready(record, timeline, self._external_seconds)

    def _create(self, engine: ContainerEngine, record: StackRecord) -> None:
        """Create the containers and their volumes without starting them."""
        self._run_compose(engine, record, "create", doing="create the containers")

    def _run_compose(
        self, engine: ContainerEngine, record: StackRecord, command: str, *options: str, doing: str
    ) -> None:
        # Missing images were fetched before, or refused: Compose itself must not fetch any.
        fixed = ("--pull", "never", "--no-build", "--remove-orphans")
        compose = self._compose(engine, record)
        compose.run(command, *options, *fixed, *started_services(record), doing=doing, seconds=_COMPOSE_SECONDS)

    def _compose(self, engine: ContainerEngine, record: StackRecord) -> Compose:
        from photo_worker.devkit.compose import program

        found = program.find()
        return program.Compose(found, compose_file(), self.project, variables(record), engine=engine.address)

    def _images(self, engine: ContainerEngine, record: StackRecord) -> list[Image]:
        """Return the images of the stack's services after fetching those that are missing."""
        from photo_worker.devkit.compose import images

        compose = self._compose(engine, record)
        known = images.images(compose, engine, started_services(record))
        return images.obtain(compose, known, offline=self._offline)

    def _with_password(self, engine: ContainerEngine, known: StackRecord | None, record: StackRecord) -> StackRecord:
        """Return the record to start with, with the password of volumes that exist already.

        Volumes carry it as a label, so that losing the record, by `git clean` say, does not lock them for ever.
        """
        labels = project_volumes(engine, self.project).values()
        kept = next((label[_PASSWORD_LABEL] for label in labels if _PASSWORD_LABEL in label), record.password)
        if known is not None and kept != known.password:
            raise DataMismatch(path=f"volumes of {self.project}", reason="they have another password than the record")
        return record.with_(password=kept)


def _is_paused(found: Container | None) -> bool:
    return found is not None and found.state == "paused"


def _freeze(engine: ContainerEngine, entry: Container) -> None:
    """Pause a container; retries, as a busy machine's kernel may not stop all of its threads at once."""
    for further in range(_FREEZES - 1, -1, -1):
        try:
            engine.do("POST", f"/containers/{entry.id}/pause", doing=f"pause {entry.service}")
        except DockerFailed:
            if not further:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            return


def _resume(engine: ContainerEngine, found: Iterable[Container]) -> None:
    for entry in found:
        if _is_paused(entry):
            engine.do("POST", f"/containers/{entry.id}/unpause", doing=f"let {entry.service} go on", fine=(404, 409))


def _versions(images: Sequence[Image]) -> dict[str, str]:
    return {image.service: image.name for image in images}


def _with_s3(server: str) -> str:
    return f"{KIND} (with S3 by {server})"
