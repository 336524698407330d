"""The public names: what there is, what the README says of them, and what importing them costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import temporal_replay_gate
from temporal_replay_gate import errors, scenarios, vocabulary

README = Path(__file__).resolve().parents[1] / "README.md"
LIGHT = "Hooks, TemporalService, NotImportable, command_group, imported, errors, scenarios, vocabulary"


@pytest.mark.parametrize("name", temporal_replay_gate.__all__)
def test_public_names_exist_and_are_in_readme(name: str) -> None:
    assert getattr(temporal_replay_gate, name) is not None
    assert name in dir(temporal_replay_gate)
    _, _, section = README.read_text("utf-8").partition("\n## Public names\n")
    assert f"`{name}`" in section


def own_names(module: ModuleType) -> set[str]:
    """Return the names without an underscore that a module defines itself."""
    names: set[str] = set()
    for node in ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("module", [errors, scenarios, vocabulary], ids=["errors", "scenarios", "vocabulary"])
def test_public_module_lists_all_that_it_defines(module: ModuleType) -> None:
    assert own_names(module)
    assert set(module.__all__) == own_names(module)
    assert all(getattr(module, name) is not None for name in module.__all__)


def test_public_module_unknown_name_is_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(temporal_replay_gate, "nothing")  # noqa: B009 - the type checker knows that there is none


def test_import_of_what_a_program_mounts_loads_no_sdk() -> None:
    code = f"import sys; from temporal_replay_gate import {LIGHT}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "click" in loaded
    assert loaded.isdisjoint({"photo_worker", "temporalio", "google", "rich"})


def test_import_of_package_alone_loads_none_of_its_modules() -> None:
    code = "import sys, temporal_replay_gate; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [name for name in done.stdout.split() if name.startswith("temporal")] == ["temporal_replay_gate"]
