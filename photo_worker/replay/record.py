"""Makes recorded histories: plays a scenario, checks its end, scrubs, replays both forms, and writes.

Run by hand, never by CI. What is there is never written again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from photo_worker import __version__
from photo_worker.errors import HistoryExists, PhotoWorkerError, RecordingUnfit, ScenarioDeviated, ScenarioUnknown
from photo_worker.orchestration.converter import data_converter
from photo_worker.replay.course import deviation
from photo_worker.replay.histories import (
    Provenance,
    attributes,
    core_flags,
    exit_of,
    patch_ids,
    provenance_path,
    sdk_version,
    sha256_of,
)
from photo_worker.replay.scenarios import Scenario
from photo_worker.replay.scrub import scrub
from photo_worker.replay.stage import Stage

Json = dict[str, Any]


@dataclass(frozen=True)
class Recorded:
    """What became of one scenario: the files written, or the error that kept them from being written."""

    scenario: Scenario
    paths: Sequence[Path] = ()
    error: PhotoWorkerError | None = None


def choose(scenarios: Sequence[Scenario], names: Sequence[str]) -> list[Scenario]:
    """Return the scenarios of these names, all of them where none is given. Raises ``ScenarioUnknown``."""
    known = {scenario.name: scenario for scenario in scenarios}
    for name in names:
        if name not in known:
            raise ScenarioUnknown(name=name, known=", ".join(sorted(known)))
    return [known[name] for name in dict.fromkeys(names)] if names else list(scenarios)


def history_paths(root: Path, scenario: Scenario, release: str = __version__) -> list[Path]:
    """Return where a scenario's histories lie: one file, or one for each run of a continue-as-new chain."""
    folder = root / scenario.workflow / release
    if scenario.expected.runs == 1:
        return [folder / f"{scenario.name}.json"]
    return [folder / f"{scenario.name}-run{number}.json" for number in range(1, scenario.expected.runs + 1)]


def refuse_existing(root: Path, scenarios: Sequence[Scenario], release: str = __version__) -> None:
    """Raise ``HistoryExists`` where one of the scenarios has been recorded."""
    for scenario in scenarios:
        for path in history_paths(root, scenario, release):
            if path.exists() or provenance_path(path).exists():
                raise HistoryExists(path=str(path))


async def record(
    stage: Stage, scenarios: Sequence[Scenario], root: Path, *, release: str = __version__, parallel: int = 4
) -> AsyncIterator[Recorded]:
    """Record the scenarios under ``root`` and yield what became of each as it ends.

    Raises ``HistoryExists`` before anything is played where one of them is there already.
    """
    refuse_existing(root, scenarios, release)
    if stage.playbook.setup is not None:
        await stage.playbook.setup(stage.client)
    gate = asyncio.Semaphore(parallel)

    async def one(scenario: Scenario) -> Recorded:
        async with gate:
            try:
                return Recorded(scenario, await _record(stage, scenario, root, release))
            except PhotoWorkerError as error:
                return Recorded(scenario, error=error)

    for ended in asyncio.as_completed([one(scenario) for scenario in scenarios]):
        yield await ended


async def _record(stage: Stage, scenario: Scenario, root: Path, release: str) -> list[Path]:
    raw = [history.to_json_dict() for history in await stage.perform(scenario)]
    if problem := deviation(scenario.expected, raw):
        raise ScenarioDeviated(name=scenario.name, reason=problem)
    scrubbed = [scrub(history, task_queues=stage.queues, keep=scenario.keep) for history in raw]
    workflows = scenario.workflows or stage.playbook.workflows()
    for form, histories in (("as recorded", raw), ("once scrubbed", scrubbed)):
        for history in histories:
            if reason := await replay_problem(workflows, history):
                raise RecordingUnfit(name=scenario.name, form=form, reason=reason)
    paths = history_paths(root, scenario, release)
    for path, history in zip(paths, scrubbed, strict=True):
        _write(path, history, scenario)
    return paths


async def replay_problem(workflows: Sequence[type], history: Json) -> str | None:
    """Replay one history with the SDK's Replayer; return what is wrong, or None."""
    # Workflows make ids of children from their own.
    workflow_id = str(attributes(history["events"][0])["workflowId"])
    replayer = Replayer(workflows=list(workflows), data_converter=data_converter)
    result = await replayer.replay_workflow(
        WorkflowHistory.from_json(workflow_id, json.dumps(history)), raise_on_replay_failure=False
    )
    return None if result.replay_failure is None else str(result.replay_failure)


def _write(path: Path, history: Json, scenario: Scenario) -> None:
    content = (json.dumps(history, indent=1, ensure_ascii=False) + "\n").encode()
    events = history["events"]
    provenance = Provenance(
        sha256=sha256_of(content),
        sdk_version=sdk_version(events),
        core_flags=core_flags(events),
        patch_ids=patch_ids(events),
        app_version=__version__,
        recorded_at=datetime.now(UTC).isoformat(timespec="seconds"),
        scenario=scenario.name,
        exit=exit_of(events),
        scrubbed=True,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Opened for creation alone: of two recorders that began together, one is refused.
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError as error:
        raise HistoryExists(path=str(path)) from error
    provenance_path(path).write_text(provenance.to_json(), encoding="utf-8")
