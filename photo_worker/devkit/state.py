"""The files in which a stack records its state.

Two files, each with one writer: the record, by the command that starts the stack, and the list of
processes, by the supervisor. Both are hints: whether the supervisor is alive is decided by its lock,
and whether a service works by probing the service.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from photo_worker.devkit.errors import DataMismatch, DataUnwritable, StackNotOwned
from photo_worker.devkit.layout import DEFAULT_NAME, StackPaths, is_locked, owner_name
from photo_worker.devkit.ports import BLOCK, StackPorts

FORMAT = 1
DATABASE = "photo_worker"
DATABASE_USER = "photo_worker"
REGION = "us-east-1"
TASK_QUEUE = "recipe-process"
_NO_RECORD = "it is not a stack's record"
_PORTS = 65_536


@dataclass(frozen=True)
class StackRecord:
    """The facts of a stack that outlive its processes."""

    name: str
    base_port: int
    password: str = field(repr=False)
    durable: bool = True
    versions: dict[str, str] = field(default_factory=dict)
    kind: str = "native"
    """How the services run: as processes (native) or containers (compose)."""
    s3: str = "ministack"
    """The S3 server; SNS and SQS are always those of ministack (native) or LocalStack (compose)."""
    external: dict[str, str] = field(default_factory=dict, repr=False)
    """Endpoints of external services, by service."""
    region: str = REGION
    """The AWS region: the stack's own, or the caller's if an AWS service is external."""
    found: dict[str, str] = field(default_factory=dict)
    """Variables whose values an external service chose: the topic's ARN, the queue's URL."""
    extras: list[str] = field(default_factory=list)
    """The optional services that run, by name; left out of the file if there are none, as versions before had none."""
    format: int = FORMAT

    @property
    def ports(self) -> StackPorts:
        """The stack's ports, by use."""
        return StackPorts(self.base_port)

    @property
    def prefix(self) -> str:
        """The prefix of the names of the stack's namespace, bucket, topic and queue."""
        return "photo-worker" if self.name == DEFAULT_NAME else f"photo-worker-{self.name}"

    @classmethod
    def new(cls, name: str, base_port: int, *, durable: bool) -> StackRecord:
        """Return the record of a stack that never ran, with a new database password."""
        return cls(name=name, base_port=base_port, password=secrets.token_urlsafe(24), durable=durable)

    def with_(self, **changes: Any) -> StackRecord:
        """Return a copy with some fields replaced."""
        return replace(self, **changes)

    def save(self, paths: StackPaths) -> None:
        """Write the record with mode 0600; raises ``DataUnwritable``."""
        values = asdict(self)
        if not self.extras:
            del values["extras"]
        write_private(paths.record, values)

    @classmethod
    def load(cls, paths: StackPaths) -> StackRecord | None:
        """Read the record; raises ``DataMismatch`` if this version cannot interpret it."""
        values = read_json(paths.record)
        if values is None:
            return None
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise DataMismatch(path=str(paths.record), reason="another version of photo-worker wrote it")
        try:
            record = cls(**values)
        except TypeError as error:
            raise DataMismatch(path=str(paths.record), reason=_NO_RECORD) from error
        if not record._is_whole():
            raise DataMismatch(path=str(paths.record), reason=_NO_RECORD)
        return record

    @classmethod
    def load_whole(cls, paths: StackPaths) -> StackRecord | None:
        """Read the record; None also if it is damaged, for commands that stop a stack or delete it."""
        try:
            return cls.load(paths)
        except DataMismatch:
            return None

    def _is_whole(self) -> bool:
        """Return whether every field has the right type: another program may have written the file."""
        texts = (self.name, self.password, self.kind, self.s3, self.region)
        tables = (self.versions, self.external, self.found)
        return (
            all(isinstance(text, str) for text in texts)
            and all(isinstance(table, dict) and all(isinstance(it, str) for it in table.values()) for table in tables)
            and isinstance(self.extras, list)
            and all(isinstance(name, str) for name in self.extras)
            and isinstance(self.durable, bool)
            and isinstance(self.base_port, int)
            and 0 < self.base_port <= _PORTS - BLOCK
        )


@dataclass(frozen=True)
class ServiceProcess:
    """A service's process as the supervisor recorded it."""

    name: str
    state: str
    pid: int | None = None
    started: float | None = None
    exit_code: int | None = None


@dataclass(frozen=True)
class Processes:
    """The list that the supervisor last wrote; ``alive`` says whether its lock was held at the time of reading."""

    alive: bool
    token: str = ""
    pid: int | None = None
    phase: str = "ended"
    reaper: int | None = None
    renewals: int | None = None
    """How often services were restarted without data; None if the supervisor's version cannot do that."""
    services: dict[str, ServiceProcess] = field(default_factory=dict)

    @classmethod
    def load(cls, paths: StackPaths) -> Processes:
        """Read the list and check the lock; a list that is missing or damaged counts as empty."""
        alive = is_locked(paths.supervisor_lock)
        try:
            values = read_json(paths.processes)
        except DataMismatch:
            values = None
        try:
            return cls(
                alive=alive,
                token=str(values["token"]),
                pid=int(values["pid"]),
                phase=str(values["phase"]),
                reaper=int(values["reaper"]),
                renewals=values.get("renewals"),
                services={entry["name"]: ServiceProcess(**entry) for entry in values["services"]},
            )
        except (KeyError, TypeError, ValueError):
            return cls(alive=alive)


def read_json(path: Path) -> Any:
    """Return a JSON file's value, or None if the file is missing; raises ``DataMismatch`` and ``StackNotOwned``."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise StackNotOwned(path=str(path), owner=owner_name(path)) from error
    except (OSError, ValueError) as error:
        raise DataMismatch(path=str(path), reason="it cannot be read") from error


def write_private(path: Path, value: object) -> None:
    """Replace a JSON file atomically, with mode 0600; raises ``DataUnwritable``."""
    temporary = ""
    try:
        # mkstemp creates the file with mode 0600 before anything is written.
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            json.dump(value, handle, indent=1)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise DataUnwritable(path=str(path), reason=error.strerror or str(error)) from error
