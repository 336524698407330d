"""Runs that only a service has, not the recorded scenarios: runs made by a reset, and runs of removed types."""

from __future__ import annotations

import asyncio
import json
import os
import re
import runpy
import secrets
import sys
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from tests.support.harness import eventually
from tests.support.workers import running

pytestmark = pytest.mark.stack

ROOT = Path(__file__).resolve().parents[2]

# Uses everything that a reset changes: the run's id, ids derived from its random seed, a child with such an id.
CODE = """
from datetime import timedelta
from temporalio import activity, workflow

@activity.defn(name="note")
def note(said: str) -> str:
    return said

@workflow.defn(name="{name}-child")
class Child:
    @workflow.run
    async def run(self) -> str:
        return workflow.info().workflow_id

@workflow.defn(name="{name}")
class Sample:
    def __init__(self) -> None:
        self._told: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        for number in range(2):
            said = f"{{number}} {{workflow.info().run_id}} {{workflow.uuid4()}}{more}"
            self._told.append(await workflow.execute_activity(
                note, said, start_to_close_timeout=timedelta(seconds={seconds})))
        self._told.append(await workflow.execute_child_workflow(Child.run))
        await workflow.wait_condition(lambda: "go" in self._told)
        return self._told

    @workflow.signal
    def tell(self, word: str) -> None:
        self._told.append(word)

WORKFLOWS = [{workflows}]
"""


@dataclass
class Site:
    """A workflow type, a task queue and a directory of one test."""

    client: Client
    directory: Path
    name: str

    @property
    def ids(self) -> str:
        return f"WorkflowType = '{self.name}'"

    def code(self, more: str = "", seconds: int = 60, workflows: str = "Sample, Child") -> None:
        text = CODE.format(name=self.name, more=more, seconds=seconds, workflows=workflows)
        (self.directory / f"code_{self.name}.py").write_text(text, encoding="utf-8")

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        path = self.directory / f"code_{self.name}.py"
        module: dict[str, Any] = runpy.run_path(str(path), run_name=path.stem)
        with ThreadPoolExecutor(2) as executor:
            worker = Worker(
                self.client,
                task_queue=self.name,
                workflows=module["WORKFLOWS"],
                activities=[module["note"]],
                activity_executor=executor,
                workflow_runner=UnsandboxedWorkflowRunner(),
            )
            async with running(worker):
                yield

    async def check(self, *arguments: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "photo_worker.cli", "replay", "check", "--no-static"),
            *("--workflows", f"code_{self.name}:WORKFLOWS", *arguments),
            cwd=self.directory,
            env=os.environ
            | {"PYTHONPATH": str(ROOT), "TEMPORAL_TARGET": self.client.service_client.config.target_host},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode(), errors.decode()

    async def shows(self, query: str, count: int) -> None:
        async def probe() -> bool:
            return len([run async for run in self.client.list_workflows(query)]) == count

        await eventually(probe)


@pytest.fixture
async def site(stack_env: dict[str, str], tmp_path: Path) -> Site:
    made = Site(await Client.connect(stack_env["TEMPORAL_TARGET"]), tmp_path, f"reset_{secrets.token_hex(6)}")
    made.code()
    return made


async def reset(site: Site) -> Sequence[Path]:
    """Run a workflow, reset it to the task after its first activity, wait for both ends; return both histories."""
    async with site.worker():
        first = await site.client.start_workflow(site.name, id=f"test-{site.name}", task_queue=site.name)
        await first.signal("tell", "go")
        assert "go" in await first.result()
        events = (await first.fetch_history()).events
        done = [each.event_id for each in events if each.HasField("workflow_task_completed_event_attributes")]
        response = await site.client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=site.client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=first.id, run_id=first.result_run_id or ""),
                reason="test",
                workflow_task_finish_event_id=done[1],
                request_id=secrets.token_hex(8),
            )
        )
        second = site.client.get_workflow_handle(first.id, run_id=response.run_id)
        assert "go" in await second.result()
    paths = []
    for handle, run_id in ((first, first.result_run_id), (second, response.run_id)):
        history = await site.client.get_workflow_handle(handle.id, run_id=run_id).fetch_history()
        paths.append(site.directory / f"{run_id}.json")
        paths[-1].write_text(history.to_json(), encoding="utf-8")
    return paths


