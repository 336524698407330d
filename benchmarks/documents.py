"""The documents on which OCR is measured, and their rotation.

``fixtures/`` has exactly known text. The truth set has documents with the responses of the real
Textract; it is not part of this repository and is found next to it, or by ``PHOTO_WORKER_TRUTH``.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from scripts.fixture_render import turn

ROOT = Path(__file__).resolve().parent.parent
ANGLES = (0, 90, 180, 270, 5)


@dataclass(frozen=True)
class TruthDocument:
    """A document and the real Textract's response to it."""

    name: str
    content: bytes
    response: Mapping[str, Any]


@dataclass(frozen=True)
class Fixture:
    """A photo of this project and the text in it; ``rotation`` in degrees clockwise."""

    name: str
    content: bytes
    content_type: str
    lines: tuple[str, ...]
    words: tuple[str, ...]
    tags: frozenset[str]
    rotation: int
    min_word_recall: float

    def at(self, angle: int) -> bytes | None:
        """Return the photo with its text rotated by ``angle`` degrees in total, or None if that is impossible.

        Right angles are lossless; others are bicubic on white. A photo that is skewed already is
        only used as it is, and a PDF is not rotated.
        """
        if angle == self.rotation:
            return self.content
        if self.rotation % 90 or self.content_type == "application/pdf":
            return None
        return turned(self.content, angle - self.rotation)


# The reason for skipping a test that needs the truth set.
NO_TRUTH = (
    "recorded answers of the real Textract are not part of this repository; PHOTO_WORKER_TRUTH names a folder of them"
)


def truth_directory() -> Path | None:
    """Return the directory of the truth set, or None if there is none."""
    directory = Path(os.environ.get("PHOTO_WORKER_TRUTH") or ROOT.parent / "shared" / "truth")
    return directory if (directory / "index.json").is_file() else None


def truth_documents() -> list[TruthDocument]:
    """Return the truth set; empty if there is none."""
    directory = truth_directory()
    if directory is None:
        return []
    documents = []
    for entry in json.loads((directory / "index.json").read_text("utf-8")):
        recorded = next(name for name in entry["files"] if name.endswith(".json"))
        document = next(name for name in entry["files"] if name != recorded)
        response = json.loads((directory / recorded).read_text("utf-8"))
        documents.append(TruthDocument(entry["name"], (directory / document).read_bytes(), response))
    return documents


def fixtures() -> list[Fixture]:
    """Return the project's own photos."""
    directory = ROOT / "fixtures"
    return [
        Fixture(
            name=entry["name"],
            content=(directory / entry["file"]).read_bytes(),
            content_type=entry["content_type"],
            lines=tuple(entry["lines"]),
            words=tuple(entry["words"]),
            tags=frozenset(entry["tags"]),
            rotation=entry["rotation"],
            min_word_recall=entry["expected"]["min_word_recall"],
        )
        for entry in json.loads((directory / "index.json").read_text("utf-8"))["fixtures"]
    ]


def turned(content: bytes, degrees: float) -> bytes:
    """Return an image as PNG with its EXIF orientation applied, then rotated clockwise."""
    with Image.open(io.BytesIO(content)) as stored:
        image = turn(ImageOps.exif_transpose(stored).convert("RGB"), degrees)
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()
