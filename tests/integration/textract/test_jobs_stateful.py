"""Any order of starts, reads, replays, ageing and restarts: the emulator behaves like a simple model."""

from __future__ import annotations

import json
import secrets
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.integration.textract.jobs_world import ANALYSIS, TEXT, Channel, World, world_in
from textract_support.emulator import DEADLINE_SECONDS, document, until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

# Starting an emulator takes longer than everything else together.
EXAMPLES, STEPS, RESTARTS = 5, 25, 2
DAY, WEEK = 24 * 3600, 7 * 24 * 3600

OPERATIONS = st.sampled_from([TEXT, ANALYSIS])
PAGES = {"one.png": 1, "three.pdf": 3, "gated.pdf": 4}


class Emulators:
    """Emulators on the same data, one at a time. ``ids`` are those of all jobs so far."""

    def __init__(self, begin: Callable[[], Any]) -> None:
        self._begin = begin
        self._stack = ExitStack()
        self.ids: set[str] = set()
        self.world: World = self._stack.enter_context(begin())

    def restart(self, number: signal.Signals) -> None:
        self.world.running.process.send_signal(number)
        self.world.running.process.wait(timeout=DEADLINE_SECONDS)
        self._stack.close()
        self.world = self._stack.enter_context(self._begin())

    def close(self) -> None:
        self._stack.close()


@dataclass
class Known:
    """A job in the model. ``blocks`` are those that were read first."""

    operation: str
    key: str
    notified: bool
    age: int = 0
    blocks: list[Any] | None = None
    places: dict[str, int] = field(default_factory=dict)

    @property
    def expired(self) -> bool:
        return self.age >= WEEK


