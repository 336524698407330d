"""The ``recorded`` backend: returns recorded responses, found by the sha256 of the document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from photo_worker.adapters.ocr.response_validation import response_defect
from photo_worker.contracts.keys import is_sha256
from photo_worker.errors import ConfigurationError, RecordingInvalid, RecordingMissing
from photo_worker.policies import OCR_RESULT_LIMIT_BYTES
from photo_worker.ports.object_store import DocumentRef
from photo_worker.ports.ocr import DetectedText

ENGINE = "recorded"

# How many files to try before a directory counts as one without a valid recording.
_LOOKED_INTO = 20


class RecordedBackend:
    """Reads ``{directory}/{sha256}.json``, each a DetectDocumentText response. Opens no document and no socket."""

    engine = ENGINE

    def __init__(self, directory: Path) -> None:
        """Raises ``ConfigurationError`` if the directory is missing."""
        if not directory.is_dir():
            raise ConfigurationError(problems=f"OCR_RECORDED_DIR: there is no directory {directory}")
        self._directory = directory

    def require_usable(self) -> None:
        """Raise ``ConfigurationError`` if the directory has no valid recording."""
        tried = [path for path in self._recordings() if is_sha256(path.stem)][:_LOOKED_INTO]
        if not tried:
            raise ConfigurationError(problems=f"OCR_RECORDED_DIR: there is no recorded response in {self._directory}")
        for path in tried:
            try:
                self._play(path)
            except RecordingInvalid as error:
                reason = error.message
            else:
                return
        raise ConfigurationError(problems=f"OCR_RECORDED_DIR: {reason}")

    def detect_text(self, document: DocumentRef) -> DetectedText:
        """Return the recorded response. Raises ``RecordingMissing`` or ``RecordingInvalid``.

        Raises ``ConfigurationError`` if the directory has no recording at all or cannot be read.
        """
        # The hash becomes a file name, so it must be one.
        if not is_sha256(document.sha256):
            raise RecordingMissing(sha256=document.sha256)
        try:
            return self._play(self._directory / f"{document.sha256}.json")
        except FileNotFoundError:
            if not any(is_sha256(path.stem) for path in self._recordings()):
                self.require_usable()
            raise RecordingMissing(sha256=document.sha256) from None

    def _recordings(self) -> list[Path]:
        try:
            return [path for path in self._directory.iterdir() if path.suffix == ".json"]
        except OSError as error:
            raise ConfigurationError(problems=f"OCR_RECORDED_DIR: {self._directory}: {error.strerror}") from error

    def _play(self, path: Path) -> DetectedText:
        try:
            response = _load(path)
        except FileNotFoundError:
            raise
        except PermissionError as error:
            raise ConfigurationError(problems=f"OCR_RECORDED_DIR: {path}: {error.strerror}") from error
        except (OSError, ValueError, RecursionError) as error:
            raise RecordingInvalid(path=str(path), reason=f"{error}") from error
        flaw = response_defect(response)
        if flaw:
            raise RecordingInvalid(path=str(path), reason=flaw)
        return DetectedText(response, response["DetectDocumentTextModelVersion"])


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        content = file.read(OCR_RESULT_LIMIT_BYTES + 1)
    if len(content) > OCR_RESULT_LIMIT_BYTES:
        raise ValueError(f"it has more than {OCR_RESULT_LIMIT_BYTES} bytes")
    return json.loads(content)
