"""Recording: scenarios run on the real stack, and everything that must prevent a history from being written."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from photo_worker.cli import cli
from photo_worker.cli.replay import HOOKS, worker_factory
from temporal_replay_gate.errors import (
    HistoryExists,
    HistoryUnscrubbable,
    HistoryUnwritable,
    RecordingUnfit,
    ScenarioDeviated,
    ScenarioUnknown,
)
from temporal_replay_gate.histories import Provenance, provenance_path
from temporal_replay_gate.record import (
    RecordedHistory,
    choose,
    history_paths,
    record,
    refuse_existing,
    replay_problem,
    write,
)
from temporal_replay_gate.scenario_runner import ScenarioRunner
from temporal_replay_gate.scenarios import Expected, Scenario
from tests.replay.corpora import PRODUCT, load
from tests.replay.features.scenarios import SCENARIO_SUITE
from tests.replay.product import RELEASE, product_code, scrub
from tests.replay.scenarios.images import SCENARIOS, scenario_suite
from tests.support.harness import FIXTURES, Harness

PHOTO = FIXTURES / "photos" / "clean-print.png"

# For several scenarios at once and the replays of their histories on a loaded machine; it only matters if one hangs.
LIMIT = timedelta(minutes=8)


@pytest.fixture
def runner(harness: Harness) -> ScenarioRunner:
    return ScenarioRunner(
        harness.client,
        worker_factory(harness.settings),
        scenario_suite(PHOTO),
        harness.settings.temporal_task_queue,
        harness.application,
    )


def named(name: str) -> Scenario:
    return choose([*SCENARIOS, *SCENARIO_SUITE.scenarios], [name])[0]


def written(directory: Path) -> list[Path]:
    return list(directory.iterdir())


async def all_of(recording: AsyncIterator[RecordedHistory]) -> list[RecordedHistory]:
    return [one async for one in recording]


@pytest.mark.stack
class TestOnTheStack:
    @pytest.mark.timeout(2 * LIMIT.total_seconds())
    async def test_record_writes_histories_with_provenance_once(self, runner: ScenarioRunner, tmp_path: Path) -> None:
        wanted = [
            "lifetime-success-configured-engine",
            "lifetime-object-missing",
            "lifetime-cancelled-in-ocr",
            "lifetime-worker-restarted",
        ]
        scenarios = [dataclasses.replace(one, limit=LIMIT) for one in choose(SCENARIOS, wanted)]
        runner.suite = dataclasses.replace(runner.suite, scenarios=scenarios)
        settings = runner.application.settings.model_copy(update={"ocr_engine": "recorded"})
        runner.application.settings = settings
        runner.make_worker = worker_factory(settings)
        ended = await all_of(record(runner, runner.suite.scenarios, tmp_path, HOOKS))
        assert {one.scenario.name: one.error for one in ended} == dict.fromkeys(wanted)
        for one in ended:
            (path,) = one.paths
            provenance = Provenance.from_json(provenance_path(path).read_text(encoding="utf-8"))
            assert (provenance.scenario, provenance.exit) == (one.scenario.name, one.scenario.expected.exit)
            assert str(settings.s3_bucket) not in path.read_text(encoding="utf-8")
        again = [named("lifetime-success-configured-engine")]
        with pytest.raises(HistoryExists):
            await all_of(record(runner, again, tmp_path, HOOKS))

    async def test_replay_problem_of_raw_and_scrubbed_run_is_none(self, runner: ScenarioRunner) -> None:
        for name in ("lifetime-type-not-expected", "lifetime-cancelled-in-verify"):
            raw = [history.to_json_dict() for history in await runner.run(named(name))]
            scrubbed = [scrub(history, task_queues=runner.queues) for history in raw]
            assert raw != scrubbed
            assert replay_problem(product_code(), raw) is None
            assert replay_problem(product_code(), scrubbed) is None

    async def test_record_chain_writes_one_file_per_run(self, harness: Harness, tmp_path: Path) -> None:
        runner = ScenarioRunner(
            harness.client, worker_factory(harness.settings), SCENARIO_SUITE, harness.settings.temporal_task_queue
        )
        (ended,) = await all_of(record(runner, [named("batch-success")], tmp_path, HOOKS))
        assert ended.error is None
        assert [path.name for path in ended.paths] == [f"batch-success-run{number}.json" for number in (1, 2, 3)]

    async def test_record_unexpected_outcome_writes_nothing(self, runner: ScenarioRunner, tmp_path: Path) -> None:
        wrong = dataclasses.replace(named("lifetime-object-missing"), expected=Expected("success"))
        (ended,) = await all_of(record(runner, [wrong], tmp_path, HOOKS))
        assert isinstance(ended.error, ScenarioDeviated)
        assert "failure instead of success" in ended.error.message
        assert not written(tmp_path)

    async def test_record_constant_masked_by_scrub_writes_nothing(self, harness: Harness, tmp_path: Path) -> None:
        runner = ScenarioRunner(
            harness.client, worker_factory(harness.settings), SCENARIO_SUITE, harness.settings.temporal_task_queue
        )
        (ended,) = await all_of(
            record(runner, [dataclasses.replace(named("patched-failure"), keep=())], tmp_path, HOOKS)
        )
        assert isinstance(ended.error, RecordingUnfit)
        assert "once scrubbed" in ended.error.message
        assert not written(tmp_path)


class TestRefusals:
    def test_write_to_unwritable_directory_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        history = json.loads((PRODUCT.root / "image_processing_workflow" / "0.1.0" / "success.json").read_bytes())
        with pytest.raises(HistoryUnwritable) as caught:
            write(tmp_path / "file" / "success.json", history, named("lifetime-success"), RELEASE)
        assert caught.value.code == "history_unwritable"
        assert str(tmp_path) in caught.value.message

    def test_write_when_file_exists_keeps_it(self, tmp_path: Path) -> None:
        path = tmp_path / "success.json"
        path.write_text("evidence")
        with pytest.raises(HistoryExists):
            write(path, {"events": load(PRODUCT.files()[0])["events"]}, named("lifetime-success"), RELEASE)
        assert path.read_text() == "evidence"

    def test_refuse_existing_history_names_path_and_keeps_it(self, tmp_path: Path) -> None:
        scenario = named("lifetime-success")
        (path,) = history_paths(tmp_path, scenario, RELEASE)
        path.parent.mkdir(parents=True)
        path.write_text("evidence")
        with pytest.raises(HistoryExists) as caught:
            refuse_existing(tmp_path, [scenario], RELEASE)
        assert str(path) in caught.value.message
        assert path.read_text() == "evidence"

    def test_refuse_existing_run_of_chain_is_refused(self, tmp_path: Path) -> None:
        scenario = named("batch-success")
        last = history_paths(tmp_path, scenario, RELEASE)[-1]
        last.parent.mkdir(parents=True)
        last.write_text("evidence")
        with pytest.raises(HistoryExists):
            refuse_existing(tmp_path, [scenario], RELEASE)

    def test_choose_unknown_scenario_lists_known(self) -> None:
        with pytest.raises(ScenarioUnknown) as caught:
            named("no-such-scenario")
        assert "object-missing" in caught.value.message

    def test_record_error_codes_are_stable(self) -> None:
        kinds = (
            HistoryExists,
            HistoryUnscrubbable,
            HistoryUnwritable,
            RecordingUnfit,
            ScenarioDeviated,
            ScenarioUnknown,
        )
        assert [kind.code for kind in kinds] == [
            "history_exists",
            "history_unscrubbable",
            "history_unwritable",
            "recording_unfit",
            "scenario_deviated",
            "scenario_unknown",
        ]


class TestCommand:
    def test_record_list_needs_no_service(self) -> None:
        outcome = CliRunner().invoke(cli, ["replay", "record", "--list", "--photo", str(PHOTO), "-o", "json"])
        assert outcome.exit_code == 0
        listed = json.loads(outcome.stdout)["data"]["scenarios"]
        assert {one["name"] for one in listed} == {one.name for one in SCENARIOS}

    def test_record_list_missing_omits_recorded_scenario(self, tmp_path: Path) -> None:
        (path,) = history_paths(tmp_path, named("lifetime-success"), RELEASE)
        path.parent.mkdir(parents=True)
        path.write_text("{}")
        arguments = ["replay", "record", "--list", "--missing", "--to", str(tmp_path), "--photo", str(PHOTO)]
        outcome = CliRunner().invoke(cli, arguments)
        assert outcome.exit_code == 0
        assert len(outcome.stdout.splitlines()) == len(SCENARIOS) - 1

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (["no-such-scenario"], "scenario_unknown"),
            (["--scenarios", "tests.replay.features.scenarios"], "scenarios_unusable"),
            (["--scenarios", "tests.replay.features.scenarios:NOTHING"], "scenarios_unusable"),
            (["--scenarios", "tests.replay.features.scenarios:SCENARIOS"], "scenarios_unusable"),
            (["--photo", "no-such.png"], "scenarios_unusable"),
        ],
    )
    def test_record_wrong_use_exits_2_with_code_and_hint(self, arguments: list[str], code: str) -> None:
        photo = [] if "--photo" in arguments else ["--photo", str(PHOTO)]
        outcome = CliRunner().invoke(cli, ["replay", "record", *photo, *arguments])
        assert outcome.exit_code == 2
        assert f"[{code}]" in outcome.stderr
        assert "hint:" in outcome.stderr

    def test_record_without_checkout_exits_2_and_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "tests.replay.scenarios.images", None)
        outcome = CliRunner().invoke(cli, ["replay", "record", "--photo", str(PHOTO)])
        assert outcome.exit_code == 2
        assert "[scenarios_unusable]" in outcome.stderr
        assert "checkout" in outcome.stderr

    def test_record_existing_history_exits_1_and_keeps_it(self, tmp_path: Path) -> None:
        """The command refuses before it connects to a service, so that no scenario runs in vain."""
        (path,) = history_paths(tmp_path, named("lifetime-success"), RELEASE)
        path.parent.mkdir(parents=True)
        path.write_text("{}")
        arguments = ["replay", "record", "lifetime-success", "--to", str(tmp_path), "--photo", str(PHOTO)]
        outcome = CliRunner().invoke(cli, arguments)
        assert outcome.exit_code == 1
        assert "[history_exists]" in outcome.stderr
        assert path.read_text() == "{}"
