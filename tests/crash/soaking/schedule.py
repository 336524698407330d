"""What a soak does and when: all of it follows from the seed, before anything runs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from tests.crash.real.outages import AWAY, OUTAGES, READ_ONLY, REFUSED, SILENT, SLOW

KILL, PAUSE, RESTART, THROTTLE, OUTAGE = "kill", "pause", "restart", "throttle", "outage"

# How a service can be gone for the workers while it runs; that Textract throttles is a fault of its own.
KINDS = (AWAY, SILENT, SLOW, READ_ONLY, REFUSED)
# It is away early, so that there is work for all of the time.
_AWAY_EARLY = 0.2
# As long as several attempts; away is longer than all of them.
_SHORT_OUTAGE_SECONDS = (6.0, 10.0)

# Of the fault phase's time, the share in which uploads come; the rest of it is for those under way.
_UPLOADING = 0.85
# Nothing is killed before there is work to lose.
_QUIET_SECONDS = 1.0
_PAUSED = 0.35

_SAME_BYTES, _DAMAGED, _TWICE, _CANCELLED, _ERASED = 0.08, 0.04, 0.06, 0.04, 0.05
# Of the erasures.
_RACING = 0.2


@dataclass(frozen=True)
class Order:
    """The soak's size. ``kills`` counts pauses too; each service is restarted ``restarts`` times.

    ``outages`` is how often there is one of each kind.
    """

    uploads: int
    seconds: float
    seed: int
    kills: int
    restarts: int
    workers: int
    throttle: float
    outages: int


@dataclass(frozen=True)
class Upload:
    """One accepted upload: a job of its own about document ``document``, at a second of the run.

    ``twice`` submits the job's id a second time at the same moment. ``cancel_after`` and ``erase_after`` are seconds
    after the submission was accepted, None for a job that is left alone; where ``erase_races``, they are seconds after
    it began.
    """

    at: float
    job_id: UUID
    document: int
    damaged: bool = False
    twice: bool = False
    cancel_after: float | None = None
    erase_after: float | None = None
    erase_races: bool = False


@dataclass(frozen=True)
class Fault:
    """One fault: ``what`` happens to worker number ``worker``, or to the service named.

    ``seconds`` is how long a pause or an outage lasts, ``kind`` what an outage is.
    """

    at: float
    what: str
    worker: int = 0
    service: str = ""
    seconds: float = 0.0
    kind: str = ""


@dataclass(frozen=True)
class Schedule:
    """Everything that is decided beforehand. Which of two processes is faster is not."""

    order: Order
    uploads: tuple[Upload, ...]
    faults: tuple[Fault, ...]


def schedule_of(
    order: Order, services: tuple[str, ...], heartbeat_seconds: float, away_seconds: float = 0.0
) -> Schedule:
    """Draw uploads and faults from the order's seed; ``away_seconds`` is how long a service is away."""
    return Schedule(
        order,
        tuple(_uploads(order, random.Random(f"{order.seed}:uploads"))),  # noqa: S311 - to be drawn again
        tuple(
            sorted(
                [
                    *_faults(order, services, heartbeat_seconds, random.Random(f"{order.seed}:faults")),  # noqa: S311
                    *_outages(order, away_seconds, random.Random(f"{order.seed}:outages")),  # noqa: S311
                ],
                key=lambda fault: fault.at,
            )
        ),
    )


def _uploads(order: Order, chance: random.Random) -> Iterator[Upload]:
    times = sorted(chance.uniform(0, order.seconds * _UPLOADING) for _ in range(order.uploads))
    documents = 0
    for at in times:
        kind = chance.random()
        same = kind < _SAME_BYTES and documents > 0
        document = chance.randrange(documents) if same else documents
        documents += not same
        yield Upload(
            at=at,
            job_id=UUID(int=chance.getrandbits(128), version=4),
            document=document,
            damaged=_SAME_BYTES <= kind < _SAME_BYTES + _DAMAGED,
            twice=chance.random() < _TWICE,
            cancel_after=chance.uniform(0, 2) if chance.random() < _CANCELLED else None,
            erase_after=chance.uniform(0, 6) if chance.random() < _ERASED else None,
            erase_races=chance.random() < _RACING,
        )


def _faults(
    order: Order, services: tuple[str, ...], heartbeat_seconds: float, chance: random.Random
) -> Iterator[Fault]:
    span = (_QUIET_SECONDS, order.seconds)
    # At least two of each kind, where there are so many.
    pauses = min(max(round(order.kills * _PAUSED), 2), order.kills)
    for number in range(order.kills):
        yield Fault(
            chance.uniform(*span),
            PAUSE if number < pauses else KILL,
            worker=chance.randrange(order.workers),
            seconds=heartbeat_seconds + chance.uniform(0.5, 3.0),
        )
    if order.throttle:
        yield Fault(0.0, THROTTLE)
    for _ in range(order.restarts):
        for service in services:
            yield Fault(chance.uniform(*span), RESTART, service=service)


def _outages(order: Order, away_seconds: float, chance: random.Random) -> Iterator[Fault]:
    for _ in range(order.outages):
        taken: set[str] = set()
        for kind in KINDS:
            able = [each.service for each in OUTAGES if each.kind == kind]
            # Every service has its turn, as far as it can be so.
            service = chance.choice([each for each in able if each not in taken] or able)
            taken.add(service)
            end = order.seconds * _AWAY_EARLY if kind == AWAY and order.outages == 1 else order.seconds
            yield Fault(
                chance.uniform(_QUIET_SECONDS, max(end, _QUIET_SECONDS)),
                OUTAGE,
                service=service,
                seconds=away_seconds if kind == AWAY else chance.uniform(*_SHORT_OUTAGE_SECONDS),
                kind=kind,
            )
