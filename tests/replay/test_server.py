"""Histories from a running service: which are downloaded, which are skipped, and what the user is told."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import stat
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import Client, WorkflowFailureError, WorkflowHistory
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, Worker

from photo_worker.errors import TemporalUnavailable
from photo_worker.sources import Source
from temporal_replay_gate.errors import HistoryUnscrubbable, ReplayNothingFound, ReplayQueryRefused
from temporal_replay_gate.gate import GateOptions, check
from temporal_replay_gate.server import Selection, download, keep
from tests.replay.code_mutations.encrypted import Letter, data_converter
from tests.replay.product import CONVERTER, product_code, scrub
from tests.support.harness import FIXTURES, Harness, eventually
from tests.support.proxy import proxy_to
from tests.support.workers import running

pytestmark = pytest.mark.stack


@dataclass
class Service:
    """A workflow type and a task queue of one test."""

    client: Client
    workflow_type: str
    queue: str
    selection: Selection

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        async with running(Worker(self.client, task_queue=self.queue, workflows=[EndsAsAsked])):
            yield

    async def run(self, how: str) -> str:
        """Start one run and wait for its end, unless it should stay open. Return its run id."""
        workflow_id = f"test/{secrets.token_hex(6)}"
        handle = await self.client.start_workflow(self.workflow_type, how, id=workflow_id, task_queue=self.queue)
        if how == "cancel":
            await handle.cancel()
        if how not in {"wait", "not begun"}:
            try:
                await handle.result(follow_runs=False)
            except WorkflowFailureError:
                assert how != "complete"
        return handle.result_run_id or ""

    async def shows(self, count: int) -> None:
        """Wait until visibility, which is eventually consistent, lists ``count`` runs."""

        async def probe() -> bool:
            listed = [run async for run in self.client.list_workflows(f"WorkflowType = '{self.workflow_type}'")]
            return len(listed) == count

        await eventually(probe)


@workflow.defn(dynamic=True, sandboxed=False)
class EndsAsAsked:
    """Accepts every type name, so that each test has one of its own, and ends as its argument says."""

    @workflow.run
    async def run(self, arguments: Sequence[RawValue]) -> str:
        how = workflow.payload_converter().from_payload(arguments[0].payload, str)
        if how == "fail":
            raise ApplicationError("asked to", non_retryable=True)
        if how in {"wait", "cancel"}:
            await workflow.wait_condition(lambda: False)
        return how


@workflow.defn(dynamic=True, sandboxed=False)
class WaitsFirst:
    """The same after a careless change: it starts a timer that no history has."""

    @workflow.run
    async def run(self, arguments: Sequence[RawValue]) -> str:
        await asyncio.sleep(1)
        return "complete"


@pytest.fixture
async def service(stack_env: dict[str, str]) -> Service:
    client = await Client.connect(stack_env["TEMPORAL_TARGET"])
    name = f"sample-{secrets.token_hex(6)}"
    return Service(client, name, f"queue-{name}", Selection((name,)))


async def settled(service: Service, selection: Selection, directory: Path, *, closed: int, opened: int) -> Any:
    """Download until visibility shows how the runs ended."""

    async def probe() -> Any:
        try:
            fetched = await download(service.client, selection, directory)
        except ReplayNothingFound:
            return None
        seen = sum(not run.is_open for run in fetched.runs), sum(run.is_open for run in fetched.runs)
        return fetched if seen == (closed, opened) else None

    return await eventually(probe)


async def test_download_brings_closed_and_open_runs(service: Service, tmp_path: Path) -> None:
    async with service.worker():
        runs = {how: await service.run(how) for how in ("complete", "fail", "cancel", "wait")}
        await eventually(lambda: began(service, runs["wait"]))
    waiting = await service.run("not begun")
    await service.shows(5)
    fetched = await settled(service, service.selection, tmp_path, closed=3, opened=1)
    assert {run.run_id: run.status for run in fetched.runs} == {
        runs["complete"]: "completed",
        runs["fail"]: "failed",
        runs["cancel"]: "canceled",
        runs["wait"]: "open",
    }
    assert [run.run_id for run in fetched.runs if run.is_open] == [runs["wait"]]
    assert fetched.not_begun == (waiting,)
    said = "\n".join(fetched.lines())
    assert f"{service.workflow_type}: 3 closed, 1 open (partly checked" in said
    assert "1 runs have not begun" in said


async def began(service: Service, run_id: str) -> bool:
    query = f"WorkflowType = '{service.workflow_type}' AND RunId = '{run_id}'"
    async for run in service.client.list_workflows(query):
        history = await service.client.get_workflow_handle(run.id, run_id=run.run_id).fetch_history()
        return any(event.HasField("workflow_task_completed_event_attributes") for event in history.events)
    return False


async def test_download_files_replay_and_reveal_divergence(service: Service, tmp_path: Path) -> None:
    async with service.worker():
        await service.run("complete")
    fetched = await settled(service, service.selection, tmp_path, closed=1, opened=0)
    (run,) = fetched.runs
    history = WorkflowHistory.from_json(run.workflow_id, run.path.read_text())
    await Replayer(workflows=[EndsAsAsked]).replay_workflow(history)
    with pytest.raises(workflow.NondeterminismError):
        await Replayer(workflows=[WaitsFirst]).replay_workflow(history)


async def test_download_files_are_private_and_inside_directory(service: Service, tmp_path: Path) -> None:
    service = replace(service, workflow_type=f"../../{service.workflow_type}")
    service.selection = Selection((service.workflow_type,))
    async with service.worker():
        await service.run("complete")
    (run,) = (await settled(service, service.selection, tmp_path, closed=1, opened=0)).runs
    assert run.path.parent.parent == tmp_path
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(run.path.parent.stat().st_mode) == 0o700


class TestUnknownTypes:
    async def test_download_counts_open_runs_of_unknown_type(self, service: Service, tmp_path: Path) -> None:
        # Two types on one queue; the code of today has the first alone.
        gone = replace(service, workflow_type=f"{service.workflow_type}-gone")
        async with service.worker():
            await service.run("complete")
            opened = await gone.run("wait")
            await eventually(lambda: began(gone, opened))
        await gone.shows(1)
        selection = replace(service.selection, known_types=(service.workflow_type,))
        fetched = await settled(service, selection, tmp_path, closed=1, opened=0)
        assert fetched.unknown == {gone.workflow_type: 1}
        named = replace(selection, task_queues=("another-queue",))
        assert (await settled(service, named, tmp_path, closed=1, opened=0)).unknown == {}

    async def test_download_without_known_type_counts_unknown_open_runs(self, service: Service, tmp_path: Path) -> None:
        gone = replace(service, workflow_type=f"{service.workflow_type}-gone")
        await gone.run("not begun")
        await gone.shows(1)
        selection = replace(service.selection, known_types=(service.workflow_type,), task_queues=(service.queue,))
        fetched = await settled(service, selection, tmp_path, closed=0, opened=0)
        assert fetched.unknown == {gone.workflow_type: 1}


class TestLimits:
    async def test_download_cap_takes_each_status_in_turn(self, service: Service, tmp_path: Path) -> None:
        async with service.worker():
            failed = await service.run("fail")
            for _ in range(4):
                await service.run("complete")
        await settled(service, service.selection, tmp_path / "all", closed=5, opened=0)
        capped = await download(service.client, replace(service.selection, closed=2), tmp_path / "two")
        assert sorted(run.status for run in capped.runs) == ["completed", "failed"]
        assert failed in {run.run_id for run in capped.runs}

    async def test_download_cap_by_type_is_applied(self, service: Service, tmp_path: Path) -> None:
        async with service.worker():
            for _ in range(3):
                await service.run("complete")
        await settled(service, service.selection, tmp_path / "all", closed=3, opened=0)
        own = replace(service.selection, closed=3, closed_by_type={service.workflow_type: 1})
        assert len((await download(service.client, own, tmp_path / "one")).runs) == 1

    async def test_download_open_runs_above_cap_are_counted(self, service: Service, tmp_path: Path) -> None:
        async with service.worker():
            runs = [await service.run("wait") for _ in range(3)]
            for run in runs:
                await eventually(lambda run=run: began(service, run))  # type: ignore[misc]
        await settled(service, service.selection, tmp_path / "all", closed=0, opened=3)
        capped = await download(service.client, replace(service.selection, opened=1), tmp_path / "one")
        assert len(capped.runs) == 1
        assert capped.left_out == {service.workflow_type: 2}
        assert "2 more open runs are above the cap and not checked" in "\n".join(capped.lines())

    async def test_download_run_closed_before_window_is_skipped(self, service: Service, tmp_path: Path) -> None:
        async with service.worker():
            await service.run("complete")
        await settled(service, service.selection, tmp_path / "all", closed=1, opened=0)
        with pytest.raises(ReplayNothingFound) as caught:
            await download(
                service.client,
                replace(service.selection, window=timedelta(days=3)),
                tmp_path / "none",
                now=lambda: datetime.now(UTC) + timedelta(days=4),
            )
        assert service.workflow_type in caught.value.message
        assert "3 days" in caught.value.message

    async def test_download_query_narrows_selection(self, service: Service, tmp_path: Path) -> None:
        async with service.worker():
            await service.run("fail")
            await service.run("complete")
        await settled(service, service.selection, tmp_path / "all", closed=2, opened=0)
        narrowed = replace(service.selection, query="ExecutionStatus = 'Failed'")
        assert [r.status for r in (await download(service.client, narrowed, tmp_path / "one")).runs] == ["failed"]


class TestRefusals:
    async def test_download_nothing_found_is_an_error(self, service: Service, tmp_path: Path) -> None:
        with pytest.raises(ReplayNothingFound):
            await download(service.client, service.selection, tmp_path)

    async def test_download_runs_not_begun_only_is_nothing_found(self, service: Service, tmp_path: Path) -> None:
        await service.run("not begun")
        await service.shows(1)
        with pytest.raises(ReplayNothingFound) as caught:
            await download(service.client, service.selection, tmp_path)
        assert "1 have not begun" in caught.value.message

    async def test_download_query_with_unknown_field_is_refused(self, service: Service, tmp_path: Path) -> None:
        with pytest.raises(ReplayQueryRefused) as caught:
            await download(service.client, replace(service.selection, query="NoSuchField = 1"), tmp_path)
        assert "NoSuchField" in caught.value.message
        assert caught.value.wrong_use

    async def test_download_query_with_syntax_error_is_refused(self, service: Service, tmp_path: Path) -> None:
        with pytest.raises(ReplayQueryRefused) as caught:
            await download(service.client, replace(service.selection, query="bad ("), tmp_path)
        assert caught.value.wrong_use

    async def test_download_missing_namespace_is_refused(self, stack_env: dict[str, str], tmp_path: Path) -> None:
        client = await Client.connect(stack_env["TEMPORAL_TARGET"], namespace="absent")
        with pytest.raises(ReplayQueryRefused) as caught:
            await download(client, Selection(("any",)), tmp_path)
        assert "absent" in caught.value.message
        assert not caught.value.wrong_use, "no option of the command names it"

    async def test_download_service_unavailable_is_an_error(self, stack_env: dict[str, str], tmp_path: Path) -> None:
        host, _, port = stack_env["TEMPORAL_TARGET"].rpartition(":")
        with proxy_to(host, int(port)) as proxy:
            client = await Client.connect(f"127.0.0.1:{proxy.port}")
            proxy.down()
            with pytest.raises(TemporalUnavailable) as caught:
                await download(client, Selection(("any",)), tmp_path, unavailable=TemporalUnavailable)
        assert str(proxy.port) in caught.value.message


async def test_keep_scrubs_history_or_copies_it_unchanged(service: Service, tmp_path: Path) -> None:
    async with service.worker():
        await service.run("complete")
    fetched = await settled(service, service.selection, tmp_path / "raw", closed=1, opened=0)

    def scrub(document: dict[str, Any]) -> dict[str, Any]:
        return {"events": [event | {"taskId": "0"} for event in document["events"]]}

    (kept,) = keep(fetched.runs, tmp_path / "kept", scrub)
    assert {event["taskId"] for event in json.loads(kept.read_text())["events"]} == {"0"}
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    (raw,) = keep(fetched.runs, tmp_path / "whole", None)
    assert raw.read_bytes() == fetched.runs[0].path.read_bytes()


class TestCommand:
    """``photo-worker replay check --from-server`` as a child process."""

    async def run(self, service: Service, *arguments: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "photo_worker.cli", "replay", "check", "--from-server", *arguments]
        client = service.client
        own = {"TEMPORAL_TARGET": client.service_client.config.target_host, "TEMPORAL_NAMESPACE": client.namespace}
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=FIXTURES.parent,
            env=os.environ | own,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode(), errors.decode()

    async def test_check_from_server_replays_and_keeps_scrubbed(self, harness: Harness, tmp_path: Path) -> None:
        path = sorted((FIXTURES / "photos").glob("*.png"))[0]
        source = Source(label=path.name, path=path)
        async with harness.worker():
            done = await harness.service.submit(source, engine="recorded")
            await harness.service.wait(done.job_id)
        service = Service(harness.client, "image_processing_workflow", "", Selection(("image_processing_workflow",)))
        query = f"WorkflowId = '{done.job_id}'"
        await eventually(lambda: closed(service, query))
        code, output, errors = await self.run(service, "--query", query, "--keep", str(tmp_path / "kept"))
        assert (code, errors) == (
            0,
            "image_processing_workflow: 1 closed, 0 open (partly checked: as far as they got)\n"
            f"kept 1 scrubbed histories in {tmp_path / 'kept'}\n",
        ), output
        assert "1 of 1 histories replayed alike" in output
        (kept,) = (tmp_path / "kept").rglob("*.json")
        assert str(done.job_id) in kept.name

    async def test_check_from_server_nothing_found_is_red(self, service: Service) -> None:
        code, output, errors = await self.run(service, "--query", "WorkflowId = 'absent'")
        assert code == 1
        assert "replay_nothing_found" in errors
        assert "green" not in output

    @pytest.mark.parametrize(
        ("query", "kind"),
        [
            ("WorkflowId = 'absent'", "replay_nothing_found"),
            ("NoSuchField = 1", "replay_query_refused"),
            ("WorkflowId =", "replay_query_refused"),
        ],
    )
    async def test_check_from_server_error_is_in_each_report(
        self, service: Service, tmp_path: Path, query: str, kind: str
    ) -> None:
        files = {name: tmp_path / name for name in ("text", "json", "junit", "github")}
        formats = [word for name, file in files.items() for word in ("--format", f"{name}={file}")]
        code, output, errors = await self.run(service, "--query", query, *formats, "--format", "json")
        wrong = 2 if kind == "replay_query_refused" else 1
        assert (code, kind in errors, "Traceback" in errors) == (wrong, True, False), errors
        for text in (output, files["json"].read_text(encoding="utf-8")):
            report = json.loads(text)
            assert (report["status"], report["error"]["code"], report["data"]["green"]) == ("failed", kind, False)
            assert [finding["code"] for finding in report["data"]["findings"]] == [kind]
        assert f'<failure type="{kind}"' in files["junit"].read_text(encoding="utf-8")
        assert f"title=replay gate%3A {kind}::" in files["github"].read_text(encoding="utf-8")
        assert f"[{kind}]" in files["text"].read_text(encoding="utf-8")

    async def test_check_from_server_unavailable_names_port(self, service: Service) -> None:
        host, _, port = service.client.service_client.config.target_host.rpartition(":")
        with proxy_to(host, int(port)) as proxy:
            proxy.down()
            away = replace(service, client=await Client.connect(f"127.0.0.1:{proxy.port}", lazy=True))
            code, _, errors = await self.run(away)
            assert code == 1
            assert "temporal_unavailable" in errors
            assert str(proxy.port) in errors

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("--since", "soon"), "90m, 12h, 7d"),
            (("--cap-of", "many"), "TYPE=COUNT"),
            (("somewhere",), "in place of PATH"),
            (("--keep-raw",), "needs --keep"),
        ],
    )
    async def test_check_from_server_wrong_use_exits_2(
        self, service: Service, arguments: tuple[str, ...], says: str
    ) -> None:
        code, _, errors = await self.run(service, *arguments)
        assert code == 2
        assert says in errors


async def test_check_encrypted_run_needs_its_converter(service: Service, tmp_path: Path) -> None:
    client = await Client.connect(service.client.service_client.config.target_host, data_converter=data_converter)
    workflow_id = f"letter-{secrets.token_hex(6)}"
    runner = UnsandboxedWorkflowRunner()
    worker = Worker(client, task_queue=service.queue, workflows=[Letter], workflow_runner=runner)
    async with running(worker):
        await client.execute_workflow(Letter.run, "pepper", id=workflow_id, task_queue=service.queue)
    letters = Selection(("planted_letter",), query=f"WorkflowId = '{workflow_id}'")
    (run,) = (await settled(service, letters, tmp_path, closed=1, opened=0)).runs
    assert "binary/sealed" in str(base64.b64decode(first_payload(run.path)["metadata"]["encoding"]))

    def findings(workflows: str, converter: str) -> list[str]:
        code = product_code(f"tests.replay.code_mutations.encrypted:{workflows}", converter, (str(FIXTURES.parent),))
        return [finding.code for finding in check(GateOptions((run.path,), code, static=False)).findings]

    named = "tests.replay.code_mutations.encrypted:data_converter"
    assert await asyncio.to_thread(findings, "Letter", named) == []
    assert await asyncio.to_thread(findings, "OtherLetter", named) == ["drift_result"]
    assert await asyncio.to_thread(findings, "Letter", CONVERTER) != []
    with pytest.raises(HistoryUnscrubbable):
        keep([run], tmp_path / "kept", scrub)


def first_payload(path: Path) -> dict[str, Any]:
    started = json.loads(path.read_text())["events"][0]["workflowExecutionStartedEventAttributes"]
    payload: dict[str, Any] = started["input"]["payloads"][0]
    return payload


async def closed(service: Service, query: str) -> bool:
    return [run async for run in service.client.list_workflows(f"{query} AND ExecutionStatus = 'Completed'")] != []
