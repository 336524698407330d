"""The recorded histories: each matches its scenario and its provenance, replays, and holds no private data."""

from __future__ import annotations

import base64
import copy
import hashlib
import itertools
import json
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from photo_worker.adapters.temporal.converter import data_converter
from photo_worker.contracts.image import ImageProcessingResult
from photo_worker.workflows.image import ImageProcessingWorkflow
from scripts.check_committed import problems_in
from temporal_replay_gate.expected_outcome import difference_from_expected
from temporal_replay_gate.gate import GateOptions, check
from temporal_replay_gate.histories import (
    Provenance,
    attributes,
    core_flags,
    event_name,
    exit_of,
    patch_ids,
    provenance_path,
    sdk_version,
)
from temporal_replay_gate.scenarios import Scenario
from tests.replay.corpora import CORPORA, FEATURES, PRODUCT, Corpus, load
from tests.replay.product import WORKFLOWS, product_code
from tests.support.harness import FIXTURES

_PLAYED = [pytest.param(corpus, scenario, id=scenario.name) for corpus in CORPORA for scenario in corpus.scenarios]
_FILES = [pytest.param(corpus, path, id=path.stem) for corpus in CORPORA for path in corpus.files()]


@pytest.mark.parametrize(("corpus", "scenario"), _PLAYED)
def test_history_matches_its_scenario(corpus: Corpus, scenario: Scenario) -> None:
    recorded = list(corpus.releases(scenario))
    assert recorded, "record it: photo-worker replay record"
    for paths in recorded:
        assert difference_from_expected(scenario.expected, [load(path) for path in paths]) is None


@pytest.mark.parametrize(("corpus", "path"), _FILES)
def test_history_belongs_to_a_scenario(corpus: Corpus, path: Path) -> None:
    known = {file for scenario in corpus.scenarios for paths in corpus.releases(scenario) for file in paths}
    assert path in known


@pytest.mark.parametrize(("corpus", "path"), _FILES)
def test_provenance_matches_its_history(corpus: Corpus, path: Path) -> None:
    provenance = Provenance.from_json(provenance_path(path).read_text(encoding="utf-8"))
    events = load(path)["events"]
    assert provenance.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert provenance.core_flags == core_flags(events)
    assert 1 in provenance.core_flags, "without it the replay compares neither ids nor types"
    assert provenance.sdk_version == sdk_version(events)
    assert (provenance.patch_ids, provenance.exit) == (patch_ids(events), exit_of(events))
    assert path.stem.startswith(provenance.scenario)
    assert provenance.app_version == path.parent.name
    assert provenance.scrubbed


@pytest.mark.parametrize(("corpus", "path"), _FILES)
async def test_sdk_replayer_accepts_history(corpus: Corpus, path: Path) -> None:
    document = load(path)
    started = attributes(document["events"][0])
    replayer = Replayer(workflows=corpus.workflows, data_converter=data_converter)
    history = WorkflowHistory.from_json(started["workflowId"], document)
    assert (await replayer.replay_workflow(history, raise_on_replay_failure=False)).replay_failure is None


@pytest.mark.parametrize(
    ("corpus", "code"),
    [
        pytest.param(PRODUCT, WORKFLOWS, id="product"),
        pytest.param(FEATURES, "tests.replay.features.workflows:WORKFLOWS", id="features"),
    ],
)
def test_check_of_each_corpus_is_green(corpus: Corpus, code: str) -> None:
    allowed = corpus.root.with_name("allowed_drift.toml")
    allow = allowed if allowed.exists() else None
    report = check(GateOptions(paths=(corpus.root,), code=product_code(workflows=code), allow=allow, static=False))
    assert [finding.what for finding in report.findings] == []
    assert len(report.checked) == len(corpus.files())


def test_histories_of_patched_workflow_cover_both_branches() -> None:
    sides = {patch_ids(load(path)["events"]) for path in FEATURES.files() if path.parts[-3] == "feature_patched"}
    assert sides == {(), ("wash-up",)}


def test_histories_of_chain_link_to_next_run() -> None:
    directory = FEATURES.root / "feature_batch" / "0.1.0"
    runs = [load(directory / f"batch-success-run{number}.json")["events"] for number in (1, 2, 3)]
    for run, following in itertools.pairwise(runs):
        assert attributes(run[-1])["newExecutionRunId"] == attributes(following[0])["originalExecutionRunId"]


