"""Process many uploads while workers, the services behind them and the calls between them fail.

``python -m tests.crash.soak --uploads 300 --seconds 63 --kills 20 --outages 1`` starts a temporary stack, works on it,
and ends it. Workers are killed and paused for longer than their heartbeats allow, each service is killed and restarted,
Textract refuses three calls of ten; for the workers a service is away, silent, slow, throttling, read-only, or refuses
their credentials, each for longer than all counted attempts; users submit twice, cancel and erase. After the faults
every accepted upload must end, every one without its own reason to fail must have succeeded, and every invariant must
hold. Exit codes: 0, or 1 with the violations.

The seed decides which fault happens when, to which worker and upload. It does not decide which of two processes is
faster, so that the same seed gives the same faults but not the same interleaving.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter

from photo_worker.adapters.postgres import migrate
from photo_worker.devkit.stack import Stack
from photo_worker.errors import DependencyError
from photo_worker.ports.job_repository import FINAL_STATUSES
from tests.crash.real import killing_services
from tests.crash.real.environment import Environment, World, open_environment
from tests.crash.real.facts import emulator
from tests.crash.real.killing_services import Services
from tests.crash.real.outages import REACHED, reach_of
from tests.crash.real.processes import ROOT, open_forkserver
from tests.crash.real.scaled import Scale, longest_count_seconds
from tests.crash.soaking.fleet import Fleet
from tests.crash.soaking.outages import Outages
from tests.crash.soaking.schedule import KINDS, Fault, Schedule, SoakOptions, schedule_of
from tests.crash.soaking.uploads import Users
from tests.crash.soaking.verdict import Verdict, judge
from tests.support.resources import create_database, database_named

# Short attempts, so that an outage can outlast all attempts of an activity whose attempts are counted.
SCALE = Scale(heartbeat=3.0, start_to_close=1.0, response=3.0)
COUNTED_SECONDS = longest_count_seconds(SCALE)
OUTAGE_SECONDS = COUNTED_SECONDS + 2.0

_PROGRESS_SECONDS = 4.0
# A slow service responds after the caller's timeout.
_LATE_SECONDS = 4.0
# From the last fault to the last job's end: several times all attempts of all activities, and a job's own time.
_END_SECONDS, _END_SECONDS_A_JOB = 120.0, 0.3
_DRAIN_SECONDS = 30.0
_DEFAULT_REPORT = ROOT / ".reports" / "soak.json"


@dataclass
class Soak:
    """One run, under way."""

    schedule: Schedule
    world: World
    services: Services | None
    users: Users
    fleet: Fleet
    outages: Outages
    finals: dict[UUID, str] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    throttles: int = 0
    _throttling: bool = False
    _began: float = field(default_factory=time.monotonic)
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Run uploads and faults, and wait until every job has ended."""
        await self.fleet.start()
        self._began = time.monotonic()
        watching = [asyncio.create_task(one()) for one in (self._watch, self._say, self._mend)]
        try:
            async with asyncio.TaskGroup() as group:
                for upload in self.schedule.uploads:
                    group.create_task(self.users.live(upload, self._began))
                group.create_task(self._disturb())
            await self._calm()
            limit = time.monotonic() + _END_SECONDS + _END_SECONDS_A_JOB * len(self.schedule.uploads)
            # The verdict names jobs that have not ended by then.
            while not await self._all_ended() and time.monotonic() < limit:  # noqa: ASYNC110 - the server sends no event
                await asyncio.sleep(0.3)
        finally:
            self._over.set()
            await asyncio.gather(*watching)
        await self.fleet.drain(_DRAIN_SECONDS)

    async def _disturb(self) -> None:
        """Inject the faults at their times. Restarts run one after the other, concurrently with kills of workers."""
        turn = asyncio.Lock()
        async with asyncio.TaskGroup() as group:
            for fault in self.schedule.faults:
                await asyncio.sleep(max(0.0, self._began + fault.at - time.monotonic()))
                match fault.what:
                    case "kill":
                        await self.fleet.kill(fault.worker)
                    case "pause":
                        self.fleet.pause(fault.worker, fault.seconds)
                    case "throttle":
                        await self._throttle()
                    case "restart":
                        group.create_task(self._restart(fault, turn))
                    case "outage":
                        group.create_task(self.outages.let(fault))

    async def _restart(self, fault: Fault, turn: asyncio.Lock) -> None:
        assert self.services is not None
        async with turn:
            if fault.service == "textract":
                await self._count_throttles()
            await self.services.restart(fault.service)
            self.restarts[fault.service] = self.restarts.get(fault.service, 0) + 1
            if fault.service == "textract" and self._throttling:
                # A restarted emulator has lost its fault script.
                await self._throttle()

    async def _throttle(self) -> None:
        self._throttling = True
        rule = {
            "kind": "throttle",
            "operations": ["*DocumentTextDetection"],
            "probability": self.schedule.order.throttle,
        }
        script = {"seed": self.schedule.order.seed, "rules": [rule]}
        await asyncio.to_thread(emulator, self.world.environment.stack, "faults", method="PUT", body=script)

    async def _count_throttles(self) -> None:
        if not self._throttling:
            return
        shown = await asyncio.to_thread(emulator, self.world.environment.stack, "faults")
        self.throttles += sum(int(rule["taken"]) for rule in shown["rules"])

    async def _calm(self) -> None:
        """End the faults."""
        if not self._throttling:
            return
        await self._count_throttles()
        self._throttling = False
        await asyncio.to_thread(emulator, self.world.environment.stack, "faults", method="DELETE")

    async def _all_ended(self) -> bool:
        rows = await asyncio.to_thread(lambda: {row.id: row.status for row in self.world.repository.all()})
        left = [job_id for job_id in self.users.accepted if job_id not in self.users.erased]
        if any(rows.get(job_id) not in FINAL_STATUSES for job_id in left):
            return False
        # A row is final a moment before its workflow closes.
        return not [job_id async for job_id in self.world.orchestrator.open_workflows()]

    async def _watch(self) -> None:
        """Record final statuses when they appear, to detect one that changes later."""
        while not self._over.is_set():
            # The soak itself restarts the service.
            with contextlib.suppress(DependencyError):
                rows = await asyncio.to_thread(lambda: list(self.world.repository.all()))
                for row in rows:
                    if row.status in FINAL_STATUSES:
                        self.finals.setdefault(row.id, row.status)
            await self._nap(1.0)

    async def _say(self) -> None:
        while not self._over.is_set():
            total = len(self.schedule.uploads)
            say(
                f"{time.monotonic() - self._began:4.0f} s: {len(self.users.accepted)} of {total} uploads accepted, "
                f"{len(self.finals)} ended; {self.fleet.kills} kills, {self.fleet.pauses} pauses, "
                f"{sum(self.restarts.values())} restarts, {self.outages.total()} outages"
            )
            await self._nap(_PROGRESS_SECONDS)

    async def _mend(self) -> None:
        while not self._over.is_set():
            await self.fleet.repair()
            await self._nap(0.5)

    async def _nap(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()


def say(text: str) -> None:
    """Report progress on standard error."""
    print(f"soak: {text}", file=sys.stderr, flush=True)  # noqa: T201 - a program


@asynccontextmanager
async def open_place(order: SoakOptions) -> AsyncIterator[tuple[Environment, Services]]:
    """Start a stack that is deleted after the block in any case."""
    home = Path(tempfile.mkdtemp(prefix="photo-worker-soak-"))
    # Postgres, which root starts as another user, must be able to traverse it, or its data would be elsewhere.
    await asyncio.to_thread(home.chmod, 0o711)
    stack = Stack(home, f"soak-{secrets.token_hex(3)}", base_port=0, durable=True)
    try:
        started = await asyncio.to_thread(stack.up)
        say(f"a stack of its own is up after {started.seconds:.1f} s")
        variables = stack.env()
        template = await asyncio.to_thread(create_database, variables["DATABASE_URL"])
        await asyncio.to_thread(migrate.upgrade, database_named(variables["DATABASE_URL"], template))
        logs = home / "workers"
        logs.mkdir()
        async with (
            open_forkserver() as forkserver,
            open_environment(variables, template, forkserver, logs) as environment,
        ):
            restarter = Services(stack, forkserver)
            try:
                yield environment, restarter
            finally:
                await restarter.close()
    finally:
        await asyncio.to_thread(stack.delete)
        shutil.rmtree(home, ignore_errors=True)


async def soak(order: SoakOptions) -> tuple[Soak, Verdict]:
    """Run a soak and judge it."""
    async with open_place(order) as (environment, restarter):
        return await soak_in(environment, restarter, order)


async def soak_in(
    environment: Environment,
    restarter: Services | None,
    order: SoakOptions,
    only: str | None = None,
    slots: int = 4,
    outage_seconds: float = OUTAGE_SECONDS,
) -> tuple[Soak, Verdict]:
    """Run a soak on a stack and judge it; ``restarter`` may be None for an order without restarts.

    ``only`` restricts outages to one kind, ``slots`` is the number of concurrent activities of a worker,
    ``outage_seconds`` the minimum duration of an outage.
    """
    schedule = schedule_of(order, killing_services.NAMES, SCALE.heartbeat, outage_seconds, only)
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(environment.world("soak", SCALE, MAX_ACTIVITIES=str(slots)))
        reaches = {
            service: await stack.enter_async_context(reach_of(world.variables, service, _LATE_SECONDS))
            for service in REACHED
        }
        own = {name: value for reach in reaches.values() for name, value in reach.variables.items()}
        damaged = frozenset(upload.document for upload in schedule.uploads if upload.damaged)
        fleet = Fleet(lambda: world.worker(None, **own), order.workers)
        running = Soak(schedule, world, restarter, Users(world, damaged), fleet, Outages(reaches))
        await running.run()
        say("everything has ended; looking at what is left")
        secret = [word for reach in reaches.values() for word in reach.secrets]
        return running, await judge(world, running.users, running.finals, secret)


def report_of(order: SoakOptions, running: Soak, verdict: Verdict, seconds: float) -> dict[str, Any]:
    """Return the run's counts as flat JSON data."""
    users, fleet = running.users, running.fleet
    return {
        "seed": order.seed,
        "command": command_of(order),
        "seconds": round(seconds, 1),
        "uploads": len(users.accepted),
        "refused": len(users.refused - set(users.accepted)),
        "documents": len({upload.document for upload in running.schedule.uploads}),
        "submissions": users.submissions,
        "submissions_tried_again": users.tried_again,
        "succeeded": verdict.succeeded,
        "succeeded_share": round(verdict.succeeded / max(len(users.accepted), 1), 3),
        "least_share": round(verdict.least / max(len(users.accepted), 1), 3),
        "failed": verdict.failed,
        "erased": verdict.erased,
        "cancelled": len(users.cancelled),
        "workflows_closed": verdict.closed,
        "kills": fleet.kills,
        "pauses": fleet.pauses,
        "workers_turned_away": fleet.turned_away,
        "restarts": sum(running.restarts.values()),
        **{f"restarts_{name}": number for name, number in sorted(running.restarts.items())},
        **{f"outages_{kind.replace('-', '_')}": running.outages.by_kind[kind] for kind in KINDS},
        "outages_of_temporal": running.outages.of_temporal,
        "shortest_outage_seconds": round(running.outages.shortest or 0.0, 1),
        "counted_seconds": round(COUNTED_SECONDS, 1),
        "throttles": running.throttles,
        "retries": verdict.retries,
        "charges": verdict.charges,
        **{f"failed_{code}": number for code, number in sorted(verdict.failures.items())},
        "violations": [*map(str, verdict.violations), *(f"workers: {text}" for text in fleet.unexpected)],
    }


def command_of(order: SoakOptions) -> str:
    """Return the command that repeats the same faults."""
    options = " ".join(f"--{name} {value:g}" for name, value in vars(order).items() if name != "seed")
    return f"python3 dev.py nox -s soak -- {options} --seed {order.seed}"


def summary_of(report: dict[str, Any]) -> str:
    """Return the run in a line."""
    counts = {kind: report[f"outages_{kind.replace('-', '_')}"] for kind in KINDS}
    outages = "services " + ", ".join(f"{number} times {kind}" for kind, number in counts.items())
    outages += (
        f", Temporal {report['outages_of_temporal']} times (each {report['shortest_outage_seconds']:g} s or more)"
    )
    return (
        f"{report['uploads']} uploads, {report['kills']} kills, {report['pauses']} pauses, "
        f"{report['restarts']} restarts, {outages}, {report['throttles']} throttles, {report['retries']} retries: "
        f"{report['succeeded']} succeeded ({report['succeeded_share']:.1%}, at least {report['least_share']:.1%}), "
        f"{report['failed']} failed with a reason, {report['erased']} erased, "
        f"{report['charges']} charges for {report['documents']} documents; "
        f"{len(report['violations'])} violations in {report['seconds']:.0f} s (seed {report['seed']})"
    )


def order_of(arguments: list[str] | None) -> tuple[SoakOptions, argparse.Namespace]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--uploads", type=_positive, default=5000, help="accepted uploads (%(default)s)")
    parser.add_argument("--seconds", type=float, default=900.0, help="how long faults go on (%(default)g)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of all that is drawn (by chance)")
    parser.add_argument("--kills", type=int, default=320, help="kills and pauses of workers (%(default)s)")
    parser.add_argument("--restarts", type=int, default=3, help="of each service (%(default)s)")
    parser.add_argument("--workers", type=_positive, default=3, help="worker processes at a time (%(default)s)")
    parser.add_argument(
        "--outages", type=int, default=5, help="of each kind, and of Temporal, for the workers (%(default)s)"
    )
    parser.add_argument("--throttle", type=float, default=0.3, help="share of Textract's calls refused (%(default)g)")
    parser.add_argument("--report", type=Path, default=_DEFAULT_REPORT, help="file of the counts (.reports/soak.json)")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="what stdout shows")
    chosen = parser.parse_args(arguments)
    if not 0 <= chosen.throttle < 1 or chosen.seconds <= 0 or min(chosen.kills, chosen.restarts, chosen.outages) < 0:
        parser.error(
            "--throttle lies from 0 to below 1, --seconds is above 0, --kills, --restarts and --outages from 0"
        )
    names = ("uploads", "seconds", "seed", "kills", "restarts", "workers", "throttle", "outages")
    return SoakOptions(**{name: getattr(chosen, name) for name in names}), chosen


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


