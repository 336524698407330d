"""A stack of containers that Docker Compose runs, with the commands of the native stack."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from photo_worker.devkit import disk, external, fault_rules, logs, pausing, ports
from photo_worker.devkit.binding import bind_bucket
from photo_worker.devkit.compose.guards import require_free, require_same_postgres
from photo_worker.devkit.compose.project import (
    KIND,
    compose_file,
    own_services,
    started_services,
    variables,
)
from photo_worker.devkit.compose.status import look
from photo_worker.devkit.container_engine import ContainerEngine
from photo_worker.devkit.containers import Container, containers, is_up, project_name, project_volumes, remove
from photo_worker.devkit.environment import AWS_SERVICES, environment_of
from photo_worker.devkit.layout import StackPaths, delete_tree, discard_tree, exclusive, is_locked
from photo_worker.devkit.service_registry import require_known, s3_servers, services_of
from photo_worker.devkit.signals import ignore_signals
from photo_worker.devkit.stack import caller_region, described, parsed
from photo_worker.devkit.state import REGION, Processes, StackRecord
from photo_worker.devkit.status import StackStatus, UpReport, not_ready_reason
from photo_worker.devkit.timeline import Timeline
from photo_worker.errors import PhotoWorkerError, StackError
from photo_worker.stack_errors import (
    DataMismatch,
    DockerFailed,
    FaultNotSet,
    ServiceFailed,
    ServiceUnknown,
    SnapshotImpossible,
    SnapshotOfOtherKind,
    StackDiffers,
    StackMoved,
    StackNotReady,
    StackNotRunning,
    StackOfOtherKind,
)

if TYPE_CHECKING:
    from photo_worker.devkit.compose.images import Image
    from photo_worker.devkit.compose.program import Compose
    from photo_worker.devkit.snapshots import Snapshot
    from photo_worker.devkit.stack_options import StackOptions

_PASSWORD_LABEL = "photo-worker.password"  # noqa: S105 - the label's name
_READY_SECONDS = 150.0
_COMPOSE_SECONDS = 120.0
_GRACE_SECONDS = 10.0
_LOCK_SECONDS = 30.0
_POLL_SECONDS = 0.1
_KEPT_LINES = 5_000
_FREEZES = 20


class ComposeStack:
    """One stack as a project of Docker Compose; ``LocalStack`` documents the methods.

    Its data is in the engine's volumes, its record in the same place as a native stack's. LocalStack keeps
    nothing over a stop: topic, queue and, if it is the S3 server, objects are lost after ``down``.
    """

    def __init__(self, paths: StackPaths, options: StackOptions) -> None:
        self.paths = paths
        self._options = options
        self._external = None if options.external is None else parsed(options.external)
        if options.s3 is not None:
            require_known(KIND, options.s3)

    @property
    def name(self) -> str:
        """The stack's name, as given by ``--name``."""
        return self.paths.name

    @property
    def project(self) -> str:
        """The name of its project, as ``docker compose ls`` shows it."""
        return project_name(self.paths)

    @property
    def services(self) -> tuple[str, ...]:
        """The names of the services that the stack runs itself."""
        return own_services(self._new_record(self._known_record()))

    def up(self) -> UpReport:
        """Start every service that does not run and wait until all are usable; raises ``StackError``.

        A failure leaves the containers for inspection; an interrupt removes them.
        """
        timeline = Timeline()
        with self._exclusive("up"):
            return self._up(timeline)

    def down(self) -> bool:
        """Remove the containers and the network, and keep the volumes; return False if nothing ran."""
        if not self.paths.root.exists():
            return remove(ContainerEngine(), self.project, grace=_GRACE_SECONDS, volumes=False)
        with self._exclusive("down"):
            return self._down(ContainerEngine())

    def reset(self) -> UpReport:
        """Delete the stored data and the logs, and leave the stack running with the same ports and password.

        If all services run, only Temporal and MinIO restart and the others are emptied; otherwise all restart.
        """
        timeline = Timeline()
        with self._exclusive("reset"):
            known = self._known_record()
            self._refuse(known, running=False)
            if known is not None and self._try_reset_in_place(known, timeline):
                return UpReport(self.status(), started=True, seconds=timeline.elapsed(), timeline=timeline)
            with timeline.span("stack", "stop and delete"):
                remove(ContainerEngine(), self.project, grace=0, volumes=True)
                delete_tree(self.paths.logs)
                self._half_loaded.unlink(missing_ok=True)
                if known is None:
                    # Unreadable, it would prevent a start; the data that it describes is deleted.
                    self.paths.record.unlink(missing_ok=True)
            return self._up(timeline)

    def delete(self) -> None:
        """Stop the stack and remove its containers, volumes and directory."""
        from photo_worker.devkit import postgres

        remove(ContainerEngine(), self.project, grace=0, volumes=True)
        if self.paths.root.exists():
            with self._exclusive("delete"):
                # The same stack may have run natively before.
                for directory in postgres.shared_data(self.paths):
                    discard_tree(directory)
                self.paths.delete_contents()
                delete_tree(self.paths.root)

    def env(self) -> dict[str, str]:
        """Return the environment variables that point at the stack; raises ``StackNotRunning``."""
        record = StackRecord.load(self.paths)
        if record is None or not is_up(self.paths):
            raise StackNotRunning(name=self.name)
        return environment_of(record)

    def status(self) -> StackStatus:
        """Probe every service, and ask the engine for its container; takes at most some 200 ms."""
        record = self._known_record()
        if record is None or record.kind != KIND:
            record = self._new_record(record)
        return look(self.paths, record)

    def wait(self, seconds: float) -> StackStatus:
        """Wait until the stack is usable and no command works on it; starts nothing.

        Raises ``StackNotReady`` after ``seconds``, and at once ``ServiceFailed`` if a container has
        ended and no command starts it.
        """
        deadline = time.monotonic() + seconds
        while True:
            busy = is_locked(self.paths.command_lock)
            status = self.status()
            if status.running and not busy:
                return status
            ended = [one for one in status.services if one.state == "exited"]
            if ended and not busy:
                reason = f"its container ended with code {ended[0].exit_code}"
                raise ServiceFailed(service=ended[0].name, reason=reason, log=self._shown(ended[0].name))
            if time.monotonic() > deadline:
                reason = status.problem or not_ready_reason(status, busy=busy)
                raise StackNotReady(name=self.name, seconds=seconds, reason=reason)
            time.sleep(_POLL_SECONDS)

    def save_snapshot(self, name: str) -> Snapshot:
        """Copy the content of the volumes. A running stack is stopped for it, and started again even if it fails.

        Raises ``SnapshotExists``, ``InvalidSnapshotName``, ``SnapshotImpossible`` if LocalStack is its S3,
        and ``StackError`` if it stores nothing yet.
        """
        from photo_worker.devkit import snapshots
        from photo_worker.devkit.compose import volumes

        snapshots.require_new(self.paths, name)
        record = StackRecord.load(self.paths)
        engine = ContainerEngine()
        if record is None or record.kind != KIND or not project_volumes(engine, self.project):
            raise StackError(reason=f"{self.name} has nothing to save: it was never started, or was reset")
        self._require_keeping(record)
        with self._exclusive("snapshot save"):
            ran = any(entry.is_running for entry in containers(engine, self.project).values())
            try:
                self._down(engine)
                self._create(engine, record)
                found = containers(engine, self.project)
                return snapshots.write(self.paths, record, name, lambda place: volumes.save(engine, found, place))
            finally:
                remove(engine, self.project, grace=0, volumes=False)
                if ran:
                    self._up(Timeline())

    def load_snapshot(self, name: str) -> UpReport:
        """Replace the content of the volumes by a snapshot, and start the stack on the same ports.

        An interrupt leaves neither the old nor the new data; load it again. Raises ``SnapshotMissing``,
        ``SnapshotOfOtherKind``, and ``DataMismatch`` for one that this version cannot use.
        """
        from photo_worker.devkit import snapshots
        from photo_worker.devkit.compose import volumes

        timeline = Timeline()
        snapshot = snapshots.require(self.paths, name, kind=KIND)
        with self._exclusive("snapshot load"):
            known = self._known_record()
            self._refuse(known, running=False)
            engine = ContainerEngine()
            record = self._new_record(known).with_(password=snapshot.password)
            if snapshot.s3 != record.s3:
                raise SnapshotOfOtherKind(name=name, kind=_with_s3(snapshot.s3), wanted=_with_s3(record.s3))
            with timeline.span("stack", "images"):
                record = record.with_(versions=_versions(self._images(engine, record)))
            directory = snapshots.directory_of(self.paths, name)
            require_same_postgres(snapshot.versions, record.versions, str(directory))
            try:
                with timeline.span("stack", "stop and delete"):
                    remove(engine, self.project, grace=_GRACE_SECONDS, volumes=True)
                self._half_loaded.touch()
                record.save(self.paths)
                with timeline.span("stack", "copy"):
                    self._create(engine, record)
                    volumes.load(engine, containers(engine, self.project), directory)
            except BaseException:
                with ignore_signals():
                    remove(engine, self.project, grace=0, volumes=True)
                    self._half_loaded.unlink(missing_ok=True)
                raise
            self._half_loaded.unlink(missing_ok=True)
            return self._start(engine, record, timeline)

    def pause(self, service: str) -> None:
        """Pause a service's container until ``resume`` or the next command.

        Raises ``ServiceUnknown``, ``StackNotRunning``, and ``FaultNotSet`` if the service itself does not run.
        """
        self._require(service)
        with self._exclusive("faults set"):
            engine = ContainerEngine()
            found = containers(engine, self.project)
            if not any(entry.is_running for entry in found.values()):
                raise StackNotRunning(name=self.name)
            entry = found.get(service)
            if entry is None or entry.state not in {"running", "paused"}:
                raise FaultNotSet(
                    service=service, reason="it is not there" if entry is None else f"it is {entry.state}"
                )
            if entry.state == "running":
                _freeze(engine, entry)
                # The engine does not report the time of a pause.
                pausing.record_paused(self.paths, service)

    def resume(self, service: str) -> None:
        """Resume a paused service; no error if it is not paused. Raises ``ServiceUnknown``."""
        self._require(service)
        if self.paths.root.exists():
            with self._exclusive("faults clear"):
                engine = ContainerEngine()
                entry = containers(engine, self.project).get(service)
                _resume(engine, [] if entry is None else [entry])
                pausing.resume(self.paths, service)

    def paused(self) -> dict[str, str | None]:
        """Return the paused services with the time of the pause; None if another program paused it."""
        found, noted = containers(ContainerEngine(), self.project), pausing.paused_since(self.paths)
        own = own_services(self._new_record(self._known_record()))
        return {name: noted.get(name) for name in own if _is_paused(found.get(name))}

    def tail(self, service: str, lines: int) -> list[str]:
        """Return the last lines of a service's container; after ``down``, those that were saved."""
        from photo_worker.devkit.compose import output

        engine = ContainerEngine()
        entry = containers(engine, self.project).get(service)
        return logs.tail(self.paths.log(service), lines) if entry is None else output.tail(engine, entry, lines)

    def follow(self, services: Sequence[str], stop: Callable[[], bool]) -> Iterator[tuple[str, str]]:
        """Yield (service, line) as the services write, until ``stop`` returns true."""
        from photo_worker.devkit.compose.output import Follower

        # Processes outside of the containers, such as the demo's worker, write files.
        own = set(self.services)
        files = [logs.LogReader(name, self.paths.log(name)) for name in services if name not in own]
        return Follower(ContainerEngine(), self.project, services, files).lines(stop)

    @property
    def _half_loaded(self) -> Path:
        """The file that exists while the volumes hold half a snapshot."""
        return self.paths.root / "loading"

    def _up(self, timeline: Timeline) -> UpReport:
        record = StackRecord.load(self.paths)
        engine = ContainerEngine()
        found = containers(engine, self.project)
        living = {name for name, entry in found.items() if entry.is_running}
        self._refuse(record, running=bool(living))
        if living and record is not None and record.kind == KIND:
            if self._options.base_port and self._options.base_port != record.base_port:
                raise StackMoved(name=self.name, base_port=record.base_port, asked=self._options.base_port)
            own = set(own_services(record))
            if own <= living:
                self._end_faults(engine, record, found)
                if not set(started_services(record)) <= living:
                    # It stores nothing: no reason to restart the others.
                    self._run_compose(engine, record, "up", "--detach", "--no-recreate", doing="start the containers")
                try:
                    self._make_ready(engine, record, timeline)
                except ServiceFailed:
                    now = containers(engine, self.project)
                    if all(name in now and now[name].is_running for name in own):
                        raise
                else:
                    return UpReport(self.status(), started=False, seconds=timeline.elapsed(), timeline=timeline)
        if self._half_loaded.exists():
            raise DataMismatch(path=f"volumes of {self.project}", reason="a snapshot was not loaded to its end")
        # If a part of the stack has died, all of it restarts: a service may rely on data that another one lost.
        self._down(engine)
        before = {} if record is None or record.kind != KIND else record.versions
        record = self._with_password(engine, record)
        with timeline.span("stack", "images"):
            record = record.with_(versions=_versions(self._images(engine, record)))
        if project_volumes(engine, self.project):
            require_same_postgres(before, record.versions, f"volumes of {self.project}")
        record.save(self.paths)
        return self._start(engine, record, timeline)

    def _try_reset_in_place(self, record: StackRecord, timeline: Timeline) -> bool:
        """Empty a stack that runs as it would start; false where it has to start on no data."""
        from photo_worker.devkit.compose import reset
        from photo_worker.devkit.readiness import ResetFailed

        engine = ContainerEngine()
        found = containers(engine, self.project)
        own = own_services(record)
        if record != self._new_record(record) or not all(name in found and found[name].is_running for name in own):
            return False
        try:
            self._end_faults(engine, record, found)
            with timeline.span("stack", "empty"):
                reset.reset_services(engine, {name: found[name] for name in own}, record, self.paths)
            # Containers whose file or image has changed in the meantime are recreated here too.
            with timeline.span("stack", "containers"):
                self._run_compose(engine, record, "up", "--detach", doing="start the containers")
            self._make_ready(engine, record, timeline)
        except (ResetFailed, OSError, StackError) as error:
            timeline.add("stack", f"not emptied: {error}", timeline.elapsed(), 0.0)
            return False
        logs.erase(self.paths.logs, ())
        return True

    def _start(self, engine: ContainerEngine, record: StackRecord, timeline: Timeline) -> UpReport:
        """Create and start the containers of a stopped stack, and wait until they are usable."""
        own = services_of(record)
        require_free(engine, record, own)
        # Postgres takes a half-initialised directory for a database and never starts on it: remove new volumes too.
        new = not project_volumes(engine, self.project)
        try:
            if own:
                with timeline.span("stack", "containers"):
                    self._run_compose(engine, record, "up", "--detach", doing="start the containers")
            self._make_ready(engine, record, timeline)
        except PhotoWorkerError:
            raise
        except BaseException:
            with ignore_signals():
                remove(engine, self.project, grace=0, volumes=new)
            raise
        return UpReport(self.status(), started=True, seconds=timeline.elapsed(), timeline=timeline)

    def _make_ready(self, engine: ContainerEngine, record: StackRecord, timeline: Timeline) -> None:
        from photo_worker.devkit.compose.start import ReadinessWait

        own = services_of(record)
        ReadinessWait(engine, self.project, record, own, timeline, _READY_SECONDS).wait()
        chosen = external.make_ready(record, timeline)
        if chosen != record:
            chosen.save(self.paths)
        with timeline.span("stack", "bind the bucket"):
            bind_bucket(environment_of(chosen))

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
        return images.obtain(compose, known, offline=self._options.offline)

    def _down(self, engine: ContainerEngine) -> bool:
        """Remove the containers after saving their last lines; keep the volumes."""
        from photo_worker.devkit.compose import output

        for entry in containers(engine, self.project).values():
            with suppress(StackError, OSError):
                lines = output.tail(engine, entry, _KEPT_LINES)
                if lines:
                    self.paths.log(entry.service).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return remove(engine, self.project, grace=_GRACE_SECONDS, volumes=False)

    def _end_faults(self, engine: ContainerEngine, record: StackRecord, found: Mapping[str, Container]) -> None:
        """Resume paused services and clear Textract's faults: ``up`` is about to use them."""
        _resume(engine, found.values())
        if "textract" in own_services(record):
            fault_rules.delete_rules(environment_of(record)["AWS_ENDPOINT_URL_TEXTRACT"])

    def _refuse(self, record: StackRecord | None, *, running: bool) -> None:
        """Raise if this start is impossible or differs from what runs, before anything is started or stopped."""
        if Processes.load(self.paths).alive:
            raise StackOfOtherKind(name=self.name, kind="native")
        s3, endpoints = self._choices(record)
        if self._options.offline:
            external.refuse_offline(endpoints)
        if running and record is not None and record.kind == KIND and (s3, endpoints) != (record.s3, record.external):
            running_with, asked = described(record.s3, record.external), described(s3, endpoints)
            raise StackDiffers(name=self.name, running=running_with, asked=asked)

    def _choices(self, record: StackRecord | None) -> tuple[str, dict[str, str]]:
        """Return the S3 server and the external endpoints: from the options, else the record, else the default."""
        known = record is not None and record.kind == KIND and record.s3 in s3_servers(KIND)
        s3 = self._options.s3 or (record.s3 if record is not None and known else s3_servers(KIND)[0])
        endpoints = self._external if self._external is not None else record.external if record is not None else {}
        return s3, dict(endpoints)

    def _new_record(self, known: StackRecord | None) -> StackRecord:
        chosen = self._options.base_port or (known.base_port if known else self._fresh_base())
        record = known or StackRecord.new(self.name, chosen, durable=self._options.durable)
        s3, endpoints = self._choices(known)
        same = endpoints == record.external
        region = caller_region() or (record.region if same else REGION)
        return record.with_(
            base_port=chosen,
            durable=self._options.durable,
            kind=KIND,
            s3=s3,
            external=endpoints,
            region=region if set(endpoints) & set(AWS_SERVICES) else REGION,
            found=record.found if same else {},
        )

    def _with_password(self, engine: ContainerEngine, known: StackRecord | None) -> StackRecord:
        """Return the record to start with, with the password of volumes that exist already.

        Volumes carry it as a label, so that losing the record, by `git clean` say, does not lock them for ever.
        """
        record = self._new_record(known)
        labels = project_volumes(engine, self.project).values()
        kept = next((label[_PASSWORD_LABEL] for label in labels if _PASSWORD_LABEL in label), record.password)
        if known is not None and kept != known.password:
            raise DataMismatch(path=f"volumes of {self.project}", reason="they have another password than the record")
        return record.with_(password=kept)

    def _known_record(self) -> StackRecord | None:
        with suppress(StackError):
            return StackRecord.load(self.paths)
        return None

    def _fresh_base(self) -> int:
        if self._options.base_port == 0:
            return ports.free_base()
        return ports.derived_base(self.paths.home, self.name)

    def _require(self, service: str) -> None:
        if service not in self.services:
            raise ServiceUnknown(name=self.name, service=service, known=", ".join(self.services))

    def _require_keeping(self, record: StackRecord) -> None:
        """Raise ``SnapshotImpossible`` if objects are in memory alone: stopping for the copy would lose them."""
        for service in services_of(record):
            lost = service.unsaved(record)
            if lost is not None:
                raise SnapshotImpossible(name=self.name, reason=lost)

    def _shown(self, service: str) -> str:
        lines: list[str] = []
        with suppress(StackError):
            lines = self.tail(service, 20)
        return "".join(f"\n  {service} | {line}" for line in lines)

    @contextmanager
    def _exclusive(self, doing: str) -> Iterator[None]:
        """Keep other commands off this stack, after waiting for the one at work."""
        limit = _READY_SECONDS + _LOCK_SECONDS
        try:
            with exclusive(self.paths.command_lock, timeout=limit, doing=doing, prepare=self.paths.create):
                yield
        except (OSError, StackError) as error:
            cause = disk.explain(error, self.paths.root)
            if cause is error:
                raise
            raise cause from error


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
