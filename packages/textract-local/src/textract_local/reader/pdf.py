"""PDF documents, drawn by PDFium."""

from __future__ import annotations

import mmap
import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from textract_local.errors import DocumentProtected, ImageTooLarge, UnreadableDocument
from textract_local.limits import IMAGE_PIXEL_LIMIT
from textract_local.reader.pixels import READING_SIDE, at_most

if TYPE_CHECKING:
    from PIL import Image

# Dots per inch at which a PDF page becomes an image: body text of 8 points is then 22 pixels high,
# above the 15 that Textract asks for (Amazon Textract quotas).
PDF_DPI = 200
_POINTS_PER_INCH = 72

# Longest side of a page that Textract reads, in points (Amazon Textract quotas).
PDF_SIDE_LIMIT_POINTS = 9000

# A page that is larger than this at PDF_DPI is rendered at fewer dots per inch, then scaled down to READING_SIDE.
_DRAWN_SIDE = 2 * READING_SIDE

# What protects a PDF, as error messages say it. Security handlers other than the standard one need more than a
# password.
STANDARD_PROTECTION = "a password"
OTHER_PROTECTION = "a certificate, or an encryption of an unknown kind"

# All pictures that a page draws may have this many pixels in all, each counted as often as it is drawn. A scan in three
# layers of the finest print has a third of that; this many are drawn in seconds.
_DRAWN_PIXELS = 4 * IMAGE_PIXEL_LIMIT

# The size entries of a picture's dictionary, which is never compressed (ISO 32000-1, 7.5.7 and 8.9.5).
_SIZE = re.compile(rb"/(Width|Height)[\0\t\n\f\r ]{0,8}([0-9]{1,10})(?![0-9])")
_DICTIONARY_BYTES = 1024

_ENCRYPTION = b"/Encrypt"
_PIECE_BYTES = 1024 * 1024

# PDFium is not thread-safe.
_PDFIUM = threading.Lock()


class Pdf:
    """A PDF that is open."""

    def __init__(self, source: Path | bytes, file: BinaryIO, name: str) -> None:
        """``file`` is ``source``, opened. Raises ``DocumentProtected`` and ``UnreadableDocument``."""
        import pypdfium2

        self._file, self._name = file, name
        with _PDFIUM, pdfium_errors(name, file):
            self._document = pypdfium2.PdfDocument(source if isinstance(source, bytes) else file)
            try:
                # PDFium draws the values of form fields only if the form is initialised before its pages.
                self._document.init_forms()
                self.pages = len(self._document)
                if self.pages == 0:
                    raise UnreadableDocument(name=name, reason="it has no page")
            except BaseException:
                self._document.close()
                raise

    def image(self, number: int) -> Image.Image:
        """Return a page as ``OpenDocument.image`` does."""
        if not 1 <= number <= self.pages:
            raise UnreadableDocument(name=self._name, reason=f"it has no page {number}")
        if self.pages == 1:
            # If there are several pages, only drawing shows which of them a picture belongs to.
            _check_file(self._file, self._name)
        with _PDFIUM, pdfium_errors(self._name, self._file), closing(self._document[number - 1]) as page:
            return at_most(_draw(page, self._name), READING_SIDE)

    def close(self) -> None:
        """Close the document and its file."""
        with _PDFIUM:
            self._document.close()
        self._file.close()


@contextmanager
def pdfium_errors(name: str, file: BinaryIO) -> Iterator[None]:
    """Translate PDFium's errors into ``DocumentProtected`` and ``UnreadableDocument``."""
    import pypdfium2
    import pypdfium2.raw as pdfium

    try:
        yield
    except pypdfium2.PdfiumError as error:
        said = f"broken PDF: {error}"
        if error.err_code == pdfium.FPDF_ERR_SECURITY and _is_encrypted(file):
            raise DocumentProtected(name=name, by=OTHER_PROTECTION) from error
        if error.err_code in {pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY, pdfium.FPDF_ERR_SUCCESS}:
            if error.err_code == pdfium.FPDF_ERR_PASSWORD and _is_encrypted(file):
                raise DocumentProtected(name=name, by=STANDARD_PROTECTION) from error
            # If there is no page, PDFium sets no error of its own, and its last error is about another document.
            said = "broken PDF: it has no page that can be found"
        raise UnreadableDocument(name=name, reason=said.splitlines()[0][:200]) from error
    except ValueError as error:
        # Raised by pypdfium2's own checks: sizes that no bitmap can have.
        raise UnreadableDocument(name=name, reason=f"broken PDF page: {error}".splitlines()[0][:200]) from error


