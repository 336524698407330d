"""Handles the operations, and refuses those that are not emulated."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textract_local.limits import SYNC_OCR_LIMIT_BYTES
from textract_local.reader.analysis.request import Analysis
from textract_local.server.admission import AdmissionLimiter
from textract_local.server.codecs import JSON, Codec
from textract_local.server.constraints import check_input
from textract_local.server.counters import Counters
from textract_local.server.documents import SYNC, Document, DocumentSource
from textract_local.server.failures import (
    DOCUMENT_TOO_LARGE,
    INTERNAL_ERROR,
    INVALID_JOB_ID,
    INVALID_PARAMETER,
    NOT_EMULATED,
    ServiceError,
)
from textract_local.server.model import TextractModel, Violation
from textract_local.server.recognition import PageRecogniser
from textract_local.server.response_cache import CacheKey, ResponseCache

if TYPE_CHECKING:
    from textract_local.server.jobs import Jobs

# O: the value, and the order of the members, in all recordings.
MODEL_VERSION = b"1.0"
_DETECTED, _ANALYSED = b"DetectDocumentTextModelVersion", b"AnalyzeDocumentModelVersion"
_PAGE = b'{"DocumentMetadata":{"Pages":1},"Blocks":%b,"%b":"%b"}'

SYNCHRONOUS = ("DetectDocumentText", "AnalyzeDocument")
"""The operations that read a document while the client waits."""

# Responses with more blocks are checked and encoded in a thread.
_FEW_BLOCKS = 50


@dataclass(frozen=True)
class Call:
    """One call with valid input. ``counters`` are those that were current when it arrived.

    ``digest`` is that of the request. Operations that read, or call other services, must respond before ``deadline``,
    by the event loop's clock.
    """

    operation: str
    given: Mapping[str, Any]
    counters: Counters
    codec: Codec
    digest: bytes
    deadline: float | None = None


class Operations:
    """All operations of the service's model. Responses are encoded bytes."""

    def __init__(self, model: TextractModel, documents: DocumentSource, recogniser: PageRecogniser, jobs: Jobs) -> None:
        self._model = model
        self._documents = documents
        self._recogniser = recogniser
        self._jobs = jobs
        self._responses = ResponseCache()
        self._waiting = AdmissionLimiter()
        self._emulated: Mapping[str, Callable[[Call], Awaitable[bytes]]] = {
            **dict.fromkeys(SYNCHRONOUS, self._read),
            "StartDocumentTextDetection": self._start,
            "GetDocumentTextDetection": self._get,
            "StartDocumentAnalysis": self._start,
            "GetDocumentAnalysis": self._get,
        }

    @property
    def emulated(self) -> tuple[str, ...]:
        """The names of the emulated operations."""
        return tuple(self._emulated)

    def read_request(self, operation: str, body: object, *, binary: bool) -> dict[str, Any]:
        """Return a call's decoded input. Raises ``WrongType``, or ``ServiceError`` if it breaks a constraint."""
        given, violations = self._model.read_request(operation, body, binary=binary)
        if violations:
            raise self._refusal(operation, violations)
        check_input(operation, given)
        return given

    def oversized(self, operation: str, size: str) -> ServiceError:
        """Return the error for a document or request that is too large for an operation."""
        if self._model.lists_error(operation, DOCUMENT_TOO_LARGE.code):
            return ServiceError(DOCUMENT_TOO_LARGE, size=size, limit_bytes=SYNC_OCR_LIMIT_BYTES)
        return ServiceError(INVALID_PARAMETER, f"the request has {size}")

    def known(self, digest: bytes, counters: Counters) -> bytes | None:
        """Return the cached response to an identical earlier request with an inline document, or None."""
        key = self._responses.key(digest)
        # If the engine was replaced meanwhile, the document is read again.
        if key is None or key.engine != self._recogniser.identity:
            return None
        response = self._responses.get(key)
        if response is not None:
            counters.requested(key.sha256)
            counters.billed(key.sha256)
        return response

    async def response(self, call: Call) -> bytes:
        """Return the encoded response. Raises ``ServiceError``, also for operations that are not emulated."""
        handler = self._emulated.get(call.operation)
        if handler is None:
            raise ServiceError(NOT_EMULATED, operation=call.operation, emulated=", ".join(self._emulated))
        return await handler(call)

    def forget(self) -> None:
        """Clear the response cache."""
        self._responses.forget()

    def _refusal(self, operation: str, violations: list[Violation]) -> ServiceError:
        # Which of the two codes the real service returns for too many inline bytes is not known.
        if all(violation.oversized_blob for violation in violations):
            return self.oversized(operation, "too many bytes")
        said = "; ".join(map(str, violations))
        # Nor is the code for a malformed job id (?): clients expect this one if the model lists it.
        if all(violation.path == "JobId" and violation.rule != "required" for violation in violations) and (
            self._model.lists_error(operation, INVALID_JOB_ID.code)
        ):
            return ServiceError(INVALID_JOB_ID, said)
        return ServiceError(INVALID_PARAMETER, said)

    async def _read(self, call: Call) -> bytes:
        """Handle DetectDocumentText and AnalyzeDocument."""
        analysis = Analysis.of(call.given) if call.operation == "AnalyzeDocument" else None
        with self._waiting.slot() as slot:
            document = await self._document(call)
            slot.reserve(document.size)
            call.counters.requested(document.sha256)
            response = await self._page(call, document, analysis)
        call.counters.billed(document.sha256)
        return response

    async def _document(self, call: Call) -> Document:
        try:
            async with asyncio.timeout_at(call.deadline):
                return await self._documents.get(call.given["Document"], SYNC)
        except TimeoutError as error:
            raise ServiceError(INTERNAL_ERROR, "the call has no more time", problem="S3 is too slow") from error

    async def _page(self, call: Call, document: Document, analysis: Analysis | None) -> bytes:
        key = self._cache_key(call, document, analysis)
        known = self._responses.get(key)
        if known is not None:
            self._remember(call, key, known)
            return known
        # The recogniser has checked the blocks.
        blocks = await self._recogniser.page_json(
            document, 1, analysis, limits=SYNC, counters=call.counters, urgent=True, deadline=call.deadline
        )
        version = _DETECTED if analysis is None else _ANALYSED
        response = _PAGE % (blocks, version, MODEL_VERSION)
        if call.codec is not JSON:
            response = await asyncio.to_thread(_translated, response, call.codec)
        # The key is made again: the engine's version is known only after the first page.
        self._remember(call, self._cache_key(call, document, analysis), response)
        return response

    def _cache_key(self, call: Call, document: Document, analysis: Analysis | None) -> CacheKey:
        return CacheKey(call.operation, document.sha256, self._recogniser.identity, analysis, call.codec.name)

    def _remember(self, call: Call, key: CacheKey, response: bytes) -> None:
        self._responses.put(key, response)
        # An S3 object may change, an inline document cannot.
        if "Bytes" in call.given["Document"]:
            self._responses.asked(call.digest, key)

    async def _start(self, call: Call) -> bytes:
        try:
            async with asyncio.timeout_at(call.deadline):
                response = await self._jobs.start(call.operation, call.given, call.counters)
        except TimeoutError as error:
            raise ServiceError(INTERNAL_ERROR, "the call has no more time", problem="S3 or SNS is too slow") from error
        return await self._encoded(call, response)

    async def _get(self, call: Call) -> bytes:
        return await self._encoded(call, await self._jobs.get(call.operation, call.given))

    async def _encoded(self, call: Call, response: Mapping[str, Any]) -> bytes:
        if len(response.get("Blocks", ())) > _FEW_BLOCKS:
            return await asyncio.to_thread(self._encode, call, response)
        return self._encode(call, response)

    def _encode(self, call: Call, response: Mapping[str, Any]) -> bytes:
        self._model.check_response(call.operation, response)
        return call.codec.dump(response)


def _translated(response: bytes, codec: Codec) -> bytes:
    return codec.dump(json.loads(response))
