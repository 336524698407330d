"""docs/architecture.md agrees with the tree and with the import contracts of pyproject.toml."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "architecture.md"
CONTRACTS: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"][
    "contracts"
]
_MODULE_OF_TOOL = re.compile(r"(?:textract_local|temporal_replay_gate)(?:\.\w+)+")
LAYERS = next(contract for contract in CONTRACTS if contract["id"] == "layers")


def rows(heading: str) -> list[list[str]]:
    """Return the cells of all tables between a heading and the next one of its level, without the tables' heads."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE.read_text("utf-8"), re.M | re.S)
    tables = re.findall(r"((?:^\|.*\n)+)", section, re.M)
    lines = [line for table in tables for line in table.splitlines()[2:]]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def tracked() -> list[Path]:
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout.decode()
    return [Path(name) for name in listed.split("\0") if name and (ROOT / name).exists()]


def packages(root: str) -> set[str]:
    return {str(path.parent) for path in tracked() if path.parts[0] == root and path.name == "__init__.py"}


def test_architecture_layers_match_contract() -> None:
    expected = []
    for layer in LAYERS["layers"]:
        names = [name.strip() for name in re.split(r"[|:]", layer)]
        expected.append((names, "yes" if ":" in layer else "no" if "|" in layer else ""))
    assert [(quoted(names), together) for names, together in rows("Layers")] == expected


def test_architecture_contracts_match_linter() -> None:
    shown = {quoted(name)[0]: says for name, says in rows("Further contracts")}
    assert shown == {contract["id"]: contract["name"] for contract in CONTRACTS if contract is not LAYERS}


def test_product_runs_public_modules_of_the_tools_alone() -> None:
    """What a contract says of imports holds for modules that the product runs by name, such as after ``-m``."""
    excepted = [line for contract in CONTRACTS for line in contract.get("ignore_imports", ())]
    public = {line.partition(" -> ")[2] for line in excepted if line.startswith("photo_worker.** -> ")}
    named = {
        node.value
        for path in sorted((ROOT / "photo_worker").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _MODULE_OF_TOOL.fullmatch(node.value)
    }
    assert "textract_local.server" in named
    assert named <= public


def test_architecture_tree_names_each_package() -> None:
    named = {quoted(row[0])[0] for row in rows("The tree") if "/" in row[0] or row[0] == "`photo_worker`"}
    assert packages("photo_worker") | packages("packages") <= named
    missing = {path for path in named if not (ROOT / path).is_dir()}
    assert missing == set()


def test_architecture_tree_names_each_top_level_directory() -> None:
    named = {quoted(row[0])[0] for row in rows("The tree")}
    tops = {path.parts[0] for path in tracked() if len(path.parts) > 1 and not path.parts[0].startswith(".")}
    assert tops <= named


def test_architecture_modules_exist() -> None:
    modules = {quoted(row[0])[0] for row in rows("The tree") if "/" not in row[0]}
    files = {path.stem for path in (ROOT / "photo_worker").glob("*.py")}
    tops = {path.parts[0] for path in tracked()}
    assert modules <= files | tops


def test_architecture_tests_table_names_each_directory() -> None:
    named = {quoted(row[0])[0] for row in rows("The tests")}
    directories = {"/".join(path.parts[:2]) for path in tracked() if path.parts[0] == "tests" and len(path.parts) > 2}
    assert directories <= named
    assert {path for path in named if not (ROOT / path).is_dir()} == set()
