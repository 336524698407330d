"""The interface of every local stack, and the function that decides of which kind the stack of a name is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from photo_worker.devkit.layout import DEFAULT_NAME, StackPaths, check_name, default_home, is_locked
from photo_worker.devkit.stack_options import Kind, S3Server, StackOptions
from photo_worker.devkit.state import StackRecord, read_json
from photo_worker.stack_errors import DataMismatch

if TYPE_CHECKING:
    from pathlib import Path

    from photo_worker.devkit.snapshots import Snapshot
    from photo_worker.devkit.status import StackStatus, UpReport

__all__ = ["Kind", "LocalStack", "S3Server", "StackOptions", "local_stack"]


class LocalStack(Protocol):
    """A stack of either kind. Several processes may call methods at once; the calls take turns."""

    @property
    def name(self) -> str:
        """The stack's name in its home."""

    @property
    def paths(self) -> StackPaths:
        """The stack's files and directories."""

    @property
    def services(self) -> tuple[str, ...]:
        """The names of the services that the stack runs itself."""

    def up(self) -> UpReport:
        """Start what does not run, and wait until every service is ready; raises ``StackError``."""

    def down(self) -> bool:
        """Stop the stack and keep its data; returns False if nothing ran."""

    def reset(self) -> UpReport:
        """Delete the stack's data and logs, and leave it running."""

    def delete(self) -> None:
        """Stop the stack and delete all of it, its directory included."""

    def env(self) -> dict[str, str]:
        """Return the variables that point at the stack; raises ``StackNotRunning``."""

    def status(self) -> StackStatus:
        """Probe every service and return its state."""

    def wait(self, seconds: float) -> StackStatus:
        """Wait until the stack is ready; starts nothing. Raises ``StackNotReady`` and ``ServiceFailed``."""

    def save_snapshot(self, name: str) -> Snapshot:
        """Save a copy of the stack's data."""

    def load_snapshot(self, name: str) -> UpReport:
        """Replace the stack's data by a snapshot, and start the stack."""

    def pause(self, service: str) -> None:
        """Suspend a service's processes, so that it neither responds nor ends."""

    def resume(self, service: str) -> None:
        """Resume a paused service; no error if it is not paused."""

    def paused(self) -> Mapping[str, str | None]:
        """Return when each paused service was paused (ISO 8601, UTC), by name; None if the time was not recorded."""

    def tail(self, service: str, lines: int) -> list[str]:
        """Return the last lines of a service's log."""

    def follow(self, services: Sequence[str], stop: Callable[[], bool]) -> Iterator[tuple[str, str]]:
        """Yield (service, line) as the services write, until ``stop`` returns true."""


def local_stack(
    name: str | None = None, options: StackOptions | None = None, *, home: Path | None = None
) -> LocalStack:
    """Return the stack of this name in ``home`` (default: this worktree's), of the requested or recorded kind.

    A stack that never ran is native. If the record is lost, running containers decide the kind; if the record is
    damaged or newer, whatever is left of the stack decides, stopped or not.
    """
    options = options or StackOptions()
    paths = StackPaths((home or default_home()).expanduser().absolute(), check_name(name or DEFAULT_NAME))
    if options.kind is None:
        # Commands that need the record report a damaged one; `down` and `reset` work without it.
        record = StackRecord.load_whole(paths)
        kind = _kind_without_record(paths) if record is None else record.kind
    else:
        kind = options.kind
    if kind == "compose":
        from photo_worker.devkit.compose.stack import ComposeStack

        return ComposeStack(paths, options)
    from photo_worker.devkit.stack import Stack

    return Stack(
        paths.home,
        paths.name,
        base_port=options.base_port,
        s3=options.s3,
        external=options.external,
        offline=options.offline,
        durable=options.durable,
    )


def _kind_without_record(paths: StackPaths) -> Kind:
    from photo_worker.devkit.containers import is_there, is_up

    if is_locked(paths.supervisor_lock):
        return "native"
    said = _kind_of_useless_record(paths)
    if said is not None:
        return said
    # A stack that has run as both kinds has data of both: only a running one decides the kind.
    only_elsewhere = paths.record.exists() and not (paths.data.is_dir() and any(paths.data.iterdir()))
    return "compose" if (is_there if only_elsewhere else is_up)(paths) else "native"


def _kind_of_useless_record(paths: StackPaths) -> Kind | None:
    """Return the kind if it can still be read from a damaged record or one of another version."""
    with suppress(DataMismatch):
        values = read_json(paths.record)
        kinds: tuple[Kind, ...] = ("native", "compose")
        return next((kind for kind in kinds if isinstance(values, dict) and values.get("kind") == kind), None)
    return None
