"""The service's errors for what goes wrong when a page is read."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from textract_local.errors import (
    DocumentProtected,
    DocumentTooLarge,
    EngineFailed,
    EngineUnavailable,
    ImageTooLarge,
    TextractLocalError,
    UnreadableDocument,
    UnsupportedDocument,
)
from textract_local.server.failures import (
    BAD_DOCUMENT,
    DOCUMENT_TOO_LARGE,
    IMAGE_TOO_LARGE,
    INTERNAL_ERROR,
    UNSUPPORTED_DOCUMENT,
    ServiceError,
)
from textract_local.server.reading_parent import ReaderUnavailable

logger = logging.getLogger(__name__)

_ERRORS: Mapping[str, type[TextractLocalError]] = {
    kind.code: kind
    for kind in (
        UnsupportedDocument,
        UnreadableDocument,
        DocumentProtected,
        DocumentTooLarge,
        ImageTooLarge,
        EngineFailed,
        EngineUnavailable,
    )
}


def refusal_error(code: str, context: Mapping[str, Any]) -> ServiceError:
    """Return the real service's error for an error of the reader."""
    kind = _ERRORS.get(code)
    if kind is None:
        return defect_error(code, str(context))
    error = kind(**context)
    match error:
        case UnsupportedDocument():
            refusal = ServiceError(UNSUPPORTED_DOCUMENT, error.message)
            # The error has the real service's text. A job's message is not fixed, and the only place for details.
            refusal.status_message += f": {context['actual']}"
            return refusal
        case UnreadableDocument() | DocumentProtected():
            problem = context.get("reason") or f"it is protected by {context['by']}"
            return ServiceError(BAD_DOCUMENT, error.message, problem=problem)
        case DocumentTooLarge():
            size, limit = context["size_bytes"], context["limit_bytes"]
            return ServiceError(DOCUMENT_TOO_LARGE, error.message, size=f"{size} bytes", limit_bytes=limit)
        case ImageTooLarge():
            return ServiceError(IMAGE_TOO_LARGE, error.message, **context)
    logger.error("the reader failed [%s]: %s", error.code, error.message)
    return ServiceError(INTERNAL_ERROR, error.hint, problem=error.message)


def unavailable_error(error: ReaderUnavailable) -> ServiceError:
    """Return the error for calls while no process can read."""
    return ServiceError(INTERNAL_ERROR, error.hint, problem=error.problem)


def defect_error(kind: str, trace: str) -> ServiceError:
    """Log an unexpected exception of the reader, and return the error for the call."""
    logger.error("the reader has a defect: %s\n%s", kind, trace)
    return ServiceError(INTERNAL_ERROR, problem=f"The emulator has a defect: {kind}")
