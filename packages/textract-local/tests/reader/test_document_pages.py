"""``open_document``: the number of pages, and the image of each."""

from __future__ import annotations

import io
import itertools
import os
import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from textract_local.errors import DocumentTooLarge, ImageTooLarge, UnreadableDocument, UnsupportedDocument
from textract_local.limits import SYNC_OCR_LIMIT_BYTES
from textract_local.reader.document import ASYNC, SYNC, DocumentLimits, open_document
from textract_support.pages import encoded

MIB = 1024**2

# Runs in its own process, because a peak never falls. Prints MiB.
MEASURE = """
import resource, sys
from pathlib import Path
from textract_local.reader.document import ASYNC, open_document
import PIL.TiffImagePlugin, pypdfium2
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
before = peak()
document = open_document(Path(sys.argv[1]), "book", ASYNC)
assert document.pages == 5
assert document.image(5).height >= 44
print(peak() - before)
"""


def sheets(count: int, side: int = 40) -> list[Image.Image]:
    """Return pages that differ in their grey and their height."""
    return [Image.new("RGB", (side, side + number), (10 * number + 5,) * 3) for number in range(count)]


def book(count: int, kind: str, **options: object) -> bytes:
    first, *others = sheets(count)
    return encoded(first, kind, save_all=True, append_images=others, **options)