async def _run(order: SoakOptions) -> dict[str, Any]:
    began = time.monotonic()
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        # Cancellation ends the processes that it has started.
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    running, verdict = await soak(order)
    return report_of(order, running, verdict, time.monotonic() - began)


def main(arguments: list[str] | None = None) -> int:
    """Run a soak, write its report, and return the exit code."""
    order, chosen = order_of(arguments)
    # Connection pools log at length that their server is gone; the soak prints one line.
    logging.basicConfig(level=logging.ERROR)
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
    quiet = TelemetryConfig(logging=LoggingConfig(TelemetryFilter(core_level="ERROR", other_level="ERROR")))
    Runtime.set_default(Runtime(telemetry=quiet))
    say(f"seed {order.seed}; again: {command_of(order)}")
    try:
        report = asyncio.run(_run(order))
    except asyncio.CancelledError:
        say("interrupted; nothing was judged")
        return 130
    chosen.report.parent.mkdir(parents=True, exist_ok=True)
    chosen.report.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    for text in report["violations"]:
        say(f"VIOLATED {text}")
    say(summary_of(report))
    if report["violations"]:
        say(f"again: {report['command']}")
    if chosen.output == "json":
        print(json.dumps(report, ensure_ascii=False))  # noqa: T201 - what was asked for
    return 1 if report["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
