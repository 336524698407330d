"""Limits on concurrent calls and the bytes of their documents."""

from __future__ import annotations

from contextlib import ExitStack

from textract_local.server.admission import AdmissionLimiter
from textract_local.server.failures import PROVISIONED_THROUGHPUT_EXCEEDED, ServiceError


def refuses(waiting: AdmissionLimiter, size: int) -> bool:
    try:
        with waiting.slot() as slot:
            slot.reserve(size)
    except ServiceError as refusal:
        return refusal.failure is PROVISIONED_THROUGHPUT_EXCEEDED
    return False


def test_admission_counts_documents_until_slot_ends() -> None:
    waiting = AdmissionLimiter(most_documents=2)
    with waiting.slot(), ExitStack() as second:
        second.enter_context(waiting.slot())
        assert refuses(waiting, 1)
        second.close()
        assert not refuses(waiting, 1)
    assert waiting == AdmissionLimiter(most_documents=2)


def test_admission_counts_bytes_until_slot_ends() -> None:
    waiting = AdmissionLimiter(most_bytes=100)
    with waiting.slot() as first, ExitStack() as others:
        first.reserve(60)
        others.enter_context(waiting.slot()).reserve(40)
        assert refuses(waiting, 1)
        others.close()
        assert not refuses(waiting, 40)
        assert refuses(waiting, 41)
    assert waiting == AdmissionLimiter(most_bytes=100)


def test_admission_single_document_of_any_size_is_admitted() -> None:
    waiting = AdmissionLimiter(most_bytes=100)
    assert not refuses(waiting, 101)


def test_admission_refused_call_releases_slot() -> None:
    waiting = AdmissionLimiter(most_bytes=100)
    with waiting.slot() as first:
        first.reserve(60)
        assert refuses(waiting, 60)
        assert (waiting.documents, waiting.size) == (1, 60)
