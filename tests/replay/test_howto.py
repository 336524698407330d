"""The steps of docs/how-to/replay.md: a wrong change, the gate's findings, the patch, the new history."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from photo_worker import __version__

# Nine programs run one after the other, and most start two processes that import Temporal's SDK: a minute of processor
# time, for which a loaded machine needs many.
pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

BAKERY = """\
from datetime import timedelta

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    from temporal_replay_gate.scenarios import Expected, ScenarioSuite, ActivityOutcome, Scenario


@activity.defn
def bake(bread: str) -> str:
    return f"baked {bread}"


@activity.defn
def glaze(bread: str) -> str:
    return f"glazed {bread}"


@workflow.defn(name="bakery")
class Bakery:
    @workflow.run
    async def run(self, bread: str) -> str:
        baked = await workflow.execute_activity(bake, bread, start_to_close_timeout=timedelta(minutes=1))
        return baked


WORKFLOWS = [Bakery]


async def request(scenario, application, workflow_id):
    return "rye"


SCENARIO_SUITE = ScenarioSuite(
    scenarios=[
        Scenario("success", "bakery", "A loaf.", Expected("success", (ActivityOutcome("bake", "completed"),))),
    ],
    workflows=lambda: WORKFLOWS,
    activities=lambda scenario, application: [bake, glaze],
    prepare=request,
    code="bakery:WORKFLOWS",
    application=False,
)
"""
LINE = "        return baked\n"
GLAZE = "        baked = await workflow.execute_activity(glaze, baked, start_to_close_timeout=timedelta(minutes=1))\n"
WRONG = BAKERY.replace(LINE, GLAZE + LINE)
PATCHED = BAKERY.replace(LINE, '        if workflow.patched("glaze"):\n    ' + GLAZE + LINE)
NEW_SCENARIO = (
    '        Scenario("glazed", "bakery", "A glazed loaf.", Expected("success", (ActivityOutcome("bake", "completed"), '
    'ActivityOutcome("glaze", "completed")), patches=("glaze",))),\n    ],\n    workflows='
)

CHECK = ("check", "histories", "--workflows", "bakery:WORKFLOWS", "--no-coverage")
RECORD = ("record", "--scenarios", "bakery:SCENARIO_SUITE", "--to", "histories")


async def test_howto_change_patch_and_record_ends_green(stack_variables: dict[str, str], tmp_path: Path) -> None:
    async def replay(*arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "photo_worker.cli",
            "replay",
            *arguments,
            cwd=tmp_path,
            env=os.environ | stack_variables | {"COLUMNS": "300"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    bakery = tmp_path / "bakery.py"
    bakery.write_text(BAKERY)
    code, said = await replay(*RECORD)
    assert code == 0, said
    assert (tmp_path / "histories" / "bakery" / __version__ / "success.json").is_file()
    code, said = await replay(*CHECK)
    assert code == 0, said

    bakery.write_text(WRONG)
    code, said = await replay(*CHECK)
    assert code == 1
    line = WRONG[: WRONG.index(GLAZE)].count("\n") + 1
    for part in ("activity 'glaze'", f"bakery.py:{line}", "workflow.patched", "photo-worker replay record"):
        assert part in said

    bakery.write_text(PATCHED)
    code, said = await replay(*CHECK)
    assert code == 0, said
    # Without a history of its own, the new branch would not be checked.
    code, said = await replay(*CHECK[:-1])
    assert code == 1
    assert "glaze" in said

    bakery.write_text(PATCHED.replace("    ],\n    workflows=", NEW_SCENARIO))
    code, said = await replay(*RECORD)
    assert code == 1
    assert "history_exists" in said
    code, said = await replay(*RECORD, "--missing")
    assert code == 0, said
    code, said = await replay(*CHECK)
    assert code == 0, said
    assert "2 of 2 histories replayed alike" in said
    code, said = await replay(*CHECK[:-1])
    assert "glaze" not in "\n".join(row for row in said.splitlines() if "not covered" in row)
