"""The outages of a soak: each begins, lasts for as long as it should on this machine, and ends."""

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
    """What lets a service be gone for the workers. Its methods wait: they belong in a thread."""

    def begin(self, kind: str) -> None:
        """Let the service be as ``kind`` says from now on."""

    def end(self, kind: str) -> None:
        """Let it be as before."""


class Outages:
    """Lets services be gone for the workers alone; one outage of a service at a time.

    While Temporal is gone no attempt begins, so that none counts: an outage of another service lasts until it has
    lasted for as long as it should in one piece beside that, however late the machine began with one of them.
    """

    def __init__(self, switches: Mapping[str, Switch]) -> None:
        self._switches = switches
        self._turns = {service: asyncio.Lock() for service in switches}
        self._temporal: list[tuple[float, float]] = []
        """Begin and end of each of Temporal's; the end of one that lasts is infinite."""
        self.by_kind: Counter[str] = Counter()
        """Those of Temporal are counted apart."""
        self.of_temporal = 0
        self.shortest: float | None = None
        """Seconds for which the workers were without a service and had Temporal, or without Temporal, at least."""

    def total(self) -> int:
        """Return how many have ended."""
        return self.by_kind.total() + self.of_temporal

    async def let(self, fault: Fault) -> None:
        """Let the fault's outage begin, last and end."""
        async with self._turns[fault.service]:
            lasted = await (self._of_temporal(fault) if fault.service == TEMPORAL else self._of_another(fault))
            self.shortest = lasted if self.shortest is None else min(lasted, self.shortest)

    async def _of_temporal(self, fault: Fault) -> float:
        switch = self._switches[fault.service]
        # What is under way, in either direction, may be without it already.
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
    """Return how long the longest piece from ``began`` to ``ended`` is in which none of the spans lies."""
    longest, at = 0.0, began
    for first, last in sorted(spans):
        longest = max(longest, min(first, ended) - at)
        at = max(at, last)
    return max(longest, ended - at)


async def _in_spite_of_restarts(act: Callable[[], None]) -> None:
    """Do what is done at a service that may be away for a moment, by our own doing."""
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