class JobMachine(RuleBasedStateMachine):
    """Applies the same operations to the emulator and to the model."""

    def __init__(self, emulators: Emulators, channel: Channel, directory: Path) -> None:
        super().__init__()
        self.emulators, self.channel = emulators, channel
        self.jobs: dict[str, Known] = {}
        self.tokens: dict[tuple[str, str], tuple[str, Mapping[str, Any]]] = {}
        self.gate = directory / secrets.token_hex(4)
        self.kills = self.restarts = 0
        # A separate prefix, so that no example sees another's objects.
        self.prefix = secrets.token_hex(4)
        self.world.control("reset")
        for key, pages in PAGES.items():
            told = {"wait_for": str(self.gate), "wait_from": 2} if key.startswith("gated") else {}
            self.world.stored(document("Oats and barley", pages=pages, **told), f"{self.prefix}/{key}")

    @property
    def world(self) -> World:
        return self.emulators.world

    @rule(
        operation=OPERATIONS,
        key=st.sampled_from(sorted(PAGES)),
        token=st.sampled_from([None, "a", "b"]),
        tag=st.sampled_from([None, "x"]),
        notified=st.booleans(),
    )
    def start(self, operation: str, key: str, token: str | None, tag: str | None, *, notified: bool) -> None:
        told: dict[str, Any] = {} if tag is None else {"JobTag": tag}
        if notified:
            told["NotificationChannel"] = self.channel.member
        known = None if token is None else self.tokens.get((operation, token))
        if known is not None and self.jobs[known[0]].expired:
            known = None
        given = {"key": key, **told}
        if token is not None:
            told["ClientRequestToken"] = token
        if known is not None and known[1] != given:
            self.refused("IdempotentParameterMismatchException", self.world.start, self.at(key), operation, **told)
            return
        job_id = self.world.start(self.at(key), operation, **told)
        if known is not None:
            assert job_id == known[0]
            return
        assert job_id not in self.emulators.ids
        self.jobs[job_id] = Known(operation, key, notified)
        self.emulators.ids.add(job_id)
        if token is not None:
            self.tokens[operation, token] = (job_id, given)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def get(self, data: st.DataObject) -> None:
        job_id, job = self.some_job(data)
        if job.expired:
            self.refused("InvalidJobIdException", self.world.get, job_id, job.operation)
        else:
            self.whole(job_id, job, self.world.get(job_id, job.operation))

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def get_with_the_other_operation(self, data: st.DataObject) -> None:
        job_id, job = self.some_job(data)
        self.refused("InvalidJobIdException", self.world.get, job_id, TEXT if job.operation == ANALYSIS else ANALYSIS)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), most=st.sampled_from([1, 3, 4, 7, 1000, 5000]))
    def read_in_parts(self, data: st.DataObject, most: int) -> None:
        job_id, job = self.some_job(data)
        if job.expired or not self.has_ended(job_id, job):
            return
        assert job.blocks is not None
        found: list[Any] = []
        more: dict[str, Any] = {}
        while True:
            response = self.world.get(job_id, job.operation, MaxResults=most, **more)
            assert len(response["Blocks"]) <= most
            found += response["Blocks"]
            if "NextToken" not in response:
                break
            more = {"NextToken": response["NextToken"]}
            job.places[response["NextToken"]] = len(found)
        assert found == job.blocks

    @precondition(lambda self: any(job.places for job in self.jobs.values()))
    @rule(data=st.data(), most=st.sampled_from([1, 5, 1000]))
    def replay_a_token(self, data: st.DataObject, most: int) -> None:
        owner = data.draw(st.sampled_from([job_id for job_id, job in self.jobs.items() if job.places]))
        token = data.draw(st.sampled_from(sorted(self.jobs[owner].places)))
        job_id, job = self.some_job(data)
        given = {"NextToken": token, "MaxResults": most}
        if job.expired:
            self.refused("InvalidJobIdException", self.world.get, job_id, job.operation, **given)
        elif job_id != owner:
            self.refused("InvalidParameterException", self.world.get, job_id, job.operation, **given)
        else:
            assert job.blocks is not None
            first = job.places[token]
            response = self.world.get(job_id, job.operation, **given)
            assert response["Blocks"] == job.blocks[first : first + most]
            assert ("NextToken" in response) == (first + most < len(job.blocks))

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), seconds=st.sampled_from([3 * DAY, 5 * DAY]))
    def age(self, data: st.DataObject, seconds: int) -> None:
        job_id, job = self.some_job(data)
        if not job.expired:
            assert self.world.control("jobs/age", JobId=job_id, seconds=seconds) == {"aged": 1}
            job.age += seconds

    @precondition(lambda self: self.jobs)
    @rule()
    def open_the_gate(self) -> None:
        self.gate.touch()

    @rule()
    def reset(self) -> None:
        # A reset of few jobs tests little, so that it is skipped.
        if len(self.jobs) < 4:
            return
        self.world.control("reset")
        self.jobs.clear()
        self.tokens.clear()
        assert self.world.jobs() == {}

    @precondition(lambda self: self.jobs and self.restarts < RESTARTS)
    @rule(number=st.sampled_from([signal.SIGKILL, signal.SIGTERM]))
    def restart(self, number: signal.Signals) -> None:
        self.restarts += 1
        self.kills += number == signal.SIGKILL
        self.emulators.restart(number)

    def teardown(self) -> None:
        self.gate.touch()
        alive = {job_id: job for job_id, job in self.jobs.items() if not job.expired}
        for job_id, job in alive.items():
            until(lambda job_id=job_id, job=job: self.has_ended(job_id, job))  # type: ignore[misc]
        assert set(self.world.jobs()) == set(alive)
        told = {job_id for job_id, job in alive.items() if job.notified}
        arrived: Counter[str] = Counter()

        def all_are_told() -> bool:
            for envelope in self.channel.take():
                arrived[self.job_of(envelope)] += 1
            return told <= set(arrived)

        until(all_are_told)
        assert set(arrived) <= self.emulators.ids
        # Once each, and once more only if the process was killed between SNS's response and its record.
        assert sum(arrived.values()) - len(arrived) <= self.kills

    def at(self, key: str) -> str:
        return f"{self.prefix}/{key}"

    def some_job(self, data: st.DataObject) -> tuple[str, Known]:
        job_id = data.draw(st.sampled_from(list(self.jobs)))
        return job_id, self.jobs[job_id]

    def has_ended(self, job_id: str, job: Known) -> bool:
        return self.whole(job_id, job, self.world.get(job_id, job.operation))

    def whole(self, job_id: str, job: Known, response: dict[str, Any]) -> bool:
        """Compare a response with the model, and return whether the job has ended."""
        version = "DetectDocumentTextModelVersion" if job.operation == TEXT else "AnalyzeDocumentModelVersion"
        if response["JobStatus"] == "IN_PROGRESS":
            assert response == {"JobStatus": "IN_PROGRESS", version: "1.0"}
            # An ended job is never in progress again.
            assert job.blocks is None
            return False
        assert (response["JobStatus"], response["DocumentMetadata"]) == ("SUCCEEDED", {"Pages": PAGES[job.key]})
        assert list(response) == ["DocumentMetadata", "JobStatus", "Blocks", version]
        if job.blocks is None:
            job.blocks = response["Blocks"]
            features = "" if job.operation == TEXT else " TABLES"
            assert [(block["Page"], block["Text"]) for block in job.blocks if block["BlockType"] == "LINE"] == [
                (page, "Oats and barley" + (f" {page}" if page > 1 else "") + features)
                for page in range(1, PAGES[job.key] + 1)
            ]
        assert response["Blocks"] == job.blocks
        return True

    def refused(self, code: str, work: Callable[..., Any], *given: Any, **more: Any) -> None:
        with pytest.raises(ClientError) as raised:
            work(*given, **more)
        assert raised.value.response["Error"]["Code"] == code

    @staticmethod
    def job_of(envelope: Any) -> str:
        job_id: str = json.loads(envelope["Message"])["JobId"]
        return job_id


@pytest.fixture
def emulators(stack_env: dict[str, str], s3_client: S3Client, bucket: str, tmp_path: Path) -> Iterator[Emulators]:
    made = Emulators(lambda: world_in(tmp_path / "emulator", stack_env, s3_client, bucket))
    yield made
    made.close()


def test_jobs_random_operations_match_model(emulators: Emulators, channel: Channel, tmp_path: Path) -> None:
    class Machine(JobMachine):
        def __init__(self) -> None:
            super().__init__(emulators, channel, tmp_path)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            # Shrinking a failure would start hundreds of emulators.
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
