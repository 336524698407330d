"""The schedule of a soak, which follows from the seed before anything runs."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from uuid import UUID

from tests.crash.real.outages import (
    AWAY,
    OUTAGES,
    READ_ONLY,
    REFUSED,
    SILENT,
    SLOW,
    TEMPORAL,
    TEXTRACT,
    THROTTLING,
    Outage,
)

KILL, PAUSE, RESTART, THROTTLE, OUTAGE = "kill", "pause", "restart", "throttle", "outage"

# Kinds of outages for workers of a running service. Textract's refusal of some calls is a separate fault.
KINDS = (AWAY, SILENT, SLOW, THROTTLING, READ_ONLY, REFUSED)
_COUNTING = tuple(each for each in OUTAGES if each.service != TEMPORAL)
# Outages of one service do not overlap, so that this is the maximum at once. They begin within this time.
_AT_ONCE = 3
_APART_SECONDS = 1.0

# The share of the fault phase in which uploads come; the rest is for those in progress.
_UPLOADING = 0.85
# The time before the first kill, so that there is work to lose.
_QUIET_SECONDS = 1.0
_PAUSED = 0.35

_SAME_BYTES, _DAMAGED, _TWICE, _CANCELLED, _ERASED = 0.08, 0.04, 0.06, 0.04, 0.05
# A share of the erasures.
_RACING = 0.2


@dataclass(frozen=True)
class SoakOptions:
    """The soak's size. ``kills`` counts pauses too; each service is restarted ``restarts`` times.

    ``outages`` is the number of outages of each kind, and of further ones of Temporal. ``throttle`` is the share of
    calls that Textract always refuses.
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
    """One accepted upload: a job for the document number ``document``, at a second of the run.

    ``twice`` submits the same job id a second time at the same moment. ``cancel_after`` and ``erase_after`` are seconds
    after the submission was accepted, None for neither; with ``erase_races``, they are seconds after its start.
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
    """One fault: ``what`` happens to worker number ``worker`` or to ``service``.

    ``seconds`` is the duration of a pause or an outage, ``kind`` the kind of outage.
    """

    at: float
    what: str
    worker: int = 0
    service: str = ""
    seconds: float = 0.0
    kind: str = ""


@dataclass(frozen=True)
class Schedule:
    """All uploads and faults; the schedule does not decide which of two processes is faster."""

    order: SoakOptions
    uploads: tuple[Upload, ...]
    faults: tuple[Fault, ...]


def sound(uploads: Iterable[Upload], damaged: Collection[int]) -> set[UUID]:
    """Return the jobs whose documents can be read, and which are neither cancelled nor erased."""
    return {
        upload.job_id
        for upload in uploads
        if upload.document not in damaged and upload.cancel_after is None and upload.erase_after is None
    }


def schedule_of(
    order: SoakOptions,
    services: tuple[str, ...],
    heartbeat_seconds: float,
    outage_seconds: float = 0.0,
    only: str | None = None,
) -> Schedule:
    """Draw uploads and faults from the order's seed.

    ``outage_seconds`` is the duration of each outage; ``only`` restricts outages to one kind.
    """
    return Schedule(
        order,
        tuple(_uploads(order, random.Random(f"{order.seed}:uploads"))),  # noqa: S311 - to be drawn again
        tuple(
            sorted(
                [
                    *_faults(order, services, heartbeat_seconds, random.Random(f"{order.seed}:faults")),  # noqa: S311
                    *_outages(order, outage_seconds, only, random.Random(f"{order.seed}:outages")),  # noqa: S311
                ],
                key=lambda fault: fault.at,
            )
        ),
    )


def _uploads(order: SoakOptions, chance: random.Random) -> Iterator[Upload]:
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
    order: SoakOptions, services: tuple[str, ...], heartbeat_seconds: float, chance: random.Random
) -> Iterator[Fault]:
    span = (_QUIET_SECONDS, order.seconds)
    # At least two of each kind, if there are enough.
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


def _outages(order: SoakOptions, seconds: float, only: str | None, chance: random.Random) -> Iterator[Fault]:
    """Yield the outages: each group begins in its own part of the time, and ends in it if that is long enough."""
    groups = [group for _ in range(order.outages) for group in ([[_one_of(only, chance)]] if only else _groups(chance))]
    part = (order.seconds - _QUIET_SECONDS) / max(len(groups), 1)
    for number, group in enumerate(groups):
        begin = _QUIET_SECONDS + number * part + chance.uniform(0, max(part - seconds - _APART_SECONDS, 0))
        for outage in group:
            later = chance.uniform(0, _APART_SECONDS) if len(group) > 1 else 0.0
            yield Fault(begin + later, OUTAGE, service=outage.service, seconds=seconds, kind=outage.kind)


def _one_of(kind: str, chance: random.Random) -> Outage:
    return chance.choice([each for each in _COUNTING if each.kind == kind])


def _groups(chance: random.Random) -> list[list[Outage]]:
    """Return every kind once, in two groups of three services each, and an outage of Temporal alone.

    While Temporal is away no attempt begins, so that none would be counted. The throttling service is Textract.
    """
    while True:
        kinds = chance.sample([kind for kind in KINDS if kind != THROTTLING], len(KINDS) - 1)
        first = [Outage(TEXTRACT, THROTTLING), *(_one_of(kind, chance) for kind in kinds[: _AT_ONCE - 1])]
        second = [_one_of(kind, chance) for kind in kinds[_AT_ONCE - 1 :]]
        if all(len({outage.service for outage in group}) == _AT_ONCE for group in (first, second)):
            break
    groups = [first, second, [chance.choice([each for each in OUTAGES if each.service == TEMPORAL])]]
    chance.shuffle(groups)
    return groups
