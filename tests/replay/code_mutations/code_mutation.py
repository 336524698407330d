"""A small change of a real workflow and the finding that the gate must report."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Literal

from tests.support.mutation import ROOT, Mutation, mutated

KITCHEN = "packages/temporal-replay-gate/tests/gate_support/kitchen.py"
IMAGE = "photo_worker/workflows/image.py"
# What the workflows share.
SUPPORT = "photo_worker/workflows/_support.py"

# The recorded run that reveals the change.
Shown = Literal["kitchen", "success", "failure", "cancellation"]


@dataclass(frozen=True)
class CodeMutation:
    """One mutation of a workflow; without one, the workflow itself."""

    name: str
    shown_by: Shown
    mutation: Mutation | None
    kind: Literal["replay", "drift"]
    says: str

    @property
    def source(self) -> str:
        """The file that is mutated."""
        if self.mutation is not None:
            return self.mutation.file
        return KITCHEN if self.shown_by == "kitchen" else IMAGE

    def text(self) -> str:
        """Return the mutated module; raises what ``mutated`` raises."""
        if self.mutation is None:
            return (ROOT / self.source).read_text(encoding="utf-8")
        return ast.unparse(mutated([self.mutation])[self.source]) + "\n"
