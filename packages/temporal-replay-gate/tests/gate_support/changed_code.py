"""Changes of source code that are found in its syntax tree: layout, comments and quotes do not matter."""

from __future__ import annotations

import ast
from copy import deepcopy
from pathlib import Path
from typing import Any

KITCHEN = Path(__file__).with_name("kitchen.py")


def expression(code: str) -> ast.expr:
    """Return the syntax tree of an expression."""
    return ast.parse(code, mode="eval").body


def _nodes(code: str) -> list[Any]:
    """Return an expression, a keyword argument, or statements."""
    try:
        return [expression(code)]
    except SyntaxError:
        pass
    try:
        call = expression(f"call({code})")
    except SyntaxError:
        return list(ast.parse(code).body)
    return call.keywords if isinstance(call, ast.Call) else [call]


class _Replacer(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: list[Any]) -> None:
        self._old = ast.dump(old)
        self._new = new
        self.count = 0

    def visit(self, node: ast.AST) -> Any:
        if ast.dump(node) != self._old:
            return self.generic_visit(node)
        self.count += 1
        made = deepcopy(self._new)
        return made if isinstance(node, ast.stmt) else made[0]


def changed(source: str, old: str, new: str) -> str:
    """Return a module's source with the code ``old`` replaced by ``new`` wherever it is; it must be there.

    Both are one expression or one keyword argument, or ``old`` is one statement and ``new`` are statements.
    """
    (found,) = _nodes(old)
    made = list(ast.parse(new).body) if isinstance(found, ast.stmt) else _nodes(new)
    assert isinstance(found, ast.stmt) or len(made) == 1
    replacer = _Replacer(found, made)
    tree = replacer.visit(ast.parse(source))
    assert replacer.count, f"the module has no code {old!r}"
    return ast.unparse(ast.fix_missing_locations(tree))


def kitchen_washing(argument: str) -> ast.Module:
    """Return the kitchen with another argument of its first activity, which accepts an argument of any type."""
    tree = ast.parse(KITCHEN.read_text(encoding="utf-8"))
    (call,) = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and node.args and ast.dump(node.args[0]) == ast.dump(expression("wash"))
    ]
    call.args[1] = expression(argument)
    call.keywords.append(ast.keyword("result_type", expression("str")))
    (wash,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "wash"]
    wash.args.args[0].annotation = None
    return tree


def write(tree: ast.Module, path: Path) -> None:
    """Write a module."""
    path.write_text(ast.unparse(ast.fix_missing_locations(tree)) + "\n", encoding="utf-8")
