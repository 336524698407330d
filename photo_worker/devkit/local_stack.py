"""The one interface of every local stack, and the one place that decides which kind of stack a name means."""

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
    """A stack, whatever runs it. Methods may be called from several processes at once; they take turns."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def paths(self) -> StackPaths:
        """Its directory and what lies in it."""

    @property
    def services(self) -> tuple[str, ...]:
        """The names of its services."""

    def up(self) -> UpReport:
        """Start what does not run and wait until all of it is usable; raises ``StackError``."""

    def down(self) -> bool:
        """Stop it; false where nothing ran. Its data stays."""

    def reset(self) -> UpReport:
        """Delete its data and logs, and leave it running."""

    def delete(self) -> None:
        """Stop it and remove all of it, its directory included."""

    def env(self) -> dict[str, str]:
        """Return the variables that point at it; raises ``StackNotRunning``."""

    def status(self) -> StackStatus:
        """Ask every service."""

    def wait(self, seconds: float) -> StackStatus:
        """Wait until it is usable; starts nothing. Raises ``StackNotReady`` and ``ServiceFailed``."""

    def save_snapshot(self, name: str) -> Snapshot:
        """Copy what it stores."""

    def load_snapshot(self, name: str) -> UpReport:
        """Put a snapshot in the place of what it stores, and start it."""

    def pause(self, service: str) -> None:
        """Stop a service in the middle of whatever it does, so that it neither answers nor ends."""

    def resume(self, service: str) -> None:
        """Let a paused service go on; no error where it is not paused."""

    def paused(self) -> Mapping[str, str | None]:
        """Return the paused services, each with the time since when (ISO 8601, UTC) or None where nobody noted it."""

    def tail(self, service: str, lines: int) -> list[str]:
        """Return the last lines of a service's log."""

    def follow(self, services: Sequence[str], stop: Callable[[], bool]) -> Iterator[tuple[str, str]]:
        """Yield (service, line) as the services write, until ``stop`` says so."""


def local_stack(
    name: str | None = None, options: StackOptions | None = None, *, home: Path | None = None
) -> LocalStack:
    """Return the stack of this name in ``home``, by default this worktree's, of the kind that is asked for or recorded.

    A stack that never ran is native. One whose record is lost is what its containers say, where they run; one whose
    record is damaged or newer is what is left of it, stopped or not.
    """
    options = options or StackOptions()
    paths = StackPaths((home or default_home()).expanduser().absolute(), check_name(name or DEFAULT_NAME))
    if options.kind is None:
        # Of a damaged record tell the commands that need it: `down` and `reset` do not.
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
    # A stack that has run as both has data of both: nothing tells which is meant, unless one runs.
    only_elsewhere = paths.record.exists() and not (paths.data.is_dir() and any(paths.data.iterdir()))
    return "compose" if (is_there if only_elsewhere else is_up)(paths) else "native"


def _kind_of_useless_record(paths: StackPaths) -> Kind | None:
    """Return the kind that a damaged record, or one of another version, still tells."""
    with suppress(DataMismatch):
        values = read_json(paths.record)
        kinds: tuple[Kind, ...] = ("native", "compose")
        return next((kind for kind in kinds if isinstance(values, dict) and values.get("kind") == kind), None)
    return None
