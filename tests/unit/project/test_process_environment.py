"""Where the process environment is read: bootstrap passes what was read once, and one place removes from it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "photo_worker"

# Files and directories that may read it, with the reason.
READERS = {
    "cli": "commands read it once and make settings of it",
    "health.py": "a command of its own",
    "devkit": "a tool of its own, whose commands these are",
}

_CHANGES = frozenset({"update", "setdefault", "pop", "popitem", "clear", "__setitem__"})


def _is_environ(node: ast.AST) -> bool:
    named = isinstance(node, ast.Attribute) and node.attr in {"environ", "environb"}
    return named and isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"


def uses(source: str) -> Iterator[tuple[str, int]]:
    """Yield ``read`` or ``write`` with its line for each use of the process environment."""
    for node in ast.walk(ast.parse(source)):
        if _is_environ(node):
            yield "read", node.lineno  # type: ignore[attr-defined]
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            for name in node.names:
                if name.name in {"environ", "environb", "getenv", "putenv", "unsetenv"}:
                    yield "write" if name.name in {"putenv", "unsetenv"} else "read", node.lineno
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            if node.attr == "getenv":
                yield "read", node.lineno
            if node.attr in {"putenv", "unsetenv"}:
                yield "write", node.lineno
        if isinstance(node, ast.Subscript) and _is_environ(node.value) and not isinstance(node.ctx, ast.Load):
            yield "write", node.lineno
        if isinstance(node, ast.Attribute) and node.attr in _CHANGES and _is_environ(node.value):
            yield "write", node.lineno
        if isinstance(node, ast.AugAssign) and _is_environ(node.target):
            yield "write", node.lineno


def found() -> list[tuple[str, str, int]]:
    return [
        (path.relative_to(PACKAGE).as_posix(), kind, line)
        for path in sorted(PACKAGE.rglob("*.py"))
        for kind, line in uses(path.read_text("utf-8"))
    ]


def test_process_environment_is_read_by_commands_alone() -> None:
    wrong = [
        f"{path}:{line}"
        for path, kind, line in found()
        if kind == "read" and not any(path == one or path.startswith(f"{one}/") for one in READERS)
    ]
    assert wrong == []


def test_process_environment_is_written_where_commands_begin_alone() -> None:
    # It removes what libpq would send to the server, whatever the connection says.
    assert [path for path, kind, _ in found() if kind == "write"] == ["cli/__init__.py"]


@pytest.mark.parametrize(
    ("source", "kinds"),
    [
        ("import os\nos.environ.get('A')", {"read"}),
        ("import os\nvalue = os.getenv('A')", {"read"}),
        ("from os import environ", {"read"}),
        ("import os\nos.environ['A'] = '1'", {"read", "write"}),
        ("import os\ndel os.environ['A']", {"read", "write"}),
        ("import os\nos.environ.update(a='1')", {"read", "write"}),
        ("import os\nos.environ |= {}", {"read", "write"}),
        ("import os\nos.putenv('A', '1')", {"write"}),
        ("environ = {}\nenviron['A'] = '1'", set()),
    ],
)
def test_uses_of_source_are_found(source: str, kinds: set[str]) -> None:
    assert {kind for kind, _ in uses(source)} == kinds
