"""Hostile bytes or files in, upright RGB images of pages out: what is refused, and with which error.

Size and type are checked before anything is decoded, so that a small file cannot take much
memory or time.
"""

from __future__ import annotations

import io
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from photo_worker import media
from photo_worker.errors import DocumentTooLarge, ImageTooLarge, UnreadableDocument, UnsupportedDocument
from photo_worker.policies import IMAGE_PIXEL_LIMIT, IMAGE_SIDE_LIMIT_PX, SNIFF_BYTES, SYNC_OCR_LIMIT_BYTES

if TYPE_CHECKING:
    from PIL import Image

# Dots per inch at which a PDF page becomes an image: body text of 8 points is then 22 pixels high,
# above the 15 that Textract asks for (Amazon Textract quotas).
PDF_DPI = 200
_POINTS_PER_INCH = 72

# What a white pixel may be in grey that is wider than 8 bits: a ratio, 8, 12 or 16 bits.
_WHITES = (1, 255, 4095, 65535)

# What Pillow's parsers raise for damaged files, beyond their own UnidentifiedImageError (an OSError).
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, KeyError, TypeError, ArithmeticError)

# PDFium is not thread-safe.
_PDFIUM = threading.Lock()


@dataclass(frozen=True)
class Limits:
    """How large a document may be: bytes of an image (PNG, JPEG), bytes of a TIFF or PDF, and its pages."""

    image_bytes: int
    document_bytes: int
    pages: int

    @property
    def most_bytes(self) -> int:
        """The size that no document may exceed, whatever it is."""
        return max(self.image_bytes, self.document_bytes)

    def bytes_of(self, kind: str) -> int:
        """Return the greatest size of a document of this media type."""
        return self.document_bytes if kind in {media.TIFF, media.PDF} else self.image_bytes


# D: Amazon Textract quotas.
SYNC = Limits(SYNC_OCR_LIMIT_BYTES, SYNC_OCR_LIMIT_BYTES, pages=1)
ASYNC = Limits(SYNC_OCR_LIMIT_BYTES, 500 * 1024 * 1024, pages=3000)


class OpenDocument(Protocol):
    """A document that was found readable as far as its pages can be counted."""

    @property
    def pages(self) -> int:
        """How many pages it has; at least 1."""

    def image(self, number: int) -> Image.Image:
        """Return page ``number``, counted from 1, as an upright RGB image.

        Raises ``ImageTooLarge`` (side or area) and ``UnreadableDocument``.
        """

    def close(self) -> None:
        """Give back what it holds. What ``image`` returned stays."""


def open_document(source: Path | bytes, name: str, limits: Limits = SYNC) -> OpenDocument:
    """Open a document. A TIFF or PDF that is a file stays one: no more of it is read than a page needs.

    Raises ``UnsupportedDocument`` (not PNG, JPEG, TIFF or PDF, or too many pages), ``DocumentTooLarge``,
    ``ImageTooLarge`` and ``UnreadableDocument`` (empty, damaged, cut off, encrypted). The name is for
    their messages.
    """
    file: BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else _open(source)
    try:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if not size:
            raise UnreadableDocument(name=name, reason="it has zero bytes")
        if size > limits.most_bytes:
            raise DocumentTooLarge(name=name, size_bytes=size, limit_bytes=limits.most_bytes)
        kind = media.sniff(file.read(media.HEAD_BYTES))
        if kind not in media.DOCUMENT_TYPES:
            raise UnsupportedDocument(name=name, actual=kind or "of an unknown type")
        if size > limits.bytes_of(kind):
            raise DocumentTooLarge(name=name, size_bytes=size, limit_bytes=limits.bytes_of(kind))
        file.seek(0)
        document: OpenDocument
        if kind == media.PDF:
            document = _Pdf(source, file, name)
        elif kind == media.TIFF:
            document = _Tiff(file, name, limits.pages)
        else:
            document = _Picture(file, name)
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
    """Raise ``ImageTooLarge`` for what takes too much memory, or what Textract does not read."""
    shown = {"name": name, "width": round(width), "height": round(height)}
    if max(width, height) > IMAGE_SIDE_LIMIT_PX:
        raise ImageTooLarge(**shown, limit=f"a side may have at most {IMAGE_SIDE_LIMIT_PX}")
    if width * height > IMAGE_PIXEL_LIMIT:
        raise ImageTooLarge(**shown, limit=f"at most {IMAGE_PIXEL_LIMIT} in all are read")


def _open(path: Path) -> BinaryIO:
    # A link in the place of a document is none of those that were put there.
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


def _too_many(kind: str, pages: int, limits: Limits) -> str:
    name = "TIFF" if kind == media.TIFF else "PDF"
    if limits.pages > 1:
        return f"a {name} of more than {limits.pages} pages"
    # A TIFF's pages are not counted further than needed.
    count = "several" if kind == media.TIFF else str(pages)
    return f"a {name} of {count} pages, which needs asynchronous OCR"


