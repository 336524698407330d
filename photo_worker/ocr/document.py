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

# What a white pixel may be in grey that is wider than 8 bits: a ratio, 8, 12 or 16 bits.
_WHITES = (1, 255, 4095, 65535)

# What Pillow's parsers raise for damaged files, beyond their own UnidentifiedImageError (an OSError).
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, KeyError, TypeError, ArithmeticError)

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
    from PIL import Image

    size = media.dimensions(content)
    if size is not None:
        check_size(*size, name)
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "TIFF", "MPO")) as image:
            check_size(*image.size, name)
            if image.format == "TIFF" and _has_second_page(image):
                raise UnsupportedDocument(name=name, actual="a TIFF of several pages, which needs asynchronous OCR")
            image.load()
            return _flatten(_upright(image))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(name=name, width="?", height="?", limit=f"{error}") from error
    except _DAMAGE as error:
        raise UnreadableDocument(name=name, reason=_plain(error)) from error


def _has_second_page(image: Image.Image) -> bool:
    # Counting them all would walk a chain of directories that may have a million links.
    try:
        image.seek(1)
    except EOFError:
        return False
    finally:
        image.seek(0)
    return True


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


def _render_pdf(content: bytes, name: str) -> Image.Image:
    import pypdfium2

    with _PDFIUM:
        try:
            with closing(pypdfium2.PdfDocument(content)) as document:
                # What was typed into a form's fields is drawn only where the form is known before its pages.
                document.init_forms()
                return _render_page(document, name)
        except pypdfium2.PdfiumError as error:
            raise UnreadableDocument(name=name, reason=_plain(error)) from error


def _render_page(document: Any, name: str) -> Image.Image:
    if len(document) == 0:
        raise UnreadableDocument(name=name, reason="it has no page")
    if len(document) > 1:
        raise UnsupportedDocument(name=name, actual=f"a PDF of {len(document)} pages, which needs asynchronous OCR")
    page = document[0]
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
