"""Distinguish a mutant without a safeguard from one that cannot run, whose failed test proves nothing.

Product code turns unexpected errors into a job's error code, so that a misspelt name may fail a test without a trace.
Therefore each function of a changed module reports such errors when they leave it.
"""

from __future__ import annotations

import ast
import builtins
import copy
from collections.abc import Callable, Collection
from pathlib import Path
from types import CodeType
from typing import TypeVar

# Errors of a replacement that does not fit in its place; a SyntaxError comes from a module that it imports.
BROKEN = (ImportError, NameError, SyntaxError, AttributeError)

_TOLD = "_mutant_is_broken"
_ERROR = "_mutant_error"

_Function = TypeVar("_Function", ast.FunctionDef, ast.AsyncFunctionDef)

# Its AttributeError is an ordinary result.
_RESPONSES = frozenset({"__getattr__", "__getattribute__"})


class Breakage:
    """Records the errors that changed modules raise themselves."""

    def __init__(self, paths: Collection[str], tell: Callable[[str], None] = lambda said: None) -> None:
        """``paths`` are those of the changed modules; ``tell`` is called with each new error."""
        self._paths = frozenset(paths)
        self._tell = tell
        self.found: list[str] = []
        # A name that exists in every module, including those in Temporal's sandbox.
        setattr(builtins, _TOLD, self._note)

    def compiled(self, tree: ast.Module, path: str) -> CodeType:
        """Return a module's code in which every function reports errors that a mutant must not have."""
        # A module may be imported again, in Temporal's sandbox for example.
        telling = _Telling().visit(copy.deepcopy(tree))
        return compile(ast.fix_missing_locations(telling), path, "exec", dont_inherit=True)

    def _note(self, error: BaseException) -> None:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        if trace is None or trace.tb_frame.f_code.co_filename not in self._paths:
            # Another module raises it; this one only called that.
            return
        where = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        said = f"the mutant itself is broken: {type(error).__name__}: {error} ({where})"
        if said not in self.found:
            self.found.append(said)
            self._tell(said)


class _Telling(ast.NodeTransformer):
    """Wraps the body of each function in a ``try`` that reports an error and raises it again."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        return self._wrapped(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AsyncFunctionDef:
        return self._wrapped(node)

    def _wrapped(self, node: _Function) -> _Function:
        self.generic_visit(node)
        first = int(ast.get_docstring(node, clean=False) is not None)
        body = node.body[first:]
        if not body or node.name in _RESPONSES:
            return node
        kinds = ", ".join(kind.__name__ for kind in BROKEN)
        (telling,) = ast.parse(f"try: pass\nexcept ({kinds}) as {_ERROR}:\n    {_TOLD}({_ERROR})\n    raise").body
        assert isinstance(telling, ast.Try)
        telling.body = body
        for part in ast.walk(telling.handlers[0]):
            ast.copy_location(part, body[0])
        node.body[first:] = [ast.copy_location(telling, body[0])]
        return node
