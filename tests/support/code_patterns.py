"""Patterns of Python code: source whose syntax tree is compared with other code, without layout, comments and quotes.

``$name`` stands for any one name and for the same one wherever it is repeated; other placeholders stand for other
names. ``...`` stands for the rest of a body, or as the last argument for the rest of a call's arguments. A replacement
refers to both: ``$name`` to the name that was found, and ``...`` to the first, second and so on of what it stood for.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

_PLACEHOLDER = "_placeholder_"
_MARK = re.compile(r"\$(?=[A-Za-z_])")
# The context follows from the place, and the other two from the layout of the text.
_IGNORED = frozenset({"ctx", "kind", "type_comment"})


class PatternError(ValueError):
    """A text is no pattern, or a replacement does not fit its pattern."""


@dataclass
class Captures:
    """What the placeholders of a pattern stood for."""

    names: dict[str, str] = field(default_factory=dict)
    rests: list[tuple[list[Any], list[ast.keyword]]] = field(default_factory=list)

    def bind(self, placeholder: str, name: str) -> bool:
        """Let a placeholder stand for a name; return ``False`` if it, or the name, is taken."""
        bound = self.names.setdefault(placeholder, name) == name
        return bound and len(set(self.names.values())) == len(self.names)


@dataclass
class Place:
    """A part of a tree that equals a pattern: ``put`` replaces it."""

    found: list[ast.AST]
    captures: Captures
    put: Callable[[list[Any]], None]

    @property
    def line(self) -> int:
        """The line on which it begins."""
        return min(int(getattr(node, "lineno", 1)) for node in self.found)


@dataclass(frozen=True)
class Form:
    """A kind of code: how a text of this kind is completed to a module, and what of that is the text's own."""

    name: str
    whole: str
    may_be_empty: bool
    parts: Callable[[list[Any]], list[Any] | None]
    # The type of the parts, and the field of a tree that holds a list of them; any field if there is no name.
    type: type[ast.AST]
    field: str = ""

    def read(self, text: str) -> list[Any] | None:
        """Return the nodes of a text, or ``None`` if it is of another kind."""
        text = _MARK.sub(_PLACEHOLDER, textwrap.dedent(text).strip())
        if not text:
            return [] if self.may_be_empty else None
        try:
            return self.parts(ast.parse(self.whole.replace("CODE", text)).body)
        except SyntaxError:
            return None


def _keywords(body: list[Any]) -> list[Any] | None:
    (call,) = body
    return call.value.keywords if not call.value.args else None


def _items(body: list[Any]) -> list[Any] | None:
    (shown,) = body
    return list(zip(shown.value.keys, shown.value.values, strict=True)) if isinstance(shown.value, ast.Dict) else None


EXPRESSION = Form("expression", "(\nCODE\n)", False, lambda body: [body[0].value] if len(body) == 1 else None, ast.expr)
_FORMS = (
    EXPRESSION,
    Form("statements", "CODE", True, lambda body: body, ast.stmt),
    Form("keyword arguments", "_(\nCODE\n)", True, _keywords, ast.keyword),
    Form("dictionary items", "{\nCODE\n}", True, _items, ast.Dict),
    Form(
        "decorators",
        "CODE\ndef _(): pass",
        True,
        lambda body: body[0].decorator_list if len(body) == 1 else None,
        ast.expr,
        "decorator_list",
    ),
    Form(
        "handlers",
        "try:\n    pass\nCODE",
        False,
        lambda body: body[0].handlers if len(body) == 1 else None,
        ast.ExceptHandler,
        "handlers",
    ),
)


def forms(old: str, new: str) -> Iterator[tuple[list[Any], list[Any], Form]]:
    """Yield each kind that both texts can be, with their nodes. Raises ``PatternError`` if there is none."""
    read = [(form.read(old), form.read(new), form) for form in _FORMS]
    found = [(before, after, form) for before, after, form in read if before and after is not None]
    if not found:
        raise PatternError(f"the old and the new code are not of one kind:\n{old}\n->\n{new}")
    # An expression is a statement, too, and would be found twice.
    alone = found[0][2] is EXPRESSION
    yield from (each for each in found if not (alone and each[2].name == "statements"))


