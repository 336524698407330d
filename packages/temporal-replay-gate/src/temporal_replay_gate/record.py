"""Records histories: runs a scenario, checks its outcome, scrubs the history, replays both forms, and writes it.

Run by hand, never by CI. An existing history is never overwritten.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from temporalio.service import RPCError

from temporal_replay_gate.errors import (
    HistoryExists,
    HistoryUnwritable,
    RecordingUnfit,
    ReportedError,
    ScenarioDeviated,
    ScenarioUnknown,
)
from temporal_replay_gate.expected_outcome import difference_from_expected
from temporal_replay_gate.histories import (
    Provenance,
    core_flags,
    exit_of,
    patch_ids,
    provenance_path,
    sdk_version,
    sha256_of,
)
from temporal_replay_gate.hooks import Hooks
from temporal_replay_gate.replay_pool import CodeUnderTest, ReplayPool, ReplayTask
from temporal_replay_gate.scenario_runner import ScenarioRunner
from temporal_replay_gate.scenarios import Scenario
from temporal_replay_gate.scrub import scrub

Json = dict[str, Any]


@dataclass(frozen=True)
class RecordedHistory:
    """The result of recording one scenario: the files written, or the error that prevented it."""

    scenario: Scenario
    paths: Sequence[Path] = ()
    error: ReportedError | None = None


def choose(scenarios: Sequence[Scenario], names: Sequence[str]) -> list[Scenario]:
    """Return the scenarios of these names, or all if ``names`` is empty. Raises ``ScenarioUnknown``."""
    known = {scenario.name: scenario for scenario in scenarios}
    for name in names:
        if name not in known:
            raise ScenarioUnknown(name=name, known=", ".join(sorted(known)))
    return [known[name] for name in dict.fromkeys(names)] if names else list(scenarios)


def history_paths(root: Path, scenario: Scenario, release: str) -> list[Path]:
    """Return the paths of a scenario's histories: one file, or one for each run of a continue-as-new chain."""
    directory = root / scenario.workflow / release
    if scenario.expected.runs == 1:
        return [directory / f"{scenario.name}.json"]
    return [directory / f"{scenario.name}-run{number}.json" for number in range(1, scenario.expected.runs + 1)]


def refuse_existing(root: Path, scenarios: Sequence[Scenario], release: str) -> None:
    """Raise ``HistoryExists`` if one of the scenarios has been recorded in this release."""
    for scenario in scenarios:
        for path in history_paths(root, scenario, release):
            if path.exists() or provenance_path(path).exists():
                raise HistoryExists(path=str(path))


async def record(
    runner: ScenarioRunner, scenarios: Sequence[Scenario], root: Path, hooks: Hooks, *, parallel: int = 4
) -> AsyncIterator[RecordedHistory]:
    """Record the scenarios under ``root`` as the hooks' release, and yield the result of each as it ends.

    Raises ``HistoryExists`` before any scenario runs if a history of one of them exists.
    """
    refuse_existing(root, scenarios, hooks.release)
    if runner.suite.setup is not None:
        await runner.suite.setup(runner.client)
    gate = asyncio.Semaphore(parallel)

    async def one(scenario: Scenario) -> RecordedHistory:
        async with gate:
            try:
                return RecordedHistory(scenario, await _record(runner, scenario, root, hooks))
            except hooks.reported as error:
                return RecordedHistory(scenario, error=cast("ReportedError", error))
            except RPCError as error:
                target = runner.client.service_client.config.target_host
                away = hooks.unavailable(target=target, reason=error.message)
                return RecordedHistory(scenario, error=cast("ReportedError", away))

    for ended in asyncio.as_completed([one(scenario) for scenario in scenarios]):
        yield await ended


async def _record(runner: ScenarioRunner, scenario: Scenario, root: Path, hooks: Hooks) -> list[Path]:
    raw = [history.to_json_dict() for history in await runner.run(scenario)]
    if problem := difference_from_expected(scenario.expected, raw):
        raise ScenarioDeviated(name=scenario.name, reason=problem)
    vocabulary = hooks.vocabulary()
    scrubbed = [scrub(history, task_queues=runner.queues, keep=scenario.keep, vocabulary=vocabulary) for history in raw]
    code = hooks.code(runner.suite.code)
    for form, histories in (("as recorded", raw), ("once scrubbed", scrubbed)):
        if reason := await asyncio.to_thread(replay_problem, code, histories):
            raise RecordingUnfit(name=scenario.name, form=form, reason=reason)
    paths = history_paths(root, scenario, hooks.release)
    for path, history in zip(paths, scrubbed, strict=True):
        write(path, history, scenario, hooks.release)
    return paths


def replay_problem(code: CodeUnderTest, histories: Sequence[Json]) -> str | None:
    """Replay histories with the workflows that ``code`` names; return the differences found, None if there are none.

    The replay uses today's code, not that of the recording: histories of an earlier release must replay with it too.
    """
    with tempfile.TemporaryDirectory() as directory, ReplayPool(code, jobs=1) as pool:
        pool.types()
        jobs = []
        for number, history in enumerate(histories):
            path = Path(directory) / f"{number}.json"
            path.write_text(_text_of(history), encoding="utf-8")
            jobs.append(ReplayTask(path))
        findings = [finding for outcome in pool.run(jobs) for finding in outcome.findings]
    return "; ".join(finding.what for finding in findings) or None


def _text_of(history: Json) -> str:
    return json.dumps(history, indent=1, ensure_ascii=False) + "\n"


def write(path: Path, history: Json, scenario: Scenario, release: str) -> None:
    """Write a scrubbed history and its provenance. Raises ``HistoryExists`` and ``HistoryUnwritable``."""
    content = _text_of(history).encode()
    events = history["events"]
    provenance = Provenance(
        sha256=sha256_of(content),
        sdk_version=sdk_version(events),
        core_flags=core_flags(events),
        patch_ids=patch_ids(events),
        app_version=release,
        recorded_at=datetime.now(UTC).isoformat(timespec="seconds"),
        scenario=scenario.name,
        exit=exit_of(events),
        scrubbed=True,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HistoryUnwritable(path=str(path), reason=error.strerror or str(error)) from error
    try:
        # Mode "x" fails if the file exists: of two recorders that began together, one is refused.
        with path.open("xb") as file:
            file.write(content)
        provenance_path(path).write_text(provenance.to_json(), encoding="utf-8")
    except FileExistsError as error:
        raise HistoryExists(path=str(path)) from error
    except OSError as error:
        raise HistoryUnwritable(path=str(path), reason=error.strerror or str(error)) from error
