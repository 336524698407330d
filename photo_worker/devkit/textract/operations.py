"""The operations: what is answered for real, and what says that it is not emulated."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from photo_worker.devkit.textract.codecs import CBOR, JSON, Codec
from photo_worker.devkit.textract.counters import Counters
from photo_worker.devkit.textract.documents import DocumentSource
from photo_worker.devkit.textract.failures import (
    DOCUMENT_TOO_LARGE,
    INVALID_PARAMETER,
    NOT_EMULATED,
    Refusal,
)
from photo_worker.devkit.textract.model import TextractModel, Violation
from photo_worker.devkit.textract.recognition import Recogniser
from photo_worker.policies import SYNC_OCR_LIMIT_BYTES


@dataclass(frozen=True)
class Call:
    """One call whose input is valid. ``counters`` are those of the moment it arrived."""

    operation: str
    given: Mapping[str, Any]
    counters: Counters
    codec: Codec = JSON


class Operations:
    """All operations of the service's model. A call's answer is the JSON that goes over the wire."""

    def __init__(self, model: TextractModel, documents: DocumentSource, recogniser: Recogniser) -> None:
        self._model = model
        self._documents = documents
        self._recogniser = recogniser
        self._emulated: Mapping[str, Callable[[Call], Awaitable[bytes]]] = {
            "DetectDocumentText": self._detect_document_text,
        }

    @property
    def emulated(self) -> tuple[str, ...]:
        """The names of those that are answered for real."""
        return tuple(self._emulated)

    def read_request(self, operation: str, body: object, *, binary: bool) -> dict[str, Any]:
        """Return a call's decoded input; raises ``WrongType``, or ``Refusal`` where a constraint is broken."""
        given, violations = self._model.read_request(operation, body, binary=binary)
        if violations:
            raise self._refusal(operation, violations)
        return given

    def oversized(self, operation: str, size: str) -> Refusal:
        """Return the error for a document, or a request, that is too large for an operation."""
        if self._model.lists_error(operation, DOCUMENT_TOO_LARGE.code):
            return Refusal(DOCUMENT_TOO_LARGE, size=size, limit_bytes=SYNC_OCR_LIMIT_BYTES)
        return Refusal(INVALID_PARAMETER, f"the request has {size}")

    async def answer(self, call: Call) -> bytes:
        """Carry a call out, or raise ``Refusal``; what is not emulated says so."""
        handler = self._emulated.get(call.operation)
        if handler is None:
            raise Refusal(NOT_EMULATED, operation=call.operation, emulated=", ".join(self._emulated))
        return await handler(call)

    def _refusal(self, operation: str, violations: list[Violation]) -> Refusal:
        # Which of the two codes the real service gives for too many inline bytes is not known.
        if all(violation.oversized_blob for violation in violations):
            return self.oversized(operation, "too many bytes")
        return Refusal(INVALID_PARAMETER, "; ".join(map(str, violations)))

    async def _detect_document_text(self, call: Call) -> bytes:
        document = await self._documents.get(call.given["Document"])
        call.counters.requested(document.sha256)
        answer = await self._recogniser.read(document, call.counters)
        call.counters.billed(document.sha256)
        return CBOR.dump(json.loads(answer)) if call.codec is CBOR else answer
