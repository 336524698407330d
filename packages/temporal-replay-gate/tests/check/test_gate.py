"""The gate as a whole: what makes it red, and that it is never green by accident."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from gate_support.histories import GOOD, codec, codes, copy, loose, sign
from temporal_replay_gate.errors import AllowListInvalid, ReplayTargetBroken, ReplayTargetInvalid, WorkflowUnknown
from temporal_replay_gate.gate import GateOptions, check
from temporal_replay_gate.replay_pool import CodeUnderTest, ReplayOutcome, ReplayPool, ReplayTask


class TestGreen:
    def test_check_good_history_is_green_and_mutations_caught(self) -> None:
        report = check(loose(GOOD))
        assert report.findings == []
        assert [entry.state for entry in report.checked] == ["ok"]
        assert report.checked[0].commands > 8
        assert report.controls == {"planted_kitchen": {"command": True, "drift": True}}

    def test_check_with_two_processes_keeps_order_and_progress(self, tmp_path: Path) -> None:
        paths = [copy(tmp_path, f"run{number}") for number in range(4)]
        told: list[tuple[int, int]] = []
        report = check(loose(tmp_path, jobs=2), lambda done, total: told.append((done, total)))
        assert [entry.path for entry in report.checked] == paths
        assert report.green
        assert told == [(number, 4) for number in range(1, 5)]

    def test_check_open_history_is_partly_checked(self, tmp_path: Path) -> None:
        path = copy(tmp_path, "open")
        document = json.loads(path.read_text(encoding="utf-8"))
        # The end of the run, and the completion of the task that issued it.
        del document["events"][-2:]
        path.write_text(json.dumps(document), encoding="utf-8")
        report = check(loose(path))
        assert [entry.state for entry in report.checked] == ["partly checked"]
        assert report.green


class TestNothing:
    def test_check_without_histories_is_red(self, tmp_path: Path) -> None:
        assert codes(check(loose(tmp_path))) == {"no_histories"}

    def test_check_without_history_of_selected_type_is_red(self, tmp_path: Path) -> None:
        assert codes(check(replace(loose(tmp_path), workflow="planted_kitchen"))) == {"no_histories"}

    def test_check_directory_without_histories_beside_good_is_red(self, tmp_path: Path) -> None:
        full, empty, other = tmp_path / "full", tmp_path / "empty", tmp_path / "other"
        copy(full, "good")
        empty.mkdir()
        other.mkdir()
        (other / "notes.md").write_text("x", encoding="utf-8")
        report = check(replace(loose(full), paths=(full, GOOD, empty, other)))
        assert [(each.code, each.what) for each in report.findings] == [
            ("no_histories", f"There are no histories in {directory}.") for directory in (empty, other)
        ]
        assert [each.state for each in report.checked] == ["ok", "ok"]

    def test_check_selected_type_unknown_is_wrong_use(self) -> None:
        with pytest.raises(WorkflowUnknown) as caught:
            check(replace(loose(GOOD), workflow="nosuch"))
        assert caught.value.wrong_use
        assert "planted" in caught.value.message


class TestLost:
    def test_check_hanging_replay_is_red_and_others_continue(self, tmp_path: Path) -> None:
        code = codec(tmp_path, "await asyncio.Event().wait() if b'hang' in text else None")
        first, hanging, last = copy(tmp_path, "a"), copy(tmp_path, "b", dish="hang"), copy(tmp_path, "c")
        report = check(loose(first, hanging, last, code=code, limit_seconds=8.0, jobs=1))
        assert [entry.state for entry in report.checked] == ["ok", "failed", "ok"]
        assert [(finding.code, finding.file) for finding in report.findings] == [("replay_hang", str(hanging))]
        assert "8 s" in report.findings[0].what
        assert not [child for child in psutil.Process().children(recursive=True) if replays(child)]

    def test_check_crashing_replay_is_red_and_others_continue(self, tmp_path: Path) -> None:
        code = codec(tmp_path, "os._exit(7) if b'crash' in text else None")
        first, dying, last = copy(tmp_path, "a"), copy(tmp_path, "b", dish="crash"), copy(tmp_path, "c")
        report = check(loose(first, dying, last, code=code, jobs=1))
        assert [entry.state for entry in report.checked] == ["ok", "failed", "ok"]
        assert [(finding.code, finding.file) for finding in report.findings] == [("replay_crash", str(dying))]
        assert "exit status 7" in report.findings[0].what

    def test_check_crash_due_to_earlier_replay_blames_no_history(self, tmp_path: Path) -> None:
        body = "seen.add(next((word for word in (b'plum', b'quince') if word in text), b'')); "
        code = codec(tmp_path, body + "os._exit(7) if {b'plum', b'quince'} <= seen else None")
        paths = [copy(tmp_path, "a", dish="plum"), copy(tmp_path, "b", dish="quince")]
        report = check(loose(*paths, code=code, jobs=1))
        assert "replay_crash" not in {finding.code for entry in report.checked for finding in entry.findings}
        assert all(entry.replayed for entry in report.checked)


def replays(process: psutil.Process) -> bool:
    try:
        return "temporal_replay_gate.child" in process.cmdline()
    except psutil.Error:
        return False


class TestFiles:
    def test_check_broken_file_beside_good_is_red_alone(self, tmp_path: Path) -> None:
        good, broken = copy(tmp_path, "good"), tmp_path / "broken.json"
        broken.write_text('{"events": []}', encoding="utf-8")
        report = check(loose(tmp_path))
        assert {entry.path: entry.state for entry in report.checked} == {good: "ok", broken: "failed"}
        assert codes(report) == {"history_without_events"}

    def test_check_copied_run_is_red_and_still_replayed(self, tmp_path: Path) -> None:
        shutil.copy(GOOD, tmp_path / "a.json")
        shutil.copy(GOOD, tmp_path / "b.json")
        report = check(loose(tmp_path))
        assert [(finding.code, finding.file) for finding in report.findings] == [
            ("run_id_duplicate", str(tmp_path / "b.json"))
        ]
        assert all(entry.replayed for entry in report.checked)

    def test_check_history_of_type_not_in_code_is_unknown(self) -> None:
        report = check(loose(GOOD, code=CodeUnderTest(workflows="gate_support.kitchen:Oven")))
        assert codes(report) == {"workflow_type_unknown"}
        assert "planted_kitchen" in report.findings[0].what

    def test_check_directory_requires_provenance(self, tmp_path: Path) -> None:
        path = copy(tmp_path, "success")
        options = replace(loose(tmp_path), provenance=None)
        assert codes(check(options)) == {"provenance_missing"}
        sign(path)
        assert check(options).green

    def test_check_edited_history_is_provenance_mismatch(self, tmp_path: Path) -> None:
        path = copy(tmp_path, "success")
        sign(path)
        path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
        report = check(loose(path))
        assert codes(report) == {"provenance_mismatch"}
        assert "sha256" in report.findings[0].what


class TestControl:
    @pytest.mark.parametrize("blind_to", ["command", "drift"])
    def test_control_mutation_unseen_is_red(self, blind_to: str, monkeypatch: pytest.MonkeyPatch) -> None:
        run = ReplayPool.run

        def blind(
            self: ReplayPool, work: Sequence[ReplayTask], on_outcome: Callable[[ReplayOutcome], None] = lambda _: None
        ) -> object:
            outcomes = run(self, work, on_outcome)
            return [replace(each, findings=()) if each.task.mutation == blind_to else each for each in outcomes]

        monkeypatch.setattr(ReplayPool, "run", blind)
        report = check(loose(GOOD))
        assert codes(report) == {f"control_missed_{blind_to}"}
        assert report.controls["planted_kitchen"][blind_to] is False


class TestCoverage:
    def test_coverage_missing_exits_and_branches_are_red(self, tmp_path: Path) -> None:
        copy(tmp_path, "success")
        report = check(replace(loose(tmp_path), coverage=None))
        assert {finding.where for finding in report.findings} == {"failure", "cancellation", "unpatched:finer"}
        assert codes(report) == {"coverage_missing"}
        assert report.coverage[0].exits == {"success": 1}

    def test_coverage_workflow_without_history_is_red(self, tmp_path: Path) -> None:
        copy(tmp_path, "success")
        code = CodeUnderTest(workflows="own_workflows:WORKFLOWS", path=(str(tmp_path),))
        module = "from gate_support.kitchen import Bell, Kitchen\nWORKFLOWS = [Bell, Kitchen]\n"
        (tmp_path / "own_workflows.py").write_text(module, encoding="utf-8")
        report = check(replace(loose(tmp_path, code=code), coverage=True))
        assert ("planted_bell", "any") in {(finding.workflow_type, finding.where) for finding in report.findings}

    def test_coverage_of_single_file_is_not_required(self) -> None:
        assert check(replace(loose(GOOD), coverage=None)).green

    def test_coverage_chain_with_missing_run_is_red(self, tmp_path: Path) -> None:
        path = copy(tmp_path, "second")
        document = json.loads(path.read_text(encoding="utf-8"))
        started = document["events"][0]["workflowExecutionStartedEventAttributes"]
        started |= {"continuedExecutionRunId": str(uuid4()), "firstExecutionRunId": str(uuid4())}
        path.write_text(json.dumps(document), encoding="utf-8")
        report = check(replace(loose(path), coverage=True))
        assert "chain_incomplete" in codes(report)


class TestAllowList:
    ENTRY = '[[coverage]]\nworkflow = "planted_kitchen"\nexit = "{exit}"\nreason = "no run of it lives"\n'

    def options(self, directory: Path, text: str) -> GateOptions:
        allow = directory.parent / f"{directory.name}.toml"
        allow.write_text(text, encoding="utf-8")
        return replace(loose(directory), coverage=True, allow=allow)

    def test_allow_list_coverage_entries_excuse_findings(self, tmp_path: Path) -> None:
        copy(tmp_path, "success")
        text = "".join(self.ENTRY.format(exit=name) for name in ("failure", "cancellation", "unpatched:finer"))
        report = check(self.options(tmp_path, text))
        assert report.green
        assert len(report.allowed) == 3

    def test_allow_list_entry_without_match_is_stale(self, tmp_path: Path) -> None:
        copy(tmp_path, "success")
        names = ("failure", "cancellation", "unpatched:finer", "success")
        report = check(self.options(tmp_path, "".join(self.ENTRY.format(exit=name) for name in names)))
        assert codes(report) == {"allow_entry_stale"}

    DRIFT = (
        '[[drift]]\nworkflow = "planted_kitchen"\nwhere = "activity:wash"\nwhat = "heartbeat_timeout"\n'
        'was = "1.0"\nnow = "2.0"\nreason = "tests"\n'
    )

    def test_allow_list_unused_entry_in_partial_check_is_note(self, tmp_path: Path) -> None:
        """A single file, or the runs of a service, need not show each drift of an allow list, nor every exit."""
        path = copy(tmp_path, "success")
        whole = self.options(tmp_path, self.ENTRY.format(exit="failure") + self.DRIFT)
        loosely = replace(whole, coverage=False)
        for options in (replace(loosely, paths=(path,)), replace(loosely, sample=True)):
            report = check(options)
            assert report.green, report.findings
            assert [note.code for note in report.notes] == ["allow_entry_unused"] * 2
        report = check(loosely)
        assert [finding.code for finding in report.findings] == ["allow_entry_stale"]
        assert "heartbeat_timeout" in report.findings[0].what

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("[[coverage]]\nworkflow = 'a'\nexit = 'b'\n", "reason"),
            ("[[coverage]]\nworkflow = 'a'\nexit = 'b'\nreason = ' '\n", "empty"),
            ("[[drifts]]\n", "drifts"),
            ("[coverage]\n", "[[coverage]]"),
            ("no toml", "="),
        ],
    )
    def test_allow_list_malformed_or_without_reason_is_refused(self, tmp_path: Path, text: str, says: str) -> None:
        with pytest.raises(AllowListInvalid, match=says.replace("[", r"\[")):
            check(self.options(tmp_path, text))


class TestCode:
    @pytest.mark.parametrize(
        "workflows",
        ["nowhere:X", "gate_support.kitchen:Nobody", "no colon", "gate_support.kitchen:Order", "", " "],
    )
    def test_code_path_without_workflow_is_invalid_target(self, workflows: str) -> None:
        with pytest.raises(ReplayTargetInvalid):
            check(loose(GOOD, code=CodeUnderTest(workflows=workflows)))

    @pytest.mark.parametrize("listed", ["gate_support.kitchen:Kitchen,", ",gate_support.kitchen:Kitchen"])
    def test_code_list_with_empty_path_is_invalid_target(self, listed: str) -> None:
        with pytest.raises(ReplayTargetInvalid, match="a comma too many"):
            check(loose(GOOD, code=CodeUnderTest(workflows=listed)))

    def test_code_with_import_error_is_broken_target(self, tmp_path: Path) -> None:
        (tmp_path / "broken_code.py").write_text("import json\n1 / 0\n", encoding="utf-8")
        with pytest.raises(ReplayTargetBroken, match=r"ZeroDivisionError.*\(in broken_code, .*broken_code\.py:2\)"):
            check(loose(GOOD, code=CodeUnderTest(workflows="broken_code:W", path=(str(tmp_path),))))

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("\nimport no_such_lib\n", r"No module named 'no_such_lib' \(in inner_code, .*inner_code\.py:2\)"),
            ("def (\n", r"SyntaxError: .*\(.*inner_code\.py:1\)"),
            ("import json\n\njson.loads('x')\n", r"JSONDecodeError.*\(in inner_code, .*inner_code\.py:3\)"),
            ("import sys; sys.exit(0)\n", r"SystemExit: 0 \(in inner_code, .*inner_code\.py:1\)"),
            ("import os; os._exit(0)\n", r"broken_code:W: exit status 0"),
        ],
    )
    def test_code_with_import_error_names_module_and_line(self, tmp_path: Path, text: str, says: str) -> None:
        (tmp_path / "broken_code.py").write_text("import inner_code\n", encoding="utf-8")
        (tmp_path / "inner_code.py").write_text(text, encoding="utf-8")
        with pytest.raises(ReplayTargetBroken, match=says):
            check(loose(GOOD, code=CodeUnderTest(workflows="broken_code:W", path=(str(tmp_path),))))

    def test_code_refused_by_the_sandbox_names_module_and_line(self, tmp_path: Path) -> None:
        text = (
            "import sys\nfrom temporalio import workflow\nif vars(sys).setdefault('_own_seen', []):\n"
            "    raise RuntimeError('a second import')\nsys._own_seen.append(1)\n"
            "@workflow.defn\nclass Own:\n    @workflow.run\n    async def run(self) -> None:\n        pass\n"
        )
        (tmp_path / "once_code.py").write_text(text, encoding="utf-8")
        with pytest.raises(ReplayTargetBroken, match=r"a second import.*\(in once_code, .*once_code\.py:4\)"):
            check(loose(GOOD, code=CodeUnderTest(workflows="once_code:Own", path=(str(tmp_path),))))

    def test_code_that_prints_is_not_taken_as_response(self, tmp_path: Path) -> None:
        text = "print('{}', flush=True)\nfrom gate_support.kitchen import Kitchen\n"
        (tmp_path / "loud_code.py").write_text(text, encoding="utf-8")
        assert check(loose(GOOD, code=CodeUnderTest(workflows="loud_code:Kitchen", path=(str(tmp_path),)))).green

    def test_code_with_random_call_is_static_finding(self, tmp_path: Path) -> None:
        text = (
            "import random\nfrom temporalio import workflow\nfrom gate_support.kitchen import Kitchen\n"
            "@workflow.defn\nclass Dice:\n    @workflow.run\n    async def run(self) -> float:\n"
            "        return random.random()\n"
            "WORKFLOWS = [Kitchen, Dice]\n"
        )
        (tmp_path / "dice_code.py").write_text(text, encoding="utf-8")
        options = loose(GOOD, code=CodeUnderTest(workflows="dice_code:WORKFLOWS", path=(str(tmp_path),)))
        report = check(options)
        assert {finding.kind for finding in report.findings} == {"static"}
        assert (report.findings[0].source or "").endswith("dice_code.py:8")
        assert check(replace(options, static=False)).green
