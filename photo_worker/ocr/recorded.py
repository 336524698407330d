"""The ``recorded`` backend: plays a recorded result by the sha256 of the document."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from photo_worker.errors import ConfigurationError, RecordingInvalid, RecordingMissing
from photo_worker.ocr.answers import flaw_of
from photo_worker.policies import OCR_RESULT_LIMIT_BYTES
from photo_worker.ports import DetectedText, DocumentRef

ENGINE = "recorded"

_SHA256 = re.compile(r"[0-9a-f]{64}")


class RecordedBackend:
    """Reads ``{directory}/{sha256}.json``, each a DetectDocumentText answer. Opens no document and no socket."""

    engine = ENGINE

    def __init__(self, directory: Path) -> None:
        """Raises ``ConfigurationError`` where the directory is missing."""
        if not directory.is_dir():
            raise ConfigurationError(problems=f"OCR_RECORDED_DIR: there is no directory {directory}")
        self._directory = directory

    def detect_text(self, document: DocumentRef) -> DetectedText:
        """Return the recorded answer. Raises ``RecordingMissing`` or ``RecordingInvalid``."""
        # The hash becomes a file name, so it must be one.
        if not _SHA256.fullmatch(document.sha256):
            raise RecordingMissing(sha256=document.sha256)
        path = self._directory / f"{document.sha256}.json"
        try:
            answer = _load(path)
        except FileNotFoundError:
            raise RecordingMissing(sha256=document.sha256) from None
        except (OSError, ValueError, RecursionError) as error:
            raise RecordingInvalid(path=str(path), reason=f"{error}") from error
        flaw = flaw_of(answer)
        if flaw:
            raise RecordingInvalid(path=str(path), reason=flaw)
        return DetectedText(answer, answer["DetectDocumentTextModelVersion"])


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        content = file.read(OCR_RESULT_LIMIT_BYTES + 1)
    if len(content) > OCR_RESULT_LIMIT_BYTES:
        raise ValueError(f"it has more than {OCR_RESULT_LIMIT_BYTES} bytes")
    return json.loads(content)
