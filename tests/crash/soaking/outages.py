"""Runs the outages of a soak: begin, wait for the scheduled duration in real time, end."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import psycopg

from tests.crash.real.outages import TEMPORAL
from tests.crash.soaking.schedule import Fault

_MOMENT_SECONDS = 60.0
_LOOK_SECONDS = 0.05


class Switch(Protocol):
    """Switches a service's outage for the workers. Its methods block: call them in a thread."""

    def begin(self, kind: str) -> None:
        """Begin an outage of this kind."""

    def end(self, kind: str) -> None:
        """End the outage."""


class Outages:
    """Runs outages of services for the workers alone; one at a time for each service.

    While Temporal is away no attempt begins, so that none counts: an outage of another service lasts until it has
    lasted for its duration without interruption by that, however late the machine began one of them.
    """

    def __init__(self, switches: Mapping[str, Switch]) -> None:
        self._switches = switches
        self._turns = {service: asyncio.Lock() for service in switches}
        self._temporal: list[tuple[float, float]] = []
        """Begin and end of each outage of Temporal; infinite for the end of a running one."""
        self.by_kind: Counter[str] = Counter()
        """The number of outages by kind, without those of Temporal."""
        self.of_temporal = 0
        self.shortest: float | None = None
        """The shortest time in seconds of a service's outage with Temporal present, or of Temporal's outage."""

    def total(self) -> int:
        """Return the number of outages that have ended."""
        return self.by_kind.total() + self.of_temporal

    async def let(self, fault: Fault) -> None:
        """Run the fault's outage from begin to end."""
        async with self._turns[fault.service]:
            lasted = await (self._of_temporal(fault) if fault.service == TEMPORAL else self._of_another(fault))
            self.shortest = lasted if self.shortest is None else min(lasted, self.shortest)

    async def _of_temporal(self, fault: Fault) -> float:
        switch = self._switches[fault.service]
        # Requests and responses in transit may be lost already.
        self._temporal.append((time.monotonic(), math.inf))
        await _in_spite_of_restarts(lambda: switch.begin(fault.kind))
        began = time.monotonic()
        try:
            await asyncio.sleep(fault.seconds)
            lasted = time.monotonic() - began
        finally:
            await _in_spite_of_restarts(lambda: switch.end(fault.kind))
            self._temporal[-1] = (self._temporal[-1][0], time.monotonic())
        self.of_temporal += 1
        return lasted

    async def _of_another(self, fault: Fault) -> float:
        switch = self._switches[fault.service]
        await _in_spite_of_restarts(lambda: switch.begin(fault.kind))
        began = time.monotonic()
        lasted = 0.0
        try:
            while lasted < fault.seconds:
                await asyncio.sleep(_LOOK_SECONDS)
                lasted = longest_beside(self._temporal, began, time.monotonic())
        finally:
            await _in_spite_of_restarts(lambda: switch.end(fault.kind))
        self.by_kind[fault.kind] += 1
        return lasted


def longest_beside(spans: Iterable[tuple[float, float]], began: float, ended: float) -> float:
    """Return the length of the longest part of ``began`` to ``ended`` that no span covers."""
    longest, at = 0.0, began
    for first, last in sorted(spans):
        longest = max(longest, min(first, ended) - at)
        at = max(at, last)
    return max(longest, ended - at)


async def _in_spite_of_restarts(act: Callable[[], None]) -> None:
    """Call ``act``, and retry while the soak itself restarts the service."""
    limit = time.monotonic() + _MOMENT_SECONDS
    while True:
        try:
            await asyncio.to_thread(act)
        except psycopg.OperationalError:
            if time.monotonic() > limit:
                raise
            await asyncio.sleep(0.3)
        else:
            return
