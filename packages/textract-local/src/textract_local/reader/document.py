"""Open hostile documents, and return upright RGB images of their pages or raise a precise error.

Size and type are checked before anything is decoded, so that a small file cannot take much
memory or time.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from textract_local import media
from textract_local.errors import DocumentTooLarge, ImageTooLarge, UnreadableDocument, UnsupportedDocument
from textract_local.limits import IMAGE_PIXEL_LIMIT, IMAGE_SIDE_LIMIT_PX, SNIFF_BYTES, SYNC_OCR_LIMIT_BYTES
from textract_local.reader import unsupported_images
from textract_local.reader.metadata import without_metadata
from textract_local.reader.pdf import Pdf
from textract_local.reader.pixels import READING_SIDE, page_of

if TYPE_CHECKING:
    from PIL import Image

# Pillow's names of the formats.
_NAMES = {media.PNG: "PNG", media.JPEG: "JPEG", media.TIFF: "TIFF"}

# What Pillow's parsers raise for damaged files, beyond their own UnidentifiedImageError (an OSError).
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, KeyError, TypeError, ArithmeticError)


@dataclass(frozen=True)
class DocumentLimits:
    """How large a document may be: bytes of an image (PNG, JPEG), bytes of a TIFF or PDF, and its pages."""

    image_bytes: int
    document_bytes: int
    pages: int

    @property
    def most_bytes(self) -> int:
        """The size in bytes that no document of any type may exceed."""
        return max(self.image_bytes, self.document_bytes)

    def bytes_of(self, kind: str) -> int:
        """Return the greatest size of a document of this media type."""
        return self.document_bytes if kind in {media.TIFF, media.PDF} else self.image_bytes


# D: Amazon Textract quotas.
SYNC = DocumentLimits(SYNC_OCR_LIMIT_BYTES, SYNC_OCR_LIMIT_BYTES, pages=1)
ASYNC = DocumentLimits(SYNC_OCR_LIMIT_BYTES, 500 * 1024 * 1024, pages=3000)


class OpenDocument(Protocol):
    """A document that is readable as far as its pages can be counted."""

    @property
    def pages(self) -> int:
        """How many pages it has; at least 1."""

    def image(self, number: int) -> Image.Image:
        """Return page ``number``, counted from 1, as an upright RGB image of at most ``READING_SIDE`` pixels a side.

        Raises ``ImageTooLarge`` (side or area), ``UnsupportedDocument`` (of a kind that no decoder here reads) and
        ``UnreadableDocument``.
        """

    def close(self) -> None:
        """Close the file. Images that ``image`` returned stay valid."""


def open_document(source: Path | bytes, name: str, limits: DocumentLimits = SYNC) -> OpenDocument:
    """Open a document. Of a TIFF or PDF file, no more is read into memory than a page needs.

    Raises ``UnsupportedDocument`` (not PNG, JPEG, TIFF or PDF, or too many pages), ``DocumentTooLarge``,
    ``DocumentProtected`` (by a password) and ``UnreadableDocument`` (empty, damaged, cut off). The name is for their
    messages. Raises ``OSError`` for a path that cannot be opened, and for a link: resolve it before.
    """
    file: BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else _open(source)
    try:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if not size:
            raise UnreadableDocument(name=name, reason="it has zero bytes")
        if size > limits.most_bytes:
            raise DocumentTooLarge(name=name, size_bytes=size, limit_bytes=limits.most_bytes)
        head = file.read(media.HEAD_BYTES)
        kind = media.sniff(head)
        if kind not in media.DOCUMENT_TYPES:
            raise UnsupportedDocument(
                name=name,
                actual=unsupported_images.describe_signature(head) or media.describe_type(kind or "of an unknown type"),
            )
        if size > limits.bytes_of(kind):
            raise DocumentTooLarge(name=name, size_bytes=size, limit_bytes=limits.bytes_of(kind))
        file.seek(0)
        document: OpenDocument
        if kind == media.PDF:
            document = Pdf(source, file, name)
        elif kind == media.TIFF:
            document = _Tiff(file, name, limits.pages)
        else:
            document = _Picture(file, name, kind)
    except BaseException:
        file.close()
        raise
    if document.pages > limits.pages:
        document.close()
        raise UnsupportedDocument(name=name, actual=_too_many(kind, document.pages, limits))
    return document


def load_image(content: bytes, name: str) -> Image.Image:
    """Return the one page of a document within the limits of synchronous OCR. Raises as ``open_document``."""
    with closing(open_document(content, name)) as document:
        return document.image(1)


def check_size(width: float, height: float, name: str) -> None:
    """Raise ``ImageTooLarge`` if an image of this size takes too much memory or is above Textract's limit."""
    shown = {"name": name, "width": round(width), "height": round(height)}
    if max(width, height) > IMAGE_SIDE_LIMIT_PX:
        raise ImageTooLarge(**shown, limit=f"a side may have at most {IMAGE_SIDE_LIMIT_PX}")
    if width * height > IMAGE_PIXEL_LIMIT:
        raise ImageTooLarge(**shown, limit=f"at most {IMAGE_PIXEL_LIMIT} in all are read")