class TestReset:
    """A reset mixes two run ids and random seeds in one history."""

    async def test_reset_run_is_green_and_red_if_code_drifts(self, site: Site) -> None:
        first, second = await reset(site)
        assert "RESET_WORKFLOW" in second.read_text(encoding="utf-8")
        await site.shows(f"{site.ids} AND ExecutionStatus = 'Completed'", 2)
        ways = ((str(first), str(second)), (str(second),), ("--from-server", "--workflow", site.name))
        for way in ways:
            code, output, errors = await site.check(*way)
            assert code == 0, output + errors
        site.code(more=" and more")
        for way in ways[1:]:
            code, output, _ = await site.check(*way)
            assert (code, "drift_arguments" in output) == (1, True), output
        site.code(seconds=30)
        for way in ways[1:]:
            code, output, _ = await site.check(*way)
            assert (code, "drift_start_to_close_timeout" in output) == (1, True), output


class TestUnknownTypes:
    """Runs of a workflow class that was renamed or deleted."""

    async def lost(self, site: Site) -> None:
        """Remove a type with an open run from the code, beside closed runs of the type that stays."""
        async with site.worker():
            kept = f"{site.name}-child"
            await site.client.execute_workflow(kept, id=f"kept-{site.name}", task_queue=site.name)
            await site.client.start_workflow(site.name, id=f"open-{site.name}", task_queue=site.name)
            # The child workflow of the open run ends as well.
            await site.shows(f"WorkflowType = '{kept}' AND ExecutionStatus = 'Completed'", 2)
        await site.shows(f"{site.ids} AND ExecutionStatus = 'Running'", 1)
        site.code(workflows="Child")

    async def test_unknown_type_with_open_run_is_red_in_each_report(self, site: Site) -> None:
        await self.lost(site)
        formats = ("--format", "text", "--format", "json=report.json", "--format", "junit=report.xml")
        code, output, errors = await site.check("--from-server", *formats)
        assert code == 1, output + errors
        assert "[open_runs_of_unknown_type]" in output
        assert f"1 open runs in namespace default have the type '{site.name}'" in output
        report = json.loads((site.directory / "report.json").read_text(encoding="utf-8"))
        assert report["status"] == "failed"
        assert [finding["workflow_type"] for finding in report["data"]["findings"]] == [site.name]
        failures = re.findall('<failure type="(.*?)"', (site.directory / "report.xml").read_text(encoding="utf-8"))
        assert failures == ["open_runs_of_unknown_type"]

    async def test_unknown_type_restored_in_code_is_green(self, site: Site) -> None:
        await self.lost(site)
        site.code()
        code, output, errors = await site.check("--from-server")
        assert code == 0, output + errors
        assert "open_runs" not in output

    async def test_unknown_type_on_other_queue_is_note_or_red_if_named(self, site: Site) -> None:
        other = f"{site.name}-other"
        async with site.worker():
            await site.client.execute_workflow(f"{site.name}-child", id=f"kept-{site.name}", task_queue=site.name)
        await site.client.start_workflow(site.name, id=f"open-{site.name}", task_queue=other)
        await site.shows(f"{site.ids} AND ExecutionStatus = 'Running'", 1)
        await site.shows(f"WorkflowType = '{site.name}-child' AND ExecutionStatus = 'Completed'", 1)
        site.code(workflows="Child")
        # The namespace also has the runs of other tests.
        own = ("--from-server", "--query", f"WorkflowId IN ('kept-{site.name}', 'open-{site.name}')")
        code, output, errors = await site.check(*own)
        assert code == 0, output + errors
        assert f"were looked for on the task queues {site.name}." in output
        assert f"on other task queues have types that the code does not have: '{site.name}' on {other} (1)." in output
        code, output, _ = await site.check(*own, "--format", "json")
        notes = {note["code"] for note in json.loads(output)["data"]["notes"]}
        assert (code, {"queues_looked_at", "open_runs_on_other_queues"} <= notes) == (0, True), output
        code, output, _ = await site.check(*own, "--task-queue", site.name, "--task-queue", other)
        assert (code, "[open_runs_of_unknown_type]" in output) == (1, True), output
        assert "other task queues" not in output

    async def test_unknown_type_with_closed_runs_only_is_green(self, site: Site) -> None:
        await self.lost(site)
        await site.client.get_workflow_handle(f"open-{site.name}").terminate()
        await site.shows(f"{site.ids} AND ExecutionStatus = 'Running'", 0)
        code, output, errors = await site.check("--from-server")
        assert code == 0, output + errors
        assert "green: 2 of 2" in output

    async def test_cap_of_unknown_type_exits_2(self, site: Site) -> None:
        code, _, errors = await site.check("--from-server", "--cap-of", "nothing=3")
        assert (code, "replay_server_option_invalid" in errors) == (2, True)
