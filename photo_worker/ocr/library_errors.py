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
from photo_worker.stack_errors import AddressUnusable, DataInUse, DataMismatch, DataUnwritable, ExtraMissing
from textract_local.errors import TextractLocalError

COUNTERPARTS: Mapping[str, type[PhotoWorkerError]] = {
    kind.code: kind
    for kind in (
        AddressUnusable,
        DataInUse,
        DataMismatch,
        DataUnwritable,
        DecoderUnavailable,
        DocumentProtected,
        DocumentTooCostly,
        DocumentTooLarge,
        EngineUnavailable,
        ExtraMissing,
        ImageTooLarge,
        OcrThrottled,
        UnreadableDocument,
        UnsupportedDocument,
    )
}


@contextmanager
def product_errors() -> Iterator[None]:
    """Raise the product's error in place of one of the library's.

    An error without a counterpart concerns what the product never asks for; it is left as it is.
    """
    try:
        yield
    except TextractLocalError as error:
        kind = COUNTERPARTS.get(error.code)
        if kind is None:
            raise
        # The command of the product that serves is the only one that needs the extra.
        added = {"command": "textract-emulator"} if kind is ExtraMissing else {}
        translated = kind(**added, **error.context)
        translated.wrong_use = error.wrong_use
        raise translated from error
