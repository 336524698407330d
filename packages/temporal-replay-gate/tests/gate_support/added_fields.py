"""The kitchen with other arguments of its first activity than its history has."""

from __future__ import annotations

import ast
import base64
import json
from pathlib import Path

from gate_support.changed_code import kitchen_washing, write
from temporal_replay_gate.gate import GateOptions, GateReport, check
from temporal_replay_gate.replay_pool import CodeUnderTest

HERE = Path(__file__).parent

# Arguments of the kitchen's first activity today; the history lacks the fields that were added since.
MODELS = """
import dataclasses
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
SET = "Bag({'leek', 'plum', 'fig', 'pea'})"
BAG = "\n@dataclass\nclass Bag:\n    names: set[str]\n\n"


def plain(side: str = "") -> str:
    """Return an argument made of pydantic's models; ``side`` is what follows the name of its side."""
    return f'Plain(dish=order.dish, sides=[Side(name="rice"{side})])'


def dish(side: str = "", more: str = "") -> str:
    """Return an argument made of dataclasses; ``side`` follows the name of its spice, ``more`` the spices."""
    return f'Dish(order.dish, [Spice("salt"{side})]{more})'


def kitchen(directory: Path, argument: str, hot: bool = False, grams: int = 1) -> CodeUnderTest:
    """Write a module with the kitchen, with another argument of its first activity."""
    tree = kitchen_washing(argument)
    # Behind the imports.
    at = next(number for number, node in enumerate(tree.body) if isinstance(node, ast.ClassDef))
    tree.body[at:at] = ast.parse(MODELS.format(hot=hot, grams=grams)).body
    write(tree, directory / "added_kitchen.py")
    return CodeUnderTest("added_kitchen:Kitchen", PYDANTIC_CONVERTER, path=(str(directory),))


PYDANTIC_CONVERTER = "temporalio.contrib.pydantic:pydantic_data_converter"


def recorded(directory: Path, argument: object) -> Path:
    """Write the kitchen's history with another recorded argument of its first activity."""
    document = json.loads((HERE / "kitchen.json").read_text(encoding="utf-8"))
    event = next(each for each in document["events"] if "activityTaskScheduledEventAttributes" in each)
    (payload,) = event["activityTaskScheduledEventAttributes"]["input"]["payloads"]
    payload["data"] = base64.b64encode(json.dumps(argument).encode()).decode()
    path = directory / "history.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def run(code: CodeUnderTest, path: Path) -> GateReport:
    return check(GateOptions((path,), code, coverage=False, provenance=False, static=False))


OLD_PLAIN = {"dish": "leek", "sides": [{"name": "rice"}]}
OLD_DISH = {"dish": "leek", "spices": [{"name": "salt"}]}
