"""Translates the errors of textract-local into this product's: the same codes and messages, with other hints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from photo_worker.errors import (
    DecoderUnavailable,
    DocumentProtected,
    DocumentTooCostly,
    DocumentTooLarge,
    EngineUnavailable,
    ImageTooLarge,
    OcrThrottled,
    PhotoWorkerError,
    UnreadableDocument,
    UnsupportedDocument,
)
from textract_local.errors import TextractLocalError

COUNTERPARTS: Mapping[str, type[PhotoWorkerError]] = {
    kind.code: kind
    for kind in (
        DecoderUnavailable,
        DocumentProtected,
        DocumentTooCostly,
        DocumentTooLarge,
        EngineUnavailable,
        ImageTooLarge,
        OcrThrottled,
        UnreadableDocument,
        UnsupportedDocument,
    )
}


@contextmanager
def product_errors(counterparts: Mapping[str, type[PhotoWorkerError]] = COUNTERPARTS) -> Iterator[None]:
    """Raise the product's error of the same code in place of one of the library's.

    An error without a counterpart concerns what the product never asks for; it is left as it is.
    """
    try:
        yield
    except TextractLocalError as error:
        kind = counterparts.get(error.code)
        if kind is None:
            raise
        translated = kind(**error.context)
        translated.wrong_use = error.wrong_use
        raise translated from error
