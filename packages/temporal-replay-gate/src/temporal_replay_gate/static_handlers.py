"""Finds the signal handlers that workflow code sets while it runs, beside those of its decorators."""

from __future__ import annotations

import ast
from collections.abc import Mapping

# The functions of temporalio.workflow that set the handler of one signal, and of all others.
_ONE, _EVERY = "set_signal_handler", "set_dynamic_signal_handler"


def handlers_set_in(root: ast.AST, imports: Mapping[str, str]) -> set[str | None]:
    """Return the names of the signals for which a handler is set in ``root``; None stands for every name.

    ``imports`` maps the names that the module imports to their dotted names.
    """
    found: set[str | None] = set()
    called: set[int] = set()
    for node in ast.walk(root):
        # A call comes before the name that it calls.
        if isinstance(node, ast.Call) and (name := _name(node.func, imports)) in {_ONE, _EVERY}:
            called.add(id(node.func))
            found.add(_signal(node) if name == _ONE else None)
        elif id(node) not in called and _name(node, imports) in {_ONE, _EVERY}:
            found.add(None)
    return found


def _name(node: ast.AST, imports: Mapping[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return imports.get(node.id, node.id).rpartition(".")[2]
    return node.attr if isinstance(node, ast.Attribute) else None


def _signal(call: ast.Call) -> str | None:
    given = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg == "name")]
    value = getattr(given[0], "value", None) if given else None
    return value if isinstance(value, str) else None
