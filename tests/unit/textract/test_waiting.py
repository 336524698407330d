"""How much may be under way at once."""

from __future__ import annotations

from contextlib import ExitStack

from photo_worker.devkit.textract.failures import PROVISIONED_THROUGHPUT_EXCEEDED, Refusal
from photo_worker.devkit.textract.waiting import Waiting


def refuses(waiting: Waiting, size: int) -> bool:
    try:
        with waiting.place() as place:
            place.hold(size)
    except Refusal as refusal:
        return refusal.failure is PROVISIONED_THROUGHPUT_EXCEEDED
    return False


def test_documents_are_counted_for_as_long_as_they_wait() -> None:
    waiting = Waiting(most_documents=2)
    with waiting.place(), ExitStack() as second:
        second.enter_context(waiting.place())
        assert refuses(waiting, 1)
        second.close()
        assert not refuses(waiting, 1)
    assert waiting == Waiting(most_documents=2)


def test_bytes_are_counted_for_as_long_as_they_wait() -> None:
    waiting = Waiting(most_bytes=100)
    with waiting.place() as first, ExitStack() as others:
        first.hold(60)
        others.enter_context(waiting.place()).hold(40)
        assert refuses(waiting, 1)
        others.close()
        assert not refuses(waiting, 40)
        assert refuses(waiting, 41)
    assert waiting == Waiting(most_bytes=100)


def test_a_document_alone_has_room_whatever_its_size() -> None:
    waiting = Waiting(most_bytes=100)
    assert not refuses(waiting, 101)


def test_a_call_that_is_refused_gives_its_place_back() -> None:
    waiting = Waiting(most_bytes=100)
    with waiting.place() as first:
        first.hold(60)
        assert refuses(waiting, 60)
        assert (waiting.documents, waiting.size) == (1, 60)
