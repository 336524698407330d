"""Imports of the product with mutations: a process loads the changed trees in place of the files' code."""

from __future__ import annotations

import ast
import importlib.machinery
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import CodeType

from tests.support.broken_mutants import Breakage
from tests.support.mutation import ROOT, Mutation, mutated

_PACKAGES = ("photo_worker", "temporal_replay_gate", "textract_local")


def import_changed(
    edits: Sequence[Mutation], tell: Callable[[str], None] = lambda said: None
) -> tuple[set[str], Breakage]:
    """Make this process import the product with the edits; it must not have imported it before.

    Returns the set of the changed files that are imported, which grows, and the record of errors that mean that one
    of them cannot run; ``tell`` is called with a line for each of both. Raises ``MutationError``.
    """
    already = sorted(name for name in sys.modules if name.partition(".")[0] in _PACKAGES)
    if already:
        raise RuntimeError(f"a mutant of {already[0]} cannot be imported: the module itself has been")
    return _replaced(mutated(edits), tell)


def _replaced(trees: Mapping[str, ast.Module], tell: Callable[[str], None]) -> tuple[set[str], Breakage]:
    """Make every import of these files load the changed tree.

    Alembic loads migrations by path and Temporal's sandbox imports workflows again: both use this one method.
    """
    by_path = {str(ROOT / file): file for file in trees}
    breakage = Breakage(by_path, tell)
    imported: set[str] = set()
    unchanged = importlib.machinery.SourceFileLoader.get_code

    def get_code(self: importlib.machinery.SourceFileLoader, fullname: str) -> CodeType | None:
        file = by_path.get(str(Path(self.path).resolve()))
        if file is None:
            return unchanged(self, fullname)
        imported.add(file)
        tell(f"the mutant imports {file}")
        # Bypasses the cache of compiled files for reading and writing.
        return breakage.compiled(trees[file], str(ROOT / file))

    setattr(importlib.machinery.SourceFileLoader, "get_code", get_code)  # noqa: B010
    return imported, breakage
