"""Peak memory of the process that opens a document: below 1 GB, whatever the document is or claims to be."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from photo_worker import media
from photo_worker.policies import CONVERTED_LIMIT_BYTES, IMAGE_PIXEL_LIMIT, WEBP_PIXEL_LIMIT
from tests.support import heif
from tests.support.documents import encoded

LIMIT_MB = 1000
# Memory of Python and the libraries without the document.
SMALL_MB = 200

# Runs in a separate process whose only child is the product's.
MEASURE = """
import io, json, resource, sys
from PIL import Image
from photo_worker.adapters.documents.process import ProcessDecoder
from photo_worker.errors import PhotoWorkerError
Image.MAX_IMAGE_PIXELS = None
with open(sys.argv[1], "rb") as file:
    content = file.read()
try:
    told = {"size": Image.open(io.BytesIO(ProcessDecoder().convert(content, sys.argv[2], "photo"))).size}
except PhotoWorkerError as error:
    told = {"error": error.code, "message": str(error)}
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps(told | {"mb": peak * (1024 if sys.platform == "linux" else 1) / 1e6}))
"""


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[bytes, str], dict[str, Any]]:
    """Open a document as a worker does; return the copy's size or the error, and the process's peak in ``mb``."""

    def open_(content: bytes, kind: str) -> dict[str, Any]:
        path = tmp_path / "photo"
        path.write_bytes(content)
        command = [sys.executable, "-c", MEASURE, str(path), kind]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    return open_


Open = Callable[[bytes, str], dict[str, Any]]


def filled(heic: bytes) -> bytes:
    """Return a HEIC that is padded to the largest accepted size with bytes that belong to no image."""
    room = CONVERTED_LIMIT_BYTES - len(heic)
    return heic + struct.pack(">I4s", room, b"free") + bytes(room - 8)


def webp(size: tuple[int, int], mode: str, **options: object) -> bytes:
    image = Image.new(mode, size, (200, 190, 180, 100)[: len(mode)])
    ImageDraw.Draw(image).line((0, 0, *size), fill=(0, 0, 0, 255)[: len(mode)], width=9)
    return encoded(image, "WEBP", **{"method": 0, **options})


@pytest.mark.parametrize(
    ("size", "copy"),
    [
        ((9459, 9459), (9459, 9459)),
        # Longer than OCR accepts, so the copy is scaled down.
        ((16384, 5461), (10000, 3333)),
    ],
)
def test_memory_largest_heic_stays_below_limit(opened: Open, size: tuple[int, int], copy: tuple[int, int]) -> None:
    assert 0.999 < size[0] * size[1] / IMAGE_PIXEL_LIMIT <= 1
    told = opened(filled(heif.grid(*size)), media.HEIC)
    assert tuple(told["size"]) == copy
    assert told["mb"] < LIMIT_MB


@pytest.mark.parametrize(
    ("size", "mode", "options"),
    [
        ((8192, 6144), "RGBA", {"lossless": True, "quality": 0}),
        (
            (8192, 6144),
            "RGBA",
            {"quality": 50, "exif": b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"},
        ),
        ((16383, 3072), "RGB", {"quality": 50}),
    ],
    ids=["exact", "turned", "wide"],
)
def test_memory_largest_webp_stays_below_limit(
    opened: Open, size: tuple[int, int], mode: str, options: dict[str, object]
) -> None:
    assert 0.999 < size[0] * size[1] / WEBP_PIXEL_LIMIT <= 1
    told = opened(webp(size, mode, **options), media.WEBP)
    expected = size[::-1] if "exif" in options else (10000, 1875) if size[0] > 10000 else size
    assert tuple(told["size"]) == expected
    assert told["mb"] < LIMIT_MB


def test_memory_webp_above_limit_is_refused_unopened(opened: Open) -> None:
    told = opened(webp((8192, 6145), "RGB", quality=50), media.WEBP)
    assert told["error"] == "image_too_large"
    assert f"8192 x 6145 pixels; at most {WEBP_PIXEL_LIMIT} in all are read" in told["message"]
    assert told["mb"] < SMALL_MB


def test_memory_heic_burst_decodes_primary_only(opened: Open) -> None:
    """A burst: decoding all of its 60 photos would take 0.1 GB."""
    told = opened(heif.burst(60, primary=37), media.HEIC)
    assert told["size"] == [900, 600], "the others are not turned"
    assert told["mb"] < SMALL_MB


def bare_webp(kind: bytes, content: bytes) -> bytes:
    """Return a WebP of one chunk (RFC 9649, 2.5 and 2.6)."""
    chunk = kind + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


@pytest.mark.parametrize(
    ("content", "kind", "code"),
    [
        (heif.claiming(60_000, 60_000), media.HEIC, "image_too_large"),
        # Few enough pixels to be decoded.
        (heif.claiming(9459, 9459), media.HEIC, "document_unreadable"),
        # The grid claims another size than its photo has.
        (heif.grid(600, 900, claimed=(60_000, 60_000)), media.HEIC, "document_too_costly"),
        (bare_webp(b"VP8 ", b"\x10\0\0\x9d\x01\x2a\xff\x3f\xff\x3f" + bytes(20)), media.WEBP, "image_too_large"),
        (bare_webp(b"VP8L", b"\x2f\xff\xff\xff\x0f" + bytes(20)), media.WEBP, "image_too_large"),
        (bare_webp(b"VP8X", bytes(4) + b"\xff" * 6), media.WEBP, "image_too_large"),
    ],
    ids=["photo", "photo-below-the-limit", "grid", "lossy", "lossless", "canvas"],
)
def test_memory_small_file_claiming_huge_size_is_refused(opened: Open, content: bytes, kind: str, code: str) -> None:
    assert len(content) < 20_000
    told = opened(content, kind)
    assert told["error"] == code
    assert told["mb"] < SMALL_MB


def test_memory_deep_heic_stays_below_limit(opened: Open) -> None:
    """10 bits per sample, without chroma subsampling."""
    told = opened(heif.grid(8192, 6144, heif.DEEP), media.HEIC)
    assert told["size"] == [8192, 6144]
    assert told["mb"] < LIMIT_MB


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS keeps to no limit on memory")
def test_memory_document_above_limit_is_too_costly(opened: Open) -> None:
    told = opened(heif.grid(9459, 9459, heif.DEEP), media.HEIC)
    assert told["error"] == "document_too_costly"
    assert told["mb"] < LIMIT_MB
