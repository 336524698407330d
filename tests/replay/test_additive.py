"""Fields that were added to a contract with a default are notes, not red; values other than the default are red."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from photo_worker.contracts import image as image_contracts
from photo_worker.workflows import image as image_workflow
from temporal_replay_gate.gate import GateOptions, GateReport, check
from temporal_replay_gate.replay_pool import CodeUnderTest
from temporal_replay_gate.report import summary
from tests.replay.product import product_code

HERE = Path(__file__).parent / "planted"

# Arguments of the kitchen's first activity today; the history lacks the fields that were added since.
MODELS = """
from pydantic import BaseModel, Field

class Side(BaseModel):
    name: str
    hot: bool = {hot}

class Plain(BaseModel):
    dish: str
    sides: list[Side]
    by_name: dict[str, Side] = Field(default_factory=dict, alias="byName")

@dataclass
class Spice:
    name: str
    grams: int = {grams}

@dataclass
class Dish:
    dish: str
    spices: list[Spice]
    notes: list[str] = dataclasses.field(default_factory=list)

"""
PYDANTIC = 'Plain(dish=order.dish, sides=[Side(name="rice"{side})])'
DATACLASS = 'Dish(order.dish, [Spice("salt"{side})]{more})'


def kitchen(folder: Path, argument: str, hot: bool = False, grams: int = 1) -> CodeUnderTest:
    """Write a module with the kitchen, with another argument of its first activity."""
    text = (HERE / "kitchen.py").read_text(encoding="utf-8")
    wash = "            wash,\n            order.dish,\n"
    assert text.count(wash) == 1
    text = text.replace(
        wash, f"            wash,  # type: ignore\n            {argument},\n            result_type=str,\n"
    )
    text = text.replace("@activity.defn\ndef wash(dish: str)", "@activity.defn\ndef wash(dish)")
    models = MODELS.replace("{hot}", str(hot)).replace("{grams}", str(grams))
    text = text.replace("import asyncio\n", "import asyncio\nimport dataclasses\n", 1)
    text = text.replace("\n\n@activity.defn\n", f"\n\n{models}\n@activity.defn\n", 1)
    (folder / "added_kitchen.py").write_text(text, encoding="utf-8")
    return product_code("added_kitchen:Kitchen", PYDANTIC_CONVERTER, path=(str(folder),))


PYDANTIC_CONVERTER = "temporalio.contrib.pydantic:pydantic_data_converter"


def recorded(folder: Path, argument: object) -> Path:
    """Write the kitchen's history with another recorded argument of its first activity."""
    document = json.loads((HERE / "kitchen.json").read_text(encoding="utf-8"))
    event = next(each for each in document["events"] if "activityTaskScheduledEventAttributes" in each)
    (payload,) = event["activityTaskScheduledEventAttributes"]["input"]["payloads"]
    payload["data"] = base64.b64encode(json.dumps(argument).encode()).decode()
    path = folder / "history.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def run(code: CodeUnderTest, path: Path) -> GateReport:
    return check(GateOptions((path,), code, coverage=False, provenance=False, static=False))


OLD_PLAIN = {"dish": "leek", "sides": [{"name": "rice"}]}
OLD_DISH = {"dish": "leek", "spices": [{"name": "salt"}]}


class TestAdded:
    def test_pydantic_defaults_nested_alias_and_factory_are_notes(self, tmp_path: Path) -> None:
        report = run(kitchen(tmp_path, PYDANTIC.replace("{side}", "")), recorded(tmp_path, OLD_PLAIN))
        assert report.green, report.findings
        (note,) = report.notes
        assert (note.kind, note.code, note.where) == ("additive", "additive_arguments", "activity:wash arguments")
        assert note.issued == {"[0].sides[0].hot": False, "[0].byName": {}}
        assert "1 additions with a default" in summary(report)

    def test_dataclass_defaults_nested_and_factory_are_notes(self, tmp_path: Path) -> None:
        argument = DATACLASS.replace("{side}", "").replace("{more}", "")
        report = run(kitchen(tmp_path, argument), recorded(tmp_path, OLD_DISH))
        assert report.green, report.findings
        assert [note.issued for note in report.notes] == [{"[0].spices[0].grams": 1, "[0].notes": []}]

    def test_negative_control_with_additive_fields_is_caught(self, tmp_path: Path) -> None:
        report = run(kitchen(tmp_path, PYDANTIC.replace("{side}", "")), recorded(tmp_path, OLD_PLAIN))
        assert report.controls == {"planted_kitchen": {"command": True, "drift": True}}