class _Picture:
    """A PNG or JPEG. What may follow its first image (an animation, a depth map) is no page."""

    pages = 1

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name

    def image(self, number: int) -> Image.Image:
        from PIL import Image

        if not 1 <= number <= self.pages:
            raise UnreadableDocument(name=self._name, reason=f"it has no page {number}")
        self._file.seek(0)
        size = media.dimensions(self._file.read(SNIFF_BYTES))
        if size is not None:
            check_size(*size, self._name)
        self._file.seek(0)
        with _damage(self._name), Image.open(self._file, formats=("PNG", "JPEG", "TIFF", "MPO")) as image:
            if number > 1:
                image.seek(number - 1)
            check_size(*image.size, self._name)
            image.load()
            return _flatten(_upright(image))

    def close(self) -> None:
        self._file.close()


class _Tiff(_Picture):
    """A TIFF: a chain of directories, one a page."""

    def __init__(self, file: BinaryIO, name: str, most_pages: int) -> None:
        super().__init__(file, name)
        # A file may link a million directories, or link them in a ring.
        self.pages = max(len(list(islice(_directories(file), most_pages + 1))), 1)


def _directories(file: BinaryIO) -> Iterator[int]:
    """Yield where a TIFF's directories begin, each once, without reading what is in them (TIFF 6.0, section 2)."""
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
def _damage(name: str) -> Iterator[None]:
    """Raise what Pillow raises for a hostile file as the document's error."""
    from PIL import Image

    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(name=name, width="?", height="?", limit=f"{error}") from error
    except _DAMAGE as error:
        raise UnreadableDocument(name=name, reason=_plain(error)) from error


def _upright(image: Image.Image) -> Image.Image:
    """Turn a photo as its EXIF orientation says. What else its EXIF data holds, also damage, does not matter."""
    from PIL import ExifTags, Image

    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except _DAMAGE:
        return image
    turn = turns.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _flatten(image: Image.Image) -> Image.Image:
    """Return RGB pixels; what is transparent becomes white paper."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        return _narrow(image)
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        over = image.convert("RGBA")
        paper = Image.new("RGB", over.size, "white")
        paper.paste(over, mask=over.getchannel("A"))
        return paper
    return image if image.mode == "RGB" else image.convert("RGB")


def _narrow(image: Image.Image) -> Image.Image:
    """Scale wide and floating-point grey to 8 bits, which ``convert`` only clips.

    Nothing says what white is: it is the narrowest usual range that holds every pixel. Stretching to the
    brightest and darkest ones would make print of the grain of an empty page.
    """
    wide = image.convert("I") if image.mode.startswith("I;") else image
    high = wide.getextrema()[1]
    white = next((white for white in _WHITES if high <= white), high)  # type: ignore[operator]
    return wide.convert("F").point(lambda value: value * (255.0 / float(white)) + 0).convert("L").convert("RGB")  # type: ignore[arg-type]


class _Pdf:
    """A PDF, read by PDFium."""

    def __init__(self, source: Path | bytes, file: BinaryIO, name: str) -> None:
        import pypdfium2

        self._file, self._name = file, name
        with _PDFIUM, _pdf_damage(name):
            self._document = pypdfium2.PdfDocument(source if isinstance(source, bytes) else file)
            try:
                # What was typed into a form's fields is drawn only where the form is known before its pages.
                self._document.init_forms()
                self.pages = len(self._document)
                if self.pages == 0:
                    raise UnreadableDocument(name=name, reason="it has no page")
            except BaseException:
                self._document.close()
                raise

    def image(self, number: int) -> Image.Image:
        if not 1 <= number <= self.pages:
            raise UnreadableDocument(name=self._name, reason=f"it has no page {number}")
        with _PDFIUM, _pdf_damage(self._name), closing(self._document[number - 1]) as page:
            return _render_page(page, self._name)

    def close(self) -> None:
        with _PDFIUM:
            self._document.close()
        self._file.close()


@contextmanager
def _pdf_damage(name: str) -> Iterator[None]:
    import pypdfium2

    try:
        yield
    except pypdfium2.PdfiumError as error:
        raise UnreadableDocument(name=name, reason=_plain(error)) from error


def _render_page(page: Any, name: str) -> Image.Image:
    width, height = page.get_size()
    scale = PDF_DPI / _POINTS_PER_INCH
    check_size(width * scale, height * scale, name)
    _check_pictures(page, name)
    image: Image.Image = page.render(scale=scale).to_pil()
    return image if image.mode == "RGB" else image.convert("RGB")


def _check_pictures(page: Any, name: str) -> None:
    """Refuse a page whose pictures unfold to more pixels than an image may have; none is decoded for this."""
    import pypdfium2.raw as pdfium

    for picture in page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE]):
        width, height = picture.get_px_size()
        if width * height > IMAGE_PIXEL_LIMIT:
            limit = f"at most {IMAGE_PIXEL_LIMIT} in all are read, also of a picture in a PDF"
            raise ImageTooLarge(name=name, width=width, height=height, limit=limit)


def _plain(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
