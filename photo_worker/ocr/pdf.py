"""PDF documents, drawn by PDFium."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from photo_worker.errors import DocumentProtected, ImageTooLarge, UnreadableDocument
from photo_worker.ocr.pixels import READING_SIDE, at_most
from photo_worker.policies import IMAGE_PIXEL_LIMIT

if TYPE_CHECKING:
    from PIL import Image

# Dots per inch at which a PDF page becomes an image: body text of 8 points is then 22 pixels high,
# above the 15 that Textract asks for (Amazon Textract quotas).
PDF_DPI = 200
_POINTS_PER_INCH = 72

# Longest side of a page that Textract reads, in points (Amazon Textract quotas).
PDF_SIDE_LIMIT_POINTS = 9000

# A page that is larger at PDF_DPI is drawn at fewer dots, and scaled down from there to what is read.
_DRAWN_SIDE = 2 * READING_SIDE

# What protects a PDF, as errors say it. Security handlers other than the standard one need more than a password.
STANDARD_PROTECTION = "a password"
OTHER_PROTECTION = "a certificate, or an encryption of an unknown kind"

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
        with _PDFIUM, _damage(name, file):
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
        """Return a page as ``OpenDocument.image`` does."""
        if not 1 <= number <= self.pages:
            raise UnreadableDocument(name=self._name, reason=f"it has no page {number}")
        with _PDFIUM, _damage(self._name, self._file), closing(self._document[number - 1]) as page:
            return at_most(_draw(page, self._name), READING_SIDE)

    def close(self) -> None:
        """Give back what it holds."""
        with _PDFIUM:
            self._document.close()
        self._file.close()


@contextmanager
def _damage(name: str, file: BinaryIO) -> Iterator[None]:
    """Raise what PDFium cannot read as the document's error."""
    import pypdfium2
    import pypdfium2.raw as pdfium

    try:
        yield
    except pypdfium2.PdfiumError as error:
        said = f"broken PDF: {error}"
        if error.err_code == pdfium.FPDF_ERR_SECURITY and _is_encrypted(file):
            raise DocumentProtected(name=name, by=OTHER_PROTECTION) from error
        if error.err_code in {pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SUCCESS}:
            if error.err_code == pdfium.FPDF_ERR_PASSWORD and _is_encrypted(file):
                raise DocumentProtected(name=name, by=STANDARD_PROTECTION) from error
            # PDFium says nothing of its own where there is no page, and its last word is about another document.
            said = "broken PDF: it has no page that can be found"
        raise UnreadableDocument(name=name, reason=said.splitlines()[0][:200]) from error
    except ValueError as error:
        # Of pypdfium2's own checks: sizes that no bitmap can have.
        raise UnreadableDocument(name=name, reason=f"broken PDF page: {error}".splitlines()[0][:200]) from error


def _is_encrypted(file: BinaryIO) -> bool:
    """Say whether a file speaks of encryption, which is never packed (ISO 32000-1, 7.5.8.2)."""
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
    """Show the whole page where its CropBox has nothing of it: the two should meet (ISO 32000-1, 14.11.2.1)."""
    left, bottom, right, top = page.get_mediabox()
    crop = page.get_cropbox()
    if min(right, crop[2]) <= max(left, crop[0]) or min(top, crop[3]) <= max(bottom, crop[1]):
        page.set_cropbox(left, bottom, right, top)


def _check_pictures(page: Any, name: str) -> None:
    """Refuse a page whose pictures unfold to more pixels than an image may have; none is decoded for this."""
    import pypdfium2.raw as pdfium

    for picture in page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE]):
        width, height = picture.get_px_size()
        if width * height > IMAGE_PIXEL_LIMIT:
            limit = f"at most {IMAGE_PIXEL_LIMIT} in all are read, also of a picture in a PDF"
            raise ImageTooLarge(name=name, width=width, height=height, limit=limit)
