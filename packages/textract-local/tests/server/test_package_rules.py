"""Rules for the emulator's package as a whole."""

from __future__ import annotations

import string

import pytest

from textract_local.server.counters import Counters
from textract_local.server.failures import FAILURES, Basis, ErrorResponse
from textract_local.server.model import TextractModel

MODEL = TextractModel()


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: f"{failure.code}-{failure.message[:20]}")
def test_failures_are_modelled_or_marked(failure: ErrorResponse) -> None:
    modelled = any(MODEL.lists_error(operation, failure.code) for operation in MODEL.operations)
    assert modelled == (failure.code_basis in {Basis.DOCUMENTED, Basis.UNKNOWN})
    fields = [field for _, field, _, _ in string.Formatter().parse(failure.message) if field is not None]
    if failure.message_basis is Basis.OBSERVED:
        assert fields == []
    assert failure.status in {400, 403, 404, 405, 500}


def test_counters_forget_oldest_documents_and_count_them() -> None:
    counters = Counters(most_documents=2)
    for sha256 in ("a", "b", "a", "c"):
        counters.requested(sha256)
    shown = counters.shown()
    assert (sorted(shown["documents"]), shown["documents_forgotten"]) == (["b", "c"], 1)