def grey(image: Image.Image) -> int:
    pixel = image.getpixel((image.width // 2, image.height // 2))
    assert isinstance(pixel, tuple)
    return int(pixel[0])


def links(content: bytes) -> list[int]:
    """Return the offsets of a little-endian TIFF's links to its directories."""
    places = [4]
    while True:
        (start,) = struct.unpack_from("<I", content, places[-1])
        if not start:
            return places
        (count,) = struct.unpack_from("<H", content, start)
        places.append(start + 2 + 12 * count)


BOOKS: dict[str, Callable[[], bytes]] = {
    "TIFF": lambda: book(5, "TIFF"),
    "TIFF, packed": lambda: book(5, "TIFF", compression="tiff_lzw"),
    "PDF": lambda: book(5, "PDF", resolution=200, quality=95),
}


@pytest.mark.parametrize("name", BOOKS)
@pytest.mark.parametrize("from_file", [True, False])
def test_open_document_pages_have_their_images(tmp_path: Path, name: str, from_file: bool) -> None:
    content = BOOKS[name]()
    path = tmp_path / "book"
    path.write_bytes(content)
    with closing(open_document(path if from_file else content, "book", ASYNC)) as document:
        assert document.pages == 5
        # In any order, as jobs and calls request them.
        for number in (4, 1, 5, 2, 3, 1):
            image = document.image(number)
            # A PDF's sizes are in points, and rounded up.
            assert (image.width - 40, image.height - 39 - number) in {(0, 0), (1, 0), (0, 1), (1, 1)}
            assert abs(grey(image) - (10 * (number - 1) + 5)) <= 4
        for number in (0, 6, -1):
            with pytest.raises(UnreadableDocument, match=f"no page {number}"):
                document.image(number)


@pytest.mark.parametrize("kind", ["TIFF", "PDF"])
def test_open_document_too_many_pages_is_refused(kind: str) -> None:
    three = DocumentLimits(SYNC_OCR_LIMIT_BYTES, SYNC_OCR_LIMIT_BYTES, pages=3)
    with closing(open_document(book(3, kind), "book", three)) as document:
        assert document.pages == 3
    with pytest.raises(UnsupportedDocument, match="more than 3 pages"):
        open_document(book(4, kind), "book", three)


def test_open_document_animated_png_has_one_page() -> None:
    still, *others = (Image.new("RGB", (40, 40), (shade,) * 3) for shade in (5, 90, 180))
    moving = encoded(still, "PNG", save_all=True, append_images=others)
    with closing(open_document(moving, "moving.png", ASYNC)) as document:
        assert document.pages == 1
        assert grey(document.image(1)) == 5
        with pytest.raises(UnreadableDocument, match="no page 2"):
            document.image(2)


def test_open_document_circular_tiff_directories_count_once() -> None:
    content = bytearray(book(3, "TIFF"))
    first = struct.unpack_from("<I", content, 4)[0]
    struct.pack_into("<I", content, links(bytes(content))[-1], first)
    with closing(open_document(bytes(content), "ring.tif", ASYNC)) as document:
        assert document.pages == 3
        assert [document.image(number).height for number in (1, 2, 3)] == [40, 41, 42]


def test_open_document_long_tiff_chain_is_refused_quickly() -> None:
    # Each directory has 6 bytes: no entry, and the offset of the next.
    content = b"II*\0" + struct.pack("<I", 8)
    content += b"".join(struct.pack("<HI", 0, 8 + 6 * number) for number in range(1, 1_000_001))
    begun = time.process_time()
    with pytest.raises(UnsupportedDocument, match="more than 3000 pages"):
        open_document(content, "chain.tif", ASYNC)
    assert time.process_time() - begun < 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("link", [0xFFFFFFFF, 3, 9])
def test_open_document_torn_tiff_keeps_pages_before_tear(place: int, link: int) -> None:
    content = bytearray(book(3, "TIFF"))
    struct.pack_into("<I", content, links(bytes(content))[place], link)
    with closing(open_document(bytes(content), "torn.tif", ASYNC)) as document:
        for number in range(1, document.pages + 1):
            if number <= place:
                assert document.image(number).height == 39 + number
            else:
                with pytest.raises((UnreadableDocument, ImageTooLarge)):
                    document.image(number)


def test_open_document_image_and_document_limits_differ(tmp_path: Path) -> None:
    limits = DocumentLimits(image_bytes=2000, document_bytes=100_000, pages=10)
    picture = encoded(Image.effect_noise((60, 60), 90))
    assert len(picture) > limits.image_bytes
    with pytest.raises(DocumentTooLarge, match="2000"):
        open_document(picture, "a.png", limits)
    open_document(encoded(Image.effect_noise((60, 60), 90), "TIFF"), "a.tif", limits).close()
    path = tmp_path / "huge"
    path.touch()
    os.truncate(path, ASYNC.document_bytes + 1)
    with pytest.raises(DocumentTooLarge, match=str(ASYNC.document_bytes)):
        open_document(path, "huge", ASYNC)
    with pytest.raises(DocumentTooLarge, match=str(SYNC_OCR_LIMIT_BYTES)):
        open_document(bytes(SYNC_OCR_LIMIT_BYTES + 1), "large", SYNC)


@pytest.mark.parametrize("kind", ["TIFF", "PDF"])
def test_open_document_large_file_is_not_read_into_memory(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "book"
    content = BOOKS[kind]()
    path.write_bytes(content)
    if kind == "TIFF":
        # Pad the end, to which no directory refers. A PDF is padded near its start: its readers begin at the end.
        os.truncate(path, 400 * MIB)
    else:
        with path.open("wb") as file:
            file.writelines(_stretched(content, 200))
    command = [sys.executable, "-c", MEASURE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert float(done.stdout) < 100


def _stretched(pdf: bytes, mebibytes: int) -> Iterator[bytes]:
    """Yield a PDF with a comment of this size after its first line."""
    head, _, rest = pdf.partition(b"\n")
    by = mebibytes * MIB
    yield head + b"\n"
    yield from itertools.repeat(b"%" + b"a" * (MIB - 2) + b"\n", mebibytes)
    rest = re.sub(rb"(\d{10})( \d{5} n)", lambda found: b"%010d" % (int(found[1]) + by) + found[2], rest)
    yield re.sub(rb"startxref\n(\d+)", lambda found: b"startxref\n%d" % (int(found[1]) + by), rest)


def test_open_document_symlink_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(sheets(1)[0]))
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(OSError, match="link"):
        open_document(tmp_path / "link.png", "link.png")


def test_open_document_refused_file_is_closed(tmp_path: Path) -> None:
    """A file that stays open causes a warning, and warnings are errors."""
    path = tmp_path / "a"
    for content in (b"", b"flour", b"%PDF-1.7 torn", book(3, "TIFF"), book(3, "PDF")):
        path.write_bytes(content)
        with pytest.raises((UnsupportedDocument, UnreadableDocument)):
            open_document(path, "a", SYNC)


def test_open_document_tiff_pages_have_own_orientation() -> None:
    upright, lying = Image.new("RGB", (60, 40), "white"), Image.new("RGB", (60, 40), "white")
    lying.paste((0, 0, 0), (0, 0, 10, 10))
    lying.encoderinfo = {"tiffinfo": {274: 6}}
    file = io.BytesIO()
    upright.save(file, "TIFF", save_all=True, append_images=[lying])
    with closing(open_document(file.getvalue(), "a.tif", ASYNC)) as document:
        assert document.image(1).size == (60, 40)
        assert document.image(2).size == (40, 60)
        assert grey(document.image(2).crop((30, 0, 40, 10))) == 0