def _open(path: Path) -> BinaryIO:
    # The worker stores no links: a link in the place of a document is foreign.
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


def _too_many(kind: str, pages: int, limits: DocumentLimits) -> str:
    name = "TIFF" if kind == media.TIFF else "PDF"
    if limits.pages > 1:
        return f"a {name} of more than {limits.pages} pages"
    # A TIFF's pages are not counted further than needed.
    count = "several" if kind == media.TIFF else str(pages)
    return f"a {name} of {count} pages, which needs asynchronous OCR"


class _Picture:
    """A PNG or JPEG. Images after the first one (an animation, a depth map) are not pages."""

    pages = 1

    def __init__(self, file: BinaryIO, name: str, kind: str) -> None:
        """Raises ``UnsupportedDocument`` for a JPEG of a rare process."""
        self._file, self._name, self._kind = file, name, kind
        odd = unsupported_images.describe_jpeg(file) if kind == media.JPEG else None
        if odd:
            raise UnsupportedDocument(name=name, actual=odd)

    def image(self, number: int) -> Image.Image:
        from PIL import Image

        if not 1 <= number <= self.pages:
            raise UnreadableDocument(name=self._name, reason=f"it has no page {number}")
        self._file.seek(0)
        size = media.dimensions(self._file.read(SNIFF_BYTES))
        if size is not None:
            check_size(*size, self._name)
        file = without_metadata(self._file, self._name) if self._kind == media.PNG else self._file
        file.seek(0)
        with (
            _pillow_errors(self._name, self._kind, self._odd),
            Image.open(file, formats=(_NAMES[self._kind],)) as image,
        ):
            if number > 1:
                image.seek(number - 1)
            check_size(*image.size, self._name)
            if self._kind == media.JPEG:
                _draft(image)
            image.load()
            # Pillow has turned a TIFF by now, and reset its orientation.
            return page_of(image, _orientation(image))

    def close(self) -> None:
        self._file.close()

    def _odd(self) -> str | None:
        """Describe a file that could not be decoded, or return None if its kind is unknown."""
        return None


class _Tiff(_Picture):
    """A TIFF: a chain of directories, one a page."""

    def __init__(self, file: BinaryIO, name: str, most_pages: int) -> None:
        super().__init__(file, name, media.TIFF)
        # A file may link a million directories, or link them in a ring.
        self._starts = list(islice(_directories(file), most_pages + 1))
        self.pages = max(len(self._starts), 1)

    def _odd(self) -> str | None:
        descriptions = (unsupported_images.describe_tiff(self._file, start) for start in self._starts[:1])
        return next(descriptions, None)


def _directories(file: BinaryIO) -> Iterator[int]:
    """Yield the offset of each TIFF directory once, without reading its entries (TIFF 6.0, section 2)."""
    file.seek(0)
    order = "<" if file.read(2) == b"II" else ">"
    seen: set[int] = set()
    place = 4
    while len(link := _at(file, place, 4)) == 4:
        (start,) = struct.unpack(f"{order}I", link)
        head = _at(file, start, 2)
        if not start or start in seen or len(head) < 2:
            return
        seen.add(start)
        yield start
        (entries,) = struct.unpack(f"{order}H", head)
        place = start + 2 + 12 * entries


def _at(file: BinaryIO, place: int, size: int) -> bytes:
    file.seek(place)
    return file.read(size)


@contextmanager
def _pillow_errors(name: str, kind: str, odd: Callable[[], str | None]) -> Iterator[None]:
    """Translate Pillow's errors for a hostile file into the document's ``DocumentError``.

    ``odd`` describes an image that Pillow cannot identify, or returns None.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(name=name, width="?", height="?", limit=f"{error}") from error
    except (UnidentifiedImageError, KeyError) as error:
        actual = odd()
        if actual:
            raise UnsupportedDocument(name=name, actual=actual) from error
        raise UnreadableDocument(name=name, reason=f"broken {_NAMES[kind]}: its header makes no sense") from error
    except _DAMAGE as error:
        raise UnreadableDocument(name=name, reason=f"broken {_NAMES[kind]}: {_plain(error)}") from error


def _orientation(image: Image.Image) -> object:
    """Return the orientation in a photo's EXIF data, or None. Other EXIF data and damage in it are ignored."""
    from PIL import ExifTags

    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except _DAMAGE:
        return None


def _draft(image: Image.Image) -> None:
    """Decode a JPEG at a half, a quarter or an eighth if that is still as large as ``READING_SIDE``."""
    scale = READING_SIDE / max(image.size)
    if scale < 1:
        image.draft(None, (max(round(image.width * scale), 1), max(round(image.height * scale), 1)))


def _plain(error: Exception) -> str:
    # Messages say "too large" only of a document's size in bytes.
    return (str(error) or type(error).__name__).splitlines()[0][:200].replace("too large", "too long")
