"""Fields that were added to a contract with a default are notes, not red; values other than the default are red."""

from __future__ import annotations

from pathlib import Path

import pytest

from gate_support import added_fields
from gate_support.added_fields import BAG, MODELS, OLD_DISH, OLD_PLAIN, SET, dish, kitchen, plain, recorded, run
from temporal_replay_gate.report import summary


class TestAdded:
    def test_pydantic_defaults_nested_alias_and_factory_are_notes(self, tmp_path: Path) -> None:
        report = run(kitchen(tmp_path, plain()), recorded(tmp_path, OLD_PLAIN))
        assert report.green, report.findings
        (note,) = report.notes
        assert (note.kind, note.code, note.where) == ("additive", "additive_arguments", "activity:wash arguments")
        assert note.issued == {"[0].sides[0].hot": False, "[0].byName": {}}
        assert "1 additions with a default" in summary(report)

    def test_dataclass_defaults_nested_and_factory_are_notes(self, tmp_path: Path) -> None:
        argument = dish()
        report = run(kitchen(tmp_path, argument), recorded(tmp_path, OLD_DISH))
        assert report.green, report.findings
        assert [note.issued for note in report.notes] == [{"[0].spices[0].grams": 1, "[0].notes": []}]

    def test_negative_control_with_additive_fields_is_caught(self, tmp_path: Path) -> None:
        report = run(kitchen(tmp_path, plain()), recorded(tmp_path, OLD_PLAIN))
        assert report.controls == {"planted_kitchen": {"command": True, "drift": True}}


class TestRed:
    @pytest.mark.parametrize(
        ("argument", "old"),
        [
            (plain(", hot=True"), OLD_PLAIN),
            (dish(", 2"), OLD_DISH),
            (dish(more=", ['warm']"), OLD_DISH),
            # A dict has no defaults.
            ('{"dish": order.dish, "hot": False}', {"dish": "leek"}),
        ],
    )
    def test_added_field_with_other_value_is_drift(self, tmp_path: Path, argument: str, old: object) -> None:
        report = run(kitchen(tmp_path, argument), recorded(tmp_path, old))
        assert [finding.code for finding in report.findings] == ["drift_arguments"]

    def test_added_field_required_is_drift(self, tmp_path: Path) -> None:
        report = run(kitchen(tmp_path, plain()), recorded(tmp_path, {"dish": "leek"}))
        assert [finding.code for finding in report.findings] == ["drift_arguments"]

    def test_change_beside_additive_field_finding_omits_addition(self, tmp_path: Path) -> None:
        old = {"dish": "plum", "sides": [{"name": "rice"}]}
        report = run(kitchen(tmp_path, plain()), recorded(tmp_path, old))
        (finding,) = report.findings
        assert '{"dish": "leek"}' in finding.what
        assert "hot" not in finding.what
        assert len(report.notes) == 1

    def test_removed_field_is_drift(self, tmp_path: Path) -> None:
        old = OLD_PLAIN | {"gone": None}
        report = run(kitchen(tmp_path, plain()), recorded(tmp_path, old))
        assert [finding.code for finding in report.findings] == ["drift_arguments"]


class TestSets:
    @pytest.mark.parametrize("order", [["fig", "leek", "pea", "plum"], ["plum", "pea", "leek", "fig"]])
    def test_set_in_payload_same_members_is_note(self, tmp_path: Path, order: list[str]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(added_fields, "MODELS", MODELS + BAG)
            code = kitchen(tmp_path, SET)
        report = run(code, recorded(tmp_path, {"names": order}))
        assert report.green, report.findings
        assert [(note.code, note.where) for note in report.notes] == [("order", "activity:wash arguments")]

    def test_set_in_payload_other_member_is_drift(self, tmp_path: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(added_fields, "MODELS", MODELS + BAG)
            code = kitchen(tmp_path, SET)
        report = run(code, recorded(tmp_path, {"names": ["fig", "leek", "pea", "beet"]}))
        assert [finding.code for finding in report.findings] == ["drift_arguments"]
