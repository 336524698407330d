"""Tests pass what they change: they patch no policy, no constant of the three distributions, and no worker class."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator

import pytest

from tests.unit.project.checkout import ROOT

DISTRIBUTIONS = ("photo_worker", "textract_local", "temporal_replay_gate")
_CONSTANT = re.compile(r"_{0,2}[A-Z][A-Z0-9_]*")
_CLASS = re.compile(r"_?[A-Z]\w*[a-z]\w*")
_DEFAULTS = ("__defaults__", "__kwdefaults__")
_POLICIES = "photo_worker.policies"


def imported(tree: ast.Module) -> dict[str, str]:
    """Return the full name of everything that a module imports, by the name that it has there."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                found[name.asname or name.name.partition(".")[0]] = (
                    name.name if name.asname else name.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}
    return found


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """Return the full name of an expression such as ``module.CONSTANT``, empty for others."""
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value, names)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def patched(tree: ast.Module) -> Iterator[str]:
    """Yield the full name of each attribute of an imported object that a module replaces.

    The name ends with ``.*`` if it is not known until the test runs.
    """
    names = imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called not in {"setattr", "delattr", "patch", "object"} or not node.args:
                continue
            target, *rest = node.args
            if isinstance(target, ast.Constant) and isinstance(target.value, str):
                yield target.value
            elif rest and dotted(target, names):
                known = isinstance(rest[0], ast.Constant)
                yield f"{dotted(target, names)}.{rest[0].value if known else '*'}"  # type: ignore[attr-defined]
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                # ``function.__kwdefaults__["name"] = value`` changes the function as well.
                changed = target.value if isinstance(target, ast.Subscript) else target
                if isinstance(changed, ast.Attribute) and dotted(changed, names):
                    yield dotted(changed, names)


def is_refused(name: str) -> bool:
    """Tell whether a test must pass a parameter in place of patching ``name``."""
    owner, _, last = name.rpartition(".")
    if last == "Worker" or name.startswith(f"{_POLICIES}."):
        return True
    if owner.partition(".")[0] not in DISTRIBUTIONS:
        return False
    return last in {"*", *_DEFAULTS} or _CONSTANT.fullmatch(last) is not None or is_class_value(owner, last)


def is_class_value(owner: str, name: str) -> bool:
    """Tell whether ``owner`` is a class whose attribute ``name`` is a value, and not a method."""
    module, _, last = owner.rpartition(".")
    if _CLASS.fullmatch(last) is None:
        return False
    return not callable(getattr(getattr(importlib.import_module(module), last), name, None))


def refused(text: str) -> list[str]:
    """Return what a module's text patches and must not."""
    return [name for name in patched(ast.parse(text)) if is_refused(name)]


DIRECTORIES = [ROOT / "tests", ROOT / "benchmarks", *sorted(ROOT.glob("packages/*/tests"))]


def test_tests_patch_no_policy_constant_or_worker() -> None:
    files = [path for directory in DIRECTORIES for path in sorted(directory.rglob("*.py"))]
    found = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in files
        for name in refused(path.read_text(encoding="utf-8"))
    }
    assert found == set(), "give it a parameter, with the constant as its default, and pass it in the test"
    assert len(files) > 300


_PG = "photo_worker.adapters.postgres.connection"
IMPORTS = """
import temporalio.worker
import photo_worker.worker
from photo_worker import policies
from photo_worker.adapters.postgres import connection as pg
from photo_worker.adapters.times import PostgresTimes
from textract_local.server import wire
from tests.support import proxy
"""


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ('patch.setattr(policies, "VERIFY", 1)', ["photo_worker.policies.VERIFY"]),
        ("patch.setattr(policies, name, 1)", ["photo_worker.policies.*"]),
        ('patch.setattr("photo_worker.policies.reread_wait", 1)', ["photo_worker.policies.reread_wait"]),
        ('setattr(pg, "KEEPALIVE_OPTIONS", {})', ["photo_worker.adapters.postgres.connection.KEEPALIVE_OPTIONS"]),
        ("pg.CONNECT_TIMEOUT_SECONDS = 1", ["photo_worker.adapters.postgres.connection.CONNECT_TIMEOUT_SECONDS"]),
        ('patch.setattr(wire, "_SECONDS", 1)', ["textract_local.server.wire._SECONDS"]),
        ('patch.setattr("photo_worker.worker.Worker", 1)', ["photo_worker.worker.Worker"]),
        ("temporalio.worker.Worker = None", ["temporalio.worker.Worker"]),
        ('pg.connect.__kwdefaults__["times"] = 1', [f"{_PG}.connect.__kwdefaults__"]),
        ('setattr(pg.connect, "__defaults__", ())', [f"{_PG}.connect.__defaults__"]),
        ("PostgresTimes.response = 1", ["photo_worker.adapters.times.PostgresTimes.response"]),
        ('patch.setattr(PostgresTimes, "response", 1)', ["photo_worker.adapters.times.PostgresTimes.response"]),
        ('patch.setattr(pg.LimitedConnection, "connect", 1)', []),
        ('patch.setattr(proxy, "PORT", 1)', []),
        ('patch.setattr(pg, "connect", 1)', []),
        ('patch.setattr(self.store, "PORT", 1)', []),
    ],
)
def test_refused_finds_patch(statement: str, expected: list[str]) -> None:
    assert refused(IMPORTS + statement) == expected
