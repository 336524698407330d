"""The ``recorded`` backend: plays a recorded result by the sha256 of the document."""

from __future__ import annotations

import json
import re
from pathlib import Path

from photo_worker.errors import ConfigurationError, RecordingMissing
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
        """Return the recorded answer, or raise ``RecordingMissing``."""
        # The hash becomes a file name, so it must be one.
        if not _SHA256.fullmatch(document.sha256):
            raise RecordingMissing(sha256=document.sha256)
        try:
            answer = json.loads((self._directory / f"{document.sha256}.json").read_bytes())
        except FileNotFoundError:
            raise RecordingMissing(sha256=document.sha256) from None
        return DetectedText(answer, str(answer["DetectDocumentTextModelVersion"]))