def _is_encrypted(file: BinaryIO) -> bool:
    """Tell whether a file has an Encrypt entry, which is never compressed (ISO 32000-1, 7.5.8.2)."""
    file.seek(0)
    before = b""
    while piece := file.read(_PIECE_BYTES):
        if _ENCRYPTION in before + piece:
            return True
        before = piece[-len(_ENCRYPTION) :]
    return False


def _draw(page: Any, name: str) -> Image.Image:
    _ignore_crop_outside(page)
    width, height = page.get_size()
    scale = PDF_DPI / _POINTS_PER_INCH
    if max(width, height) > PDF_SIDE_LIMIT_POINTS:
        limit = f"at {PDF_DPI} dots per inch, where a side may have {PDF_SIDE_LIMIT_POINTS} points at most"
        raise ImageTooLarge(name=name, width=round(width * scale), height=round(height * scale), limit=limit)
    _check_pictures(page, name)
    scale = min(scale, _DRAWN_SIDE / max(width, height, 1.0))
    image: Image.Image = page.render(scale=scale).to_pil()
    return image if image.mode == "RGB" else image.convert("RGB")


def _ignore_crop_outside(page: Any) -> None:
    """Show the whole page if its CropBox lies outside of it: the two should intersect (ISO 32000-1, 14.11.2.1)."""
    left, bottom, right, top = page.get_mediabox()
    crop = page.get_cropbox()
    if min(right, crop[2]) <= max(left, crop[0]) or min(top, crop[3]) <= max(bottom, crop[1]):
        page.set_cropbox(left, bottom, right, top)


def _check_pictures(page: Any, name: str) -> None:
    """Refuse a page with a picture of more pixels than an image may have; none is decoded for this.

    The sum of all pictures is limited as well. A page's objects do not include what patterns, annotations and masks
    draw.
    """
    import pypdfium2.raw as pdfium

    drawn = 0
    for picture in page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE]):
        width, height = picture.get_px_size()
        _check_picture(width, height, name)
        drawn += width * height
        if drawn > _DRAWN_PIXELS:
            limit = (
                f"at most {_DRAWN_PIXELS} in all are drawn for a page of a PDF, each picture as often as it is there"
            )
            raise ImageTooLarge(name=name, width=width, height=height, limit=limit)


def _check_file(file: BinaryIO, name: str) -> None:
    """Refuse a file with any picture that is too large, also one in a mask or a pattern.

    Sizes that are indirect objects, and names that are written in hexadecimal, are not found.
    """
    before: tuple[bytes, int, int] | None = None
    with _bytes_of(file) as content:
        for found in _SIZE.finditer(content):
            kind, value, place = found[1], int(found[2]), found.start()
            if before is not None and before[0] != kind and place - before[2] < _DICTIONARY_BYTES:
                width, height = (before[1], value) if kind == b"Height" else (value, before[1])
                if width * height > IMAGE_PIXEL_LIMIT and b"endobj" not in content[before[2] : place]:
                    _check_picture(width, height, name)
            before = kind, value, place


@contextmanager
def _bytes_of(file: BinaryIO) -> Iterator[bytes | mmap.mmap]:
    """Yield a file's bytes; a file on disk is mapped, so that only the parts in use are in memory."""
    try:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):
        file.seek(0)
        yield file.read()
        return
    with mapped:
        yield mapped


def _check_picture(width: int, height: int, name: str) -> None:
    if width * height > IMAGE_PIXEL_LIMIT:
        limit = f"at most {IMAGE_PIXEL_LIMIT} in all are read, also of a picture in a PDF"
        raise ImageTooLarge(name=name, width=width, height=height, limit=limit)