class TestWhatIsNotInThem:
    """A history holds no private text, picture, machine name or path."""

    @pytest.mark.parametrize(("corpus", "path"), _FILES)
    def test_history_holds_no_machine_name_or_path(self, corpus: Corpus, path: Path) -> None:
        text = path.read_text(encoding="utf-8") + "".join(decoded_payloads(load(path)))
        assert list(problems_in(path.name, text)) == []
        assert not re.search(rf"(?i)\b{re.escape(platform.node())}\b", text) or platform.node() == "localhost"
        assert not re.search(r"\d+@|127\.0\.0\.1|localhost|photo-worker-|\.py\b", text)
        assert {value for name, value in strings(load(path)) if name == "identity"} == {"scrubbed"}
        assert {value for name, value in strings(load(path)) if name == "stackTrace"} <= {""}

    @pytest.mark.parametrize("path", PRODUCT.files(), ids=lambda path: path.stem)
    def test_history_holds_no_document_text_or_picture(self, path: Path) -> None:
        payloads = "".join(decoded_payloads(load(path)))
        for line in document_lines():
            assert line not in payloads
        raw = path.read_bytes()
        for picture in (FIXTURES / "photos").iterdir():
            head = picture.read_bytes()[:48]
            assert head not in raw
            assert base64.b64encode(head) not in raw
        assert len(raw) < 40_000

    @pytest.mark.parametrize("path", PRODUCT.files(), ids=lambda path: path.stem)
    def test_history_holds_no_task_queue_of_recording(self, path: Path) -> None:
        names = {
            queue["name"]
            for event in load(path)["events"]
            if isinstance(queue := attributes(event).get("taskQueue"), dict)
        }
        assert names <= {"recipe-process", "sticky"}


class TestARecordingThatDiffers:
    """A history that was recorded again with other behaviour does not match its scenario."""

    @pytest.fixture
    def scenario(self) -> Scenario:
        return next(one for one in PRODUCT.scenarios if one.name == "ocr-throttled")

    @pytest.fixture
    def history(self, scenario: Scenario) -> dict[str, Any]:
        return copy.deepcopy(load(next(iter(PRODUCT.releases(scenario)))[0]))

    def test_difference_from_expected_names_other_attempts(self, scenario: Scenario, history: dict[str, Any]) -> None:
        started = [event for event in history["events"] if event_name(event) == "ActivityTaskStarted"][1]
        started["activityTaskStartedEventAttributes"]["attempt"] = 2
        assert "attempts=2" in (difference_from_expected(scenario.expected, [history]) or "")

    def test_difference_from_expected_names_other_exit(self, scenario: Scenario, history: dict[str, Any]) -> None:
        history["events"][-1]["eventType"] = "EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED"
        assert "exit" in (difference_from_expected(scenario.expected, [history]) or "")

    def test_difference_from_expected_names_other_activity(self, scenario: Scenario, history: dict[str, Any]) -> None:
        scheduled = [event for event in history["events"] if event_name(event) == "ActivityTaskScheduled"][1]
        scheduled["activityTaskScheduledEventAttributes"]["activityType"]["name"] = "ocr_elsewhere"
        assert "ocr_elsewhere" in (difference_from_expected(scenario.expected, [history]) or "")

    def test_difference_from_expected_names_other_run_count(self, scenario: Scenario, history: dict[str, Any]) -> None:
        assert "2 runs" in (difference_from_expected(scenario.expected, [history, history]) or "")


def strings(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield every string of a JSON document with the name of its field."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from strings(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item, name)
    elif isinstance(value, str):
        yield name, value


def decoded_payloads(history: dict[str, Any]) -> Iterator[str]:
    """Yield the decoded data of a history's payloads."""
    for name, value in strings(history):
        if name == "data":
            yield base64.b64decode(value).decode("utf-8", "replace")


def document_lines() -> set[str]:
    """Return the lines of text of all fixture documents that are long enough to be significant."""
    lines: set[str] = set()
    for path in (FIXTURES / "recorded").glob("*.json"):
        response = json.loads(path.read_text(encoding="utf-8"))
        lines |= {block["Text"] for block in response["Blocks"] if len(block.get("Text", "")) > 5}
    assert len(lines) > 100
    return lines


@workflow.defn(name="image_processing_workflow")
class ReadsOn(ImageProcessingWorkflow):
    """Today's workflow, but runs from before lifetimes reread without end."""

    @workflow.run
    async def run(self, *given: Any) -> ImageProcessingResult:
        return await super().run(*given)

    def _is_late(self, readings: int) -> bool:
        return self._deadline is not None


@workflow.defn(name="image_processing_workflow")
class EndsAtOnce(ImageProcessingWorkflow):
    """Today's workflow, but it also ends rereading that an earlier release had continued."""

    @workflow.run
    async def run(self, *given: Any) -> ImageProcessingResult:
        return await super().run(*given)

    def _is_late(self, readings: int) -> bool:
        return workflow.now() > workflow.info().start_time + self._policies.lifetime


@pytest.mark.parametrize("code", [ReadsOn, EndsAtOnce])
async def test_history_of_rereading_end_refuses_both_wrong_rules(code: type) -> None:
    (path,) = (path for path in PRODUCT.files() if path.stem == "rereading-ends")
    history = WorkflowHistory.from_json("any", path.read_text(encoding="utf-8"))
    for workflows, fits in ((ImageProcessingWorkflow, True), (code, False)):
        replayer = Replayer(
            workflows=[workflows], data_converter=data_converter, workflow_runner=UnsandboxedWorkflowRunner()
        )
        result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
        assert (result.replay_failure is None) is fits
