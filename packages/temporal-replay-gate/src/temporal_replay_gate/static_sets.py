"""Finds code that depends on the order of a set, which differs from process to process.

Sets are recognised by syntax: a set display, ``set(...)``, set operators and methods, and names that are
assigned from these or annotated as sets. ``sorted``, ``len``, ``in``, ``min``, ``max``, ``sum``, ``any`` and
``all`` do not depend on the order.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

_MAKERS = {"set", "frozenset"}
_TYPES = {"set", "frozenset", "Set", "AbstractSet", "FrozenSet", "MutableSet"}
_SET_METHODS = {"union", "intersection", "difference", "symmetric_difference", "copy"}
_OPERATORS = (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)
# Functions whose result depends on the order of their argument.
_ORDERED = {"list", "tuple", "iter", "enumerate", "zip", "map", "filter", "reversed", "next", "dict", "repr", "str"}
_ORDERLESS = {"sorted", "len", "min", "max", "sum", "any", "all", *_MAKERS}
_ORDERED_METHODS = {"join", "extend", "fromkeys", "gather"}


@dataclass(frozen=True)
class SetNames:
    """Names and attributes of ``self`` that hold sets, and functions that return them."""

    names: frozenset[str] = frozenset()
    attributes: frozenset[str] = frozenset()
    makers: frozenset[str] = frozenset(_MAKERS)

    @classmethod
    def of_module(cls, definitions: Mapping[str, ast.stmt]) -> SetNames:
        """Return the sets, and the functions that return sets, that a module defines at its top level."""
        names: set[str] = set()
        makers = set(_MAKERS)
        empty = cls()
        for name, node in definitions.items():
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _is_set_type(node.returns):
                makers.add(name)
            for _, value, annotation in _assignments(node):
                if _is_set_type(annotation) or (value is not None and is_set(value, empty)):
                    names.add(name)
        return cls(names=frozenset(names), makers=frozenset(makers))

    def of_class(self, node: ast.ClassDef) -> SetNames:
        """Add the attributes of a class that hold sets, by assignment or annotation, and methods that return sets."""
        attributes: set[str] = set()
        for inner in ast.walk(node):
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and _is_set_type(inner.returns):
                attributes.add(inner.name)
            for target, value, annotation in _assignments(inner):
                if not (_is_set_type(annotation) or (value is not None and is_set(value, self))):
                    continue
                if isinstance(target, ast.Attribute):
                    attributes.add(target.attr)
                elif isinstance(target, ast.Name) and inner in node.body:
                    attributes.add(target.id)
        return replace(self, attributes=frozenset(attributes))

    def within(self, function: ast.FunctionDef | ast.AsyncFunctionDef, local: frozenset[str]) -> SetNames:
        """Add the arguments and variables of a function that hold sets; ``local`` are all names that it binds."""
        outer = self.names - local
        arguments = (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
        names = {argument.arg for argument in arguments if _is_set_type(argument.annotation)}
        # A variable assigned from another one is known only after that one, so repeat until nothing is added.
        while True:
            known = replace(self, names=frozenset(outer | names))
            added = {
                target.id
                for inner in ast.walk(function)
                for target, value, annotation in _assignments(inner)
                if isinstance(target, ast.Name)
                and (_is_set_type(annotation) or (value is not None and is_set(value, known)))
            }
            if added <= known.names:
                return known
            names |= added


def is_set(node: ast.expr, sets: SetNames) -> bool:
    """Tell whether an expression is a set, as far as its syntax shows."""
    match node:
        case ast.Set() | ast.SetComp():
            found = True
        case ast.Name(id=name):
            found = name in sets.names
        case ast.Attribute(value=ast.Name(id="self"), attr=name):
            found = name in sets.attributes
        case ast.Call(func=ast.Name(id=name)):
            found = name in sets.makers
        case ast.Call(func=ast.Attribute(value=value, attr=name) as method):
            found = is_set(method, sets) or (name in _SET_METHODS and is_set(value, sets))
        case ast.BinOp(left=left, op=operator, right=right) if isinstance(operator, _OPERATORS):
            found = any(is_set(side, sets) or _is_keys(side) for side in (left, right))
        case ast.IfExp(body=body, orelse=other):
            found = is_set(body, sets) or is_set(other, sets)
        case _:
            found = False
    return found


def without_order(root: ast.AST) -> frozenset[int]:
    """Return the ``id()`` of each argument of a function that ignores the order of its argument."""
    return frozenset(
        id(argument)
        for node in ast.walk(root)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _ORDERLESS
        for argument in node.args
    )


def ordered_uses(node: ast.AST, sets: SetNames, exempt: frozenset[int]) -> Iterator[str]:
    """Yield a description of each use of a set's order in one node, except for comprehensions in ``exempt``."""
    if isinstance(node, ast.For | ast.AsyncFor) and is_set(node.iter, sets):
        yield f"a loop over the set {_shown(node.iter)}"
    elif isinstance(node, ast.ListComp | ast.DictComp | ast.GeneratorExp):
        for generator in node.generators:
            if is_set(generator.iter, sets) and id(node) not in exempt:
                yield f"a comprehension over the set {_shown(generator.iter)}"
    elif isinstance(node, ast.Starred) and is_set(node.value, sets):
        yield f"the set {_shown(node.value)} unpacked"
    elif isinstance(node, ast.Assign) and is_set(node.value, sets):
        if any(isinstance(target, ast.Tuple | ast.List) for target in node.targets):
            yield f"the set {_shown(node.value)} unpacked"
    elif isinstance(node, ast.Call):
        yield from _ordered_call(node, sets)


def _ordered_call(node: ast.Call, sets: SetNames) -> Iterator[str]:
    function = node.func
    name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
    ordered = name in (_ORDERED if isinstance(function, ast.Name) else _ORDERED_METHODS)
    if ordered:
        for argument in node.args:
            if is_set(argument, sets):
                yield f"{name}() of the set {_shown(argument)}"
    if isinstance(function, ast.Attribute) and function.attr == "pop" and is_set(function.value, sets):
        yield f"pop() from the set {_shown(function.value)}"


def _assignments(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | None, ast.expr | None]]:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield target, node.value, None
    elif isinstance(node, ast.AnnAssign):
        yield node.target, node.value, node.annotation
    elif isinstance(node, ast.NamedExpr):
        yield node.target, node.value, None


def _is_set_type(annotation: ast.expr | None) -> bool:
    if annotation is None:
        return False
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return annotation.value.partition("[")[0].rpartition(".")[2] in _TYPES
    base = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    return (base.id if isinstance(base, ast.Name) else getattr(base, "attr", "")) in _TYPES


def _is_keys(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in {"keys", "items"}


def _shown(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 40 else text[:37] + "..."
