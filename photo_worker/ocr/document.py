"""Hostile bytes in, one upright RGB image out: what is refused, and with which error.

Size and type are checked before anything is decoded, so that a small file cannot take much
memory or time.
"""

from __future__ import annotations

import io
import struct
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

from photo_worker import media
from photo_worker.errors import DocumentTooLarge, ImageTooLarge, UnreadableDocument, UnsupportedDocument
from photo_worker.policies import IMAGE_PIXEL_LIMIT, IMAGE_SIDE_LIMIT_PX, SYNC_OCR_LIMIT_BYTES

if TYPE_CHECKING:
    from PIL import Image

# Dots per inch at which a PDF page becomes an image: body text of 8 points is then 22 pixels high,
# above the 15 that Textract asks for (Amazon Textract quotas).
PDF_DPI = 200
_POINTS_PER_INCH = 72

# PDFium is not thread-safe.
_PDFIUM = threading.Lock()


def load_image(content: bytes, name: str) -> Image.Image:
    """Return the document's one page as an upright RGB image.

    Raises ``UnsupportedDocument`` (not PNG, JPEG, TIFF or PDF, or several pages), ``DocumentTooLarge``
    (over 10 MB), ``ImageTooLarge`` (side or area) and ``UnreadableDocument`` (empty, damaged, cut off,
    encrypted).
    """
    if not content:
        raise UnreadableDocument(name=name, reason="it has zero bytes")
    if len(content) > SYNC_OCR_LIMIT_BYTES:
        raise DocumentTooLarge(name=name, size_bytes=len(content), limit_bytes=SYNC_OCR_LIMIT_BYTES)
    kind = media.sniff(content[: media.HEAD_BYTES])
    if kind not in media.DOCUMENT_TYPES:
        raise UnsupportedDocument(name=name, actual=kind or "of an unknown type")
    if kind == media.PDF:
        return _render_pdf(content, name)
    return _decode(content, name)


def check_size(width: float, height: float, name: str) -> None:
    """Raise ``ImageTooLarge`` for what takes too much memory, or what Textract does not read."""
    shown = {"name": name, "width": round(width), "height": round(height)}
    if max(width, height) > IMAGE_SIDE_LIMIT_PX:
        raise ImageTooLarge(**shown, limit=f"a side may have at most {IMAGE_SIDE_LIMIT_PX}")
    if width * height > IMAGE_PIXEL_LIMIT:
        raise ImageTooLarge(**shown, limit=f"at most {IMAGE_PIXEL_LIMIT} in all are read")


def _decode(content: bytes, name: str) -> Image.Image:
    from PIL import Image, ImageOps

    size = media.dimensions(content)
    if size is not None:
        check_size(*size, name)
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "TIFF", "MPO")) as image:
            check_size(*image.size, name)
            if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
                raise UnsupportedDocument(name=name, actual="a TIFF of several pages, which needs asynchronous OCR")
            image.load()
            return _flatten(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(name=name, width="?", height="?", limit=f"{error}") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, KeyError, TypeError) as error:
        # What Pillow's parsers raise for damaged files, beyond their own UnidentifiedImageError (an OSError).
        raise UnreadableDocument(name=name, reason=_plain(error)) from error


def _flatten(image: Image.Image) -> Image.Image:
    """Return RGB pixels; what is transparent becomes white paper."""
    from PIL import Image

    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        over = image.convert("RGBA")
        paper = Image.new("RGB", over.size, "white")
        paper.paste(over, mask=over.getchannel("A"))
        return paper
    if image.mode.startswith("I") or image.mode == "F":
        return _narrow(image)
    return image.convert("RGB")


def _narrow(image: Image.Image) -> Image.Image:
    """Scale 16-bit and floating-point grey to 8 bits, which ``convert`` only clips."""
    low, high = image.getextrema()
    span = max(float(high) - float(low), 1.0)  # type: ignore[arg-type]
    return image.point(lambda value: (value - low) * (255.0 / span)).convert("L").convert("RGB")


def _render_pdf(content: bytes, name: str) -> Image.Image:
    import pypdfium2

    with _PDFIUM:
        try:
            document = pypdfium2.PdfDocument(content)
        except pypdfium2.PdfiumError as error:
            raise UnreadableDocument(name=name, reason=_plain(error)) from error
        with closing(document):
            return _render_page(document, name)


def _render_page(document: Any, name: str) -> Image.Image:
    import pypdfium2

    if len(document) == 0:
        raise UnreadableDocument(name=name, reason="it has no page")
    if len(document) > 1:
        raise UnsupportedDocument(name=name, actual=f"a PDF of {len(document)} pages, which needs asynchronous OCR")
    try:
        page = document[0]
        width, height = page.get_size()
        scale = PDF_DPI / _POINTS_PER_INCH
        check_size(width * scale, height * scale, name)
        image: Image.Image = page.render(scale=scale).to_pil().convert("RGB")
    except pypdfium2.PdfiumError as error:
        raise UnreadableDocument(name=name, reason=_plain(error)) from error
    return image


def _plain(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