class TestRed:
    @pytest.mark.parametrize(
        ("argument", "old"),
        [
            (PYDANTIC.replace("{side}", ", hot=True"), OLD_PLAIN),
            (DATACLASS.replace("{side}", ", 2").replace("{more}", ""), OLD_DISH),
            (DATACLASS.replace("{side}", "").replace("{more}", ", ['warm']"), OLD_DISH),
            # A dict has no defaults.
            ('{"dish": order.dish, "hot": False}', {"dish": "leek"}),
        ],
    )
    def test_added_field_with_other_value_is_drift(self, tmp_path: Path, argument: str, old: object) -> None:
        report = run(kitchen(tmp_path, argument), recorded(tmp_path, old))
        assert [finding.code for finding in report.findings] == ["drift_arguments"]

    def test_added_field_required_is_drift(self, tmp_path: Path) -> None:
        report = run(kitchen(tmp_path, PYDANTIC.replace("{side}", "")), recorded(tmp_path, {"dish": "leek"}))
        assert [finding.code for finding in report.findings] == ["drift_arguments"]

    def test_change_beside_additive_field_finding_omits_addition(self, tmp_path: Path) -> None:
        old = {"dish": "plum", "sides": [{"name": "rice"}]}
        report = run(kitchen(tmp_path, PYDANTIC.replace("{side}", "")), recorded(tmp_path, old))
        (finding,) = report.findings
        assert '{"dish": "leek"}' in finding.what
        assert "hot" not in finding.what
        assert len(report.notes) == 1

    def test_removed_field_is_drift(self, tmp_path: Path) -> None:
        old = OLD_PLAIN | {"gone": None}
        report = run(kitchen(tmp_path, PYDANTIC.replace("{side}", "")), recorded(tmp_path, old))
        assert [finding.code for finding in report.findings] == ["drift_arguments"]


def test_product_contracts_with_optional_fields_are_additive(tmp_path: Path) -> None:
    contracts = Path(image_contracts.__file__).read_text(encoding="utf-8")
    for model, last in (
        ("OcrInput", "size_bytes: int | None = None"),
        ("ImageProcessingResult", "s3_manifest_key: Key"),
    ):
        head, found, tail = contracts.partition(f"class {model}(Contract)")
        assert last in tail
        contracts = (
            head + found + tail.replace(last, f"{last}\n    language: Name | None = None\n    pages: int = 1", 1)
        )
    (tmp_path / "own_contracts.py").write_text(contracts, encoding="utf-8")
    text = Path(image_workflow.__file__).read_text(encoding="utf-8")
    assert "photo_worker.contracts.image" in text
    text = text.replace("photo_worker.contracts.image", "own_contracts")
    (tmp_path / "own_workflow.py").write_text(text, encoding="utf-8")
    code = product_code("own_workflow:ImageProcessingWorkflow", path=(str(tmp_path),))
    report = run(code, HERE / "success.json")
    assert not [finding for finding in report.findings if finding.where != "activity:ocr_textract heartbeat_timeout"]
    assert {note.where for note in report.notes} == {"activity:ocr_textract arguments", "complete result"}
    assert all(set(note.issued.values()) == {None, 1} for note in report.notes)


class TestSets:
    SET = "Bag({'leek', 'plum', 'fig', 'pea'})"
    MODEL = "\n@dataclass\nclass Bag:\n    names: set[str]\n\n"

    @pytest.mark.parametrize("order", [["fig", "leek", "pea", "plum"], ["plum", "pea", "leek", "fig"]])
    def test_set_in_payload_same_members_is_note(self, tmp_path: Path, order: list[str]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(globals(), "MODELS", MODELS + self.MODEL)
            code = kitchen(tmp_path, self.SET)
        report = run(code, recorded(tmp_path, {"names": order}))
        assert report.green, report.findings
        assert [(note.code, note.where) for note in report.notes] == [("order", "activity:wash arguments")]

    def test_set_in_payload_other_member_is_drift(self, tmp_path: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(globals(), "MODELS", MODELS + self.MODEL)
            code = kitchen(tmp_path, self.SET)
        report = run(code, recorded(tmp_path, {"names": ["fig", "leek", "pea", "beet"]}))
        assert [finding.code for finding in report.findings] == ["drift_arguments"]
