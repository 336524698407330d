"""A state machine of events in a deployment in any order: users, kills, pauses, lost and doubled calls, and time.

Hypothesis chooses the rules and their arguments; the seed of the world decides the order of processes between them.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from photo_worker.sources import Source
from tests.crash.invariants import Watch
from tests.crash.simulation.commands import Command, Console
from tests.crash.simulation.gate import OUTAGE, OUTAGES, Mode, Outage, Phase, Process
from tests.crash.simulation.world import BUCKET, World
from tests.crash.usages import ACCESS, FIRST, SECOND, THEIRS, photo
from tests.crash.violation import Violation

# Few enough that several jobs have the same photo.
PHOTOS = st.sampled_from(("cat", "dog"))
_THEIRS = "theirs"
# An index modulo the number of candidates, so that each value selects one.
WHICH = st.integers(0, 5)
# Calls in advance: a submission makes some ten calls, a whole job about thirty.
AHEAD = st.integers(0, 12)
# The modes of faults at a call, in a world with one deployment.
MODES = tuple(mode for mode in Mode if mode is not Mode.INTRUDE)
PORTS = ("store", "rows", "textract", "orchestrator")
# Faults of services that may end an attempt, possibly the last: activities of an erased job are not retried.
ENDS_ATTEMPTS = OUTAGES | {Mode.DIE, Mode.RAISE, Mode.REFUSE}
# The number of steps that run after a rule.
STEPS = st.integers(0, 40)

Tally: TypeAlias = Counter[str]


class Deployment(RuleBasedStateMachine):
    """Two workers, and a user for each command. ``tally`` counts the events of all examples."""

    jobs: Bundle[UUID] = Bundle("jobs")

    def __init__(self, directory: Path, tally: Tally, command: str) -> None:
        super().__init__()
        self._directory = directory
        self._tally = tally
        self._again = command
        self._seed = 0
        self._broken = False
        self._made = 0
        self._cancelled: set[UUID] = set()
        self._outages = 0
        self._photo: dict[UUID, str] = {}
        self._submissions: list[tuple[UUID, Command]] = []
        self._erasures: list[tuple[UUID, Command]] = []
        self._begin()

    def _begin(self) -> None:
        self._world = World(seed=self._seed, workers=2)
        self._console = Console(self._world)
        self._watch = Watch(self._world)
        self._world.watch = self._look
        self._processes: set[Process] = set()

    def _look(self) -> list[Violation]:
        self._processes |= {strand.process for strand in self._world.strands}
        return self._watch.now()

    @initialize(seed=st.integers(0, 1 << 16))
    def order(self, seed: int) -> None:
        self._world.close()
        self._seed = seed
        self._begin()
        self._tally["examples"] += 1

    # -- users ------------------------------------------------------------------

    def _submit(self, job_id: UUID, name: str) -> None:
        source = self._theirs() if name == _THEIRS else photo(self._directory, name)
        self._submissions.append((job_id, self._console.submit(job_id, source)))
        self._tally["submissions"] += 1

    def _theirs(self) -> Source:
        """Return a source that is an object of another owner, which may be replaced before it is read."""
        owner = self._world.owner
        owner.others = (FIRST, SECOND)
        if not owner.writings:
            owner.write(THEIRS, FIRST)
        return Source(label=_THEIRS, bucket=BUCKET, key=THEIRS)

    @rule(target=jobs, steps=STEPS)
    def read_somebodys_object(self, steps: int) -> UUID:
        return self._upload(_THEIRS, steps)

    @rule(steps=STEPS)
    def replace_somebodys_object(self, steps: int) -> None:
        self._tally["replace"] += bool(self._world.owner.writings)
        self._world.owner.replace()
        self._go_on(steps)

    @rule(target=jobs, name=PHOTOS, steps=STEPS)
    def upload(self, name: str, steps: int) -> UUID:
        return self._upload(name, steps)

    def _upload(self, name: str, steps: int) -> UUID:
        self._made += 1
        job_id = UUID(int=(self._made << 100) + self._made)
        self._photo[job_id] = name
        self._submit(job_id, name)
        self._go_on(steps)
        return job_id

    @rule(target=jobs, job_id=jobs, steps=STEPS)
    def upload_the_same_photo(self, job_id: UUID, steps: int) -> UUID:
        return self._upload(self._photo[job_id], steps)

    @rule(job_id=jobs, steps=STEPS)
    def submit_the_same_id(self, job_id: UUID, steps: int) -> None:
        self._submit(job_id, self._photo[job_id])
        self._go_on(steps)

    @rule(job_id=jobs, steps=STEPS)
    def submit_another_photo_under_the_id(self, job_id: UUID, steps: int) -> None:
        self._submit(job_id, "bird")
        self._go_on(steps)

    @rule(job_id=jobs, steps=STEPS)
    def cancel(self, job_id: UUID, steps: int) -> None:
        self._console.cancel(job_id)
        self._cancelled.add(job_id)
        self._tally["cancellations"] += 1
        self._go_on(steps)

    @rule(job_id=jobs, steps=STEPS)
    def erase(self, job_id: UUID, steps: int) -> None:
        self._erasures.append((job_id, self._console.erase(job_id)))
        self._tally["erasures"] += 1
        self._go_on(steps)

    @rule(job_id=jobs, before=st.integers(100, 300), steps=STEPS)
    def erase_later(self, job_id: UUID, before: int, steps: int) -> None:
        """Erase a job that is likely to have ended, while others may use the same photo."""
        self._go_on(before)
        self._erasures.append((job_id, self._console.erase(job_id)))
        self._tally["erasures"] += 1
        self._go_on(steps)

    @rule(steps=STEPS)
    def give_commands_again(self, steps: int) -> None:
        self._console.reinspect()
        self._go_on(steps)

    # -- time ---------------------------------------------------------------------

    @rule(steps=st.integers(40, 200))
    def go_on(self, steps: int) -> None:
        self._go_on(steps)

    def _go_on(self, steps: int) -> None:
        for _ in range(steps):
            if not self._world.step():
                return
            self._tally["steps"] += 1

    @rule(seconds=st.sampled_from((1, 11, 31, 121)))
    def let_time_pass(self, seconds: int) -> None:
        """Advance the time: a second, or more than the limit of a workflow task, a heartbeat or an attempt."""
        self._world.now += timedelta(seconds=seconds)
        self._world.service.expire()

    # -- faults -------------------------------------------------------------------

    def _worker(self, which: int) -> Process:
        workers = self._world.workers
        return workers[which % len(workers)].process

    @rule(which=WHICH, steps=STEPS)
    def kill_a_worker(self, which: int, steps: int) -> None:
        self._worker(which).alive = False
        self._tally["kills"] += 1
        self._go_on(steps)

    @rule(which=WHICH, steps=STEPS)
    def pause_a_worker(self, which: int, steps: int) -> None:
        self._worker(which).paused = True
        self._tally["pauses"] += 1
        self._go_on(steps)

    def _clients(self) -> list[Process]:
        strands = [strand for command in self._console.commands for strand in command.strands]
        return [strand.process for strand in strands if not strand.done and strand.process.alive]

    @precondition(lambda self: self._clients())
    @rule(which=WHICH, steps=STEPS)
    def kill_a_command(self, which: int, steps: int) -> None:
        clients = self._clients()
        clients[which % len(clients)].alive = False
        self._tally["kills"] += 1
        self._go_on(steps)

    @precondition(lambda self: self._clients())
    @rule(which=WHICH, steps=STEPS)
    def pause_a_command(self, which: int, steps: int) -> None:
        clients = self._clients()
        clients[which % len(clients)].paused = True
        self._tally["pauses"] += 1
        self._go_on(steps)

    @precondition(lambda self: self._world.paused)
    @rule(steps=STEPS)
    def resume(self, steps: int) -> None:
        self._world.resume()
        self._go_on(steps)

    @rule(ahead=AHEAD, phase=st.sampled_from(Phase), mode=st.sampled_from(MODES), steps=STEPS)
    def break_a_call(self, ahead: int, phase: Phase, mode: Mode, steps: int) -> None:
        # A doubled call has no phase.
        side = Phase.AFTER if mode is Mode.DOUBLE else phase
        self._world.gate.faults[(len(self._world.gate.calls) + ahead, side)] = mode
        self._go_on(steps)

    @rule(port=st.sampled_from(PORTS), mode=st.sampled_from(sorted(OUTAGES)), phase=st.sampled_from(Phase), steps=STEPS)
    def fail_a_service(self, port: str, mode: Mode, phase: Phase, steps: int) -> None:
        """Start an outage of a service that is longer than all counted attempts of any activity."""
        self._world.gate.outages[port] = Outage(mode, phase, self._world.now + OUTAGE)
        self._outages += 1
        self._tally[str(mode).replace("-", "_")] += 1
        self._go_on(steps)

    @rule(calls=st.integers(1, 6))
    def throttle(self, calls: int) -> None:
        self._world.textract.throttled += calls
        self._tally["throttled"] += calls

    @rule(reason=st.sampled_from(("Internal error", ACCESS, "The document has an unsupported format")))
    def fail_a_reading(self, reason: str) -> None:
        self._world.textract.failures.append(reason)
        self._tally["failed_readings"] += 1

    # -- what must hold -----------------------------------------------------------

    def _erased(self) -> list[UUID]:
        return [job_id for job_id, command in self._erasures if command.done]

    def _accepted(self) -> list[UUID]:
        return [job_id for job_id, command in self._submissions if command.done]

    def _require(self, broken: list[Violation]) -> None:
        if broken:
            self._broken = True
            wrong = "\n".join(map(str, dict.fromkeys(broken)))
            raise AssertionError(f"seed {self._seed}, behind {self._last()}:\n{wrong}\n  {self._again}")

    def _last(self) -> str:
        calls = self._world.gate.calls
        met = sorted(f"{number}/{phase}/{self._world.gate.faults[number, phase]}" for number, phase in self._met())
        last = f"call {calls[-1].number}, {calls[-1].name} ({calls[-1].source})" if calls else "no call"
        return f"{last}, with faults at {', '.join(met) or 'no call'}"

    def _met(self) -> list[tuple[int, Phase]]:
        return [place for place in self._world.gate.met if place in self._world.gate.faults]

    @invariant()
    def nothing_is_broken(self) -> None:
        seen = [violation for violation in self._world.violations if isinstance(violation, Violation)]
        rows = [job_id for job_id in self._erased() if self._world.rows.get(job_id) is not None]
        left = [Violation(9, f"{job_id} was erased, and has a row") for job_id in rows]
        self._require([*seen, *left, *self._failures()])

    def _failures(self) -> list[Violation]:
        """Return the jobs that failed for another reason than their own upload: all photos here are sound.

        A job may have been cancelled, and Textract may have refused this very document.
        """
        found = []
        for row in self._world.rows.all():
            own = {"job_cancelled"} if row.id in self._cancelled else set()
            if self._world.textract.refused[row.content_sha256]:
                own.add("document_unsupported")
            if row.status == "failed" and row.error_code not in own:
                found.append(Violation(2, f"{row.id} failed by [{row.error_code}] {row.error_message}"))
        return found

    def teardown(self) -> None:
        """End all faults and run everything to its end; then all invariants must hold."""
        try:
            if not self._broken:
                self._heal()
                self._rest()
        finally:
            self._world.close()

    def _heal(self) -> None:
        gate, console = self._world.gate, self._console
        self._tally["faults"] += len(gate.met)
        for place in self._met():
            self._tally[gate.faults[place].replace("-", "_")] += 1
        gate.faults = {place: mode for place, mode in gate.faults.items() if place in gate.met}
        self._world.textract.throttled = 0
        self._world.textract.failures.clear()
        self._world.outlast()
        self._world.resume()
        for command in console.commands:
            # Users repeat their commands now that the services work again.
            command.tries = 0
        console.settle()
        self.nothing_is_broken()

    def _rest(self) -> None:
        open_commands = [command.name for command in self._console.commands if not command.ended]
        assert not open_commands, f"seed {self._seed}: no response to {open_commands}\n  {self._again}"
        left = self._watch.at_rest(self._accepted(), self._erased())
        if left and self._lost_a_step() and all(violation.invariant == 9 for violation in left):
            # An attempt that was lost while its job was erased does not delete its object and is not retried:
            # that is left to the check.
            self._tally["repairs"] += 1
            self._world.now += timedelta(hours=1)
            self._console.repair()
            self._console.settle()
            left = self._watch.at_rest(self._accepted(), self._erased())
        self._require(left)

    def _lost_a_step(self) -> bool:
        """Return whether an attempt ended between its effects: its process died, or a service did not respond."""
        gate = self._world.gate
        met = [(gate.calls[number].source, gate.faults[number, phase]) for number, phase in self._met()]
        dead = [strand for process in self._processes if not process.alive for strand in process.strands]
        # An outage begins at one call and affects others.
        return (
            bool(self._outages)
            or any(
                mode in ENDS_ATTEMPTS and (mode in OUTAGES or source.startswith("photo_worker/activities/"))
                for source, mode in met
            )
            or any(strand.at.startswith(("store.", "rows.")) for strand in dead)
        )
