"""What a stack needs from whatever runs its services."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from photo_worker.devkit.stack_options import Kind

if TYPE_CHECKING:
    from photo_worker.devkit.errors import ServiceFailed
    from photo_worker.devkit.service import Service
    from photo_worker.devkit.snapshots import Snapshot
    from photo_worker.devkit.state import StackRecord
    from photo_worker.devkit.status import StackStatus
    from photo_worker.devkit.timeline import Timeline

Services = Sequence["Service"]


@dataclass(frozen=True)
class RunningServices:
    """What of a stack runs now, paused services included."""

    alive: bool
    """Whether anything runs."""
    services: frozenset[str] = frozenset()
    """The names of what runs; in containers, with those that serve another one."""


class Runtime(Protocol):
    """Runs the services of one stack. The caller holds the stack's command lock, except for what only reads."""

    kind: Kind
    subject: str
    """What has ended if a service has, at the start of a sentence: it, its container."""
    lock_seconds: float
    """How long a command waits for another one on the same stack."""
    stop_lock_seconds: float
    """The same for ``down``."""

    def is_up(self) -> bool:
        """Return whether anything runs, cheaply, and without waiting for a start or a stop to end."""

    def is_settled(self) -> bool:
        """Return whether no start is under way that would explain a service that has ended."""

    def observe(self) -> RunningServices:
        """Return what runs, after an abandoned start, if any, has ended by itself; raises ``StackError``."""

    def status(self, record: StackRecord, services: Services) -> StackStatus:
        """Probe every service, external ones included, at the same time."""

    def refuse(self, record: StackRecord | None) -> None:
        """Raise ``StackOfOtherKind`` if the stack runs in the other runtime."""

    def versioned(self, record: StackRecord, services: Services) -> StackRecord:
        """Return the record with the versions that a start would run now, if they are known without starting."""

    def require_startable(self, services: Services) -> None:
        """Raise ``StackError`` if a start cannot succeed; called before anything is stopped."""

    def prepare(
        self, known: StackRecord | None, record: StackRecord, services: Services, timeline: Timeline
    ) -> StackRecord:
        """Fetch what a start of the stopped stack needs, and return the record to start with."""

    def launch(self, record: StackRecord, services: Services, timeline: Timeline) -> StackRecord:
        """Start the stopped services and do what ``make_ready`` does; services stay up if one of them fails."""

    def abandon(self) -> None:
        """Undo a launch that was interrupted, as far as ``launch`` has not."""

    def make_ready(self, record: StackRecord, services: Services, timeline: Timeline) -> StackRecord:
        """Probe all services; return the record with what external ones chose. Raises ``ServiceFailed``."""

    def restart_helps(self, error: ServiceFailed, record: StackRecord, services: Services) -> bool:
        """Return whether a service that failed while all ran may work after a restart."""

    def wipe(self, record: StackRecord, services: Services, timeline: Timeline) -> StackRecord:
        """Delete the data of the running services and make them ready; raises ``ResetFailed`` and ``StackError``."""

    def stop(self) -> bool:
        """Stop everything and keep the data; return whether anything ran."""

    def stop_lost(self, *, data: bool) -> bool:
        """Stop a stack whose directory is gone, and delete its ``data``; return whether anything ran."""

    def erase(self, known: StackRecord | None) -> None:
        """Stop everything, and delete the data and the logs; keeps ``known`` as the record."""

    def has_data(self, record: StackRecord) -> bool:
        """Return whether there is anything that a snapshot would hold."""

    def copy_out(self, record: StackRecord, services: Services, directory: Path) -> None:
        """Write a copy of the stopped stack's data to a directory."""

    def restore(self, snapshot: Snapshot, record: StackRecord, services: Services, timeline: Timeline) -> None:
        """Stop everything, and replace data and record by a snapshot's; nothing is stopped if that is impossible.

        ``services`` are those that run with the snapshot.
        """

    def pause(self, service: str) -> None:
        """Suspend a service; raises ``StackNotRunning`` and ``FaultNotSet``."""

    def resume(self, service: str | None = None) -> None:
        """Resume a paused service, or all; no error if it is not paused."""

    def paused(self, services: Collection[str]) -> Mapping[str, str | None]:
        """Return when each paused service was paused (ISO 8601, UTC), by name; None if the time was not recorded."""

    def tail(self, service: str, lines: int) -> list[str]:
        """Return the last lines of a service's log."""

    def follow(
        self, services: Sequence[str], own: Collection[str], stop: Callable[[], bool]
    ) -> Iterator[tuple[str, str]]:
        """Yield (service, line) as services write, ``own`` ones and the worker, until ``stop`` returns true."""