def find(pattern: list[Any], form: Form, root: ast.AST) -> Iterator[Place]:
    """Yield each part of a tree that equals a pattern of this kind."""
    for node in ast.walk(root):
        if form.name == "dictionary items":
            if isinstance(node, ast.Dict):
                yield from _find_items(pattern, node)
            continue
        for name, value in ast.iter_fields(node):
            if isinstance(value, list) and (form.field or name) == name:
                yield from _find_in_list(pattern, form, value)
            elif form is EXPRESSION and isinstance(value, ast.expr):
                captures = Captures()
                if _equal(pattern[0], value, captures):
                    yield Place([value], captures, lambda new, at=node, name=name: setattr(at, name, new[0]))  # type: ignore[misc]


def _find_in_list(pattern: list[Any], form: Form, within: list[Any]) -> Iterator[Place]:
    for start in range(len(within) - len(pattern) + 1):
        window = slice(start, start + len(pattern))
        captures = Captures()
        if not all(isinstance(each, form.type) for each in within[window]):
            continue
        if all(_equal(*pair, captures) for pair in zip(pattern, within[window], strict=True)):
            yield Place(within[window], captures, lambda new, at=window: within.__setitem__(at, new))  # type: ignore[misc]


def _find_items(pattern: list[Any], within: ast.Dict) -> Iterator[Place]:
    items = list(zip(within.keys, within.values, strict=True))
    for start in range(len(items) - len(pattern) + 1):
        window = slice(start, start + len(pattern))
        captures = Captures()
        if _equal([list(each) for each in pattern], [list(each) for each in items[window]], captures):

            def put(new: list[Any], at: slice = window) -> None:
                within.keys[at], within.values[at] = [key for key, _ in new], [value for _, value in new]

            yield Place([node for item in items[window] for node in item if node], captures, put)


def _equal(pattern: Any, found: Any, captures: Captures) -> bool:
    if type(pattern) is not type(found):
        return False
    if isinstance(pattern, list):
        return _equal_lists(pattern, found, captures)
    if isinstance(pattern, str) and pattern.startswith(_PLACEHOLDER):
        return captures.bind(pattern, found)
    if isinstance(pattern, ast.Call) and pattern.args and _is_rest(pattern.args[-1]) and not pattern.keywords:
        first = len(pattern.args) - 1
        captures.rests.append((found.args[first:], found.keywords))
        return _equal([pattern.func, *pattern.args[:-1]], [found.func, *found.args[:first]], captures)
    if not isinstance(pattern, ast.AST):
        return bool(pattern == found)
    names = [name for name in pattern._fields if name not in _IGNORED]
    return all(_equal(getattr(pattern, name, None), getattr(found, name, None), captures) for name in names)


def _equal_lists(pattern: list[Any], found: list[Any], captures: Captures) -> bool:
    if pattern and isinstance(pattern[-1], ast.Expr) and _is_rest(pattern[-1].value):
        last = len(pattern) - 1
        captures.rests.append((found[last:], []))
        pattern, found = pattern[:last], found[:last]
    return len(pattern) == len(found) and all(
        _equal(each, other, captures) for each, other in zip(pattern, found, strict=True)
    )


def _is_rest(node: Any) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


class Filling:
    """Fills a replacement with what was found, and gives it the position of what it replaces."""

    def __init__(self, place: Place) -> None:
        self._names = place.captures.names
        self._rests = iter(place.captures.rests)
        self._at = place.found[0]

    def fill(self, new: Any) -> Any:
        """Return the replacement, filled. Raises ``PatternError`` if it refers to what is not in the pattern."""
        if isinstance(new, list):
            return [filled for each in new for filled in self._filled_item(each)]
        if isinstance(new, tuple):
            return tuple(self.fill(each) for each in new)
        if isinstance(new, str) and new.startswith(_PLACEHOLDER):
            if new not in self._names:
                raise PatternError(f"the old code has no ${new.removeprefix(_PLACEHOLDER)}")
            return self._names[new]
        if not isinstance(new, ast.AST) or isinstance(new, ast.expr_context):
            return new
        if isinstance(new, ast.Call) and new.args and _is_rest(new.args[-1]) and not new.keywords:
            args, keywords = self._rest()
            new.func, new.args = self.fill(new.func), [*self.fill(new.args[:-1]), *args]
            new.keywords = keywords
        elif not isinstance(new, ast.Constant):
            for name, value in ast.iter_fields(new):
                setattr(new, name, self.fill(value))
        return ast.copy_location(new, self._at)

    def _filled_item(self, item: Any) -> list[Any]:
        if isinstance(item, ast.Expr) and _is_rest(item.value):
            return self._rest()[0]
        return [self.fill(item)]

    def _rest(self) -> tuple[list[Any], list[ast.keyword]]:
        for rest in self._rests:
            return rest
        raise PatternError("the new code has more ... than the old code")
