"""Checks documents and converts images that OCR cannot read.

Native libraries parse hostile bytes here, so this code runs in a separate process (``documents.child``).
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from photo_worker import media
from photo_worker.adapters.ocr.library_errors import product_errors
from photo_worker.errors import (
    DecoderMissing,
    DocumentTooCostly,
    ImageTooLarge,
    UnreadableDocument,
    UnsupportedDocument,
)
from photo_worker.policies import IMAGE_PIXEL_LIMIT, IMAGE_SIDE_LIMIT_PX, SYNC_OCR_LIMIT_BYTES, WEBP_PIXEL_LIMIT
from textract_local import SYNC, check_size, describe_tiff, open_document, pdfium_errors

if TYPE_CHECKING:
    from PIL import Image

JPEG_QUALITIES = (95, 90, 80)
_SHRINK = 0.75

# Counting stops at this number of pages; only documents of one page are accepted anyway.
_COUNTED_PAGES = 3000

# TIFF 6.0, section 8 and "Data Sample Format": bits of each sample, and what they mean.
_BITS_PER_SAMPLE, _SAMPLE_FORMAT = 258, 339
_USUAL_BITS = frozenset({1, 2, 4, 8, 16})
# Unsigned integers, and undefined.
_USUAL_FORMATS = frozenset({1, 4})

# What parsers raise for damaged files.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    LookupError,
    TypeError,
    ArithmeticError,
    RuntimeError,
)


def load(kind: str) -> None:
    """Import the libraries that open documents of a type. It runs before any document, so no document is at fault.

    Raises ``DecoderMissing`` if a package is missing, or if its native library cannot be loaded or lacks the type.
    """
    try:
        if kind == media.PDF:
            import pypdfium2.raw  # noqa: F401
        else:
            from PIL import Image, ImageOps, JpegImagePlugin, TiffImagePlugin, features  # noqa: F401

            # Without WebP support Pillow reports that the file contains no image.
            if kind == media.WEBP and not features.check("webp"):
                raise ImportError("Pillow was built without WebP")
        if kind == media.HEIC:
            import pi_heif  # noqa: F401
    except Exception as error:
        raise DecoderMissing(reason=f"{type(error).__name__}: {error}") from error


def check(content: bytes, kind: str, name: str) -> None:
    """Refuse a PDF or TIFF that OCR refuses, without rendering it. See ``ports.DocumentDecoder``."""
    load(kind)
    with _installed(), product_errors():
        if kind == media.PDF:
            _check_pdf(content, name)
        else:
            _check_tiff(content, name)


def convert(content: bytes, kind: str, name: str, *, most_bytes: int = SYNC_OCR_LIMIT_BYTES) -> bytes:
    """Return the image of a HEIC or WebP as an upright JPEG within the limits of OCR. See ``ports.DocumentDecoder``.

    A HEIC with several images yields the primary one, which viewers show. A sequence or animation is refused, because
    the text of its later images would be lost silently.
    """
    load(kind)
    with _installed(), product_errors(), _damage(name):
        return _jpeg(_heic(content, name) if kind == media.HEIC else _webp(content, name), most_bytes)


def _check_pdf(content: bytes, name: str) -> None:
    import pypdfium2

    with pdfium_errors(name, io.BytesIO(content)), closing(pypdfium2.PdfDocument(content)) as document:
        pages = len(document)
        width, height = document.get_page_size(0) if pages else (0, 0)
    if pages > 1:
        raise UnsupportedDocument(name=name, actual=f"a PDF of {pages} pages")
    if not pages:
        raise UnreadableDocument(name=name, reason="it has no page")
    if min(width, height) <= 0:
        raise UnreadableDocument(name=name, reason="its page has no area")


def _check_tiff(content: bytes, name: str) -> None:
    from PIL import Image, UnidentifiedImageError

    with closing(open_document(content, name, replace(SYNC, pages=_COUNTED_PAGES))) as document:
        pages = document.pages
    if pages > 1:
        raise UnsupportedDocument(name=name, actual=f"a TIFF of {pages} pages")
    with _damage(name):
        _check_samples(content, name)
        # Image.open reads only the header.
        try:
            with Image.open(io.BytesIO(content), formats=("TIFF",)) as image:
                check_size(*image.size, name)
        except (UnidentifiedImageError, KeyError) as error:
            (start,) = struct.unpack("<I" if content[:2] == b"II" else ">I", content[4:8])
            actual = describe_tiff(io.BytesIO(content), start)
            if actual is None:
                raise
            raise UnsupportedDocument(name=name, actual=actual) from error


def _check_samples(content: bytes, name: str) -> None:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    file = io.BytesIO(content)
    directory = ImageFileDirectory_v2(file.read(8))
    file.seek(directory.next)
    directory.load(file)
    bits = _numbers(directory.get(_BITS_PER_SAMPLE, 1))
    if not bits <= _USUAL_BITS:
        raise UnsupportedDocument(name=name, actual=f"a TIFF of {max(bits)} bits a sample")
    if not _numbers(directory.get(_SAMPLE_FORMAT, 1)) <= _USUAL_FORMATS:
        raise UnsupportedDocument(name=name, actual="a TIFF whose samples are no unsigned integers")


def _numbers(value: object) -> set[int]:
    values = value if isinstance(value, tuple) else (value,)
    return {int(each) for each in values}


def _webp(content: bytes, name: str) -> Image.Image:
    from PIL import Image, ImageOps

    claimed = _webp_size(content)
    if claimed is not None:
        _check_area(*claimed, name, WEBP_PIXEL_LIMIT)
    with Image.open(io.BytesIO(content), formats=("WEBP",)) as image:
        _check_area(*image.size, name, WEBP_PIXEL_LIMIT)
        frames = int(getattr(image, "n_frames", 1))
        if frames > 1:
            raise UnsupportedDocument(name=name, actual=f"an animated WebP of {frames} images")
        image.load()
    # The file is closed here, which frees its memory before a second image is made.
    try:
        return ImageOps.exif_transpose(image)
    except _DAMAGE:
        # Damaged EXIF data does not affect the pixels.
        return image.copy()


def _webp_size(content: bytes) -> tuple[int, int] | None:
    """Return the size that a WebP's header claims (RFC 9649, 2.5 to 2.7): opening the file allocates that much."""
    kind, head = content[12:16], content[20:30]
    if len(head) < 10:
        return None
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little")
    if kind == b"VP8L":
        # 14 bits each, after one signature byte.
        bits = int.from_bytes(head[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        # 14 bits each, above them a scale (RFC 6386, 9.1).
        return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF
    return None


def _heic(content: bytes, name: str) -> Image.Image:
    import pi_heif
    from pi_heif import options

    options.DECODE_THREADS = 1
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    try:
        file = pi_heif.open_heif(io.BytesIO(content), convert_hdr_to_8bit=True)
        # libheif applies the container's rotation, mirroring and cropping.
        width, height = file.size
        _check_area(width, height, name, IMAGE_PIXEL_LIMIT)
        image: Image.Image = file.to_pillow()
    except (RuntimeError, ValueError) as error:
        reason = _plain(error)
        if reason.startswith("Memory allocation error"):
            raise DocumentTooCostly(name=name, what="memory") from error
        if "nsupported" in reason:
            actual = f"a HEIC in a form that is not decoded here ({reason})"
            raise UnsupportedDocument(name=name, actual=actual) from error
        raise
    return image


def _check_area(width: int, height: int, name: str, most: int) -> None:
    if width * height > most:
        limit = f"at most {most} in all are read"
        raise ImageTooLarge(name=name, width=width, height=height, limit=limit)


def _jpeg(image: Image.Image, most_bytes: int) -> bytes:
    """Return the image as the best JPEG within OCR's limit of side and ``most_bytes``, without chroma subsampling.

    The same pixels give the same bytes. Metadata, such as the place where the photo was taken, is left out.
    """
    from PIL import Image as Pillow

    image = _flatten(image)
    scale = min(1.0, IMAGE_SIDE_LIMIT_PX / max(image.size))
    while True:
        size = max(1, int(image.width * scale)), max(1, int(image.height * scale))
        page = image if size == image.size else image.resize(size, Pillow.Resampling.LANCZOS)
        for quality in JPEG_QUALITIES:
            file = io.BytesIO()
            page.save(file, "JPEG", quality=quality, subsampling=0)
            if file.tell() <= most_bytes:
                return file.getvalue()
        scale *= _SHRINK


def _flatten(image: Image.Image) -> Image.Image:
    """Return an RGB image without metadata; transparent pixels become white."""
    from PIL import Image as Pillow

    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        over = image if image.mode == "RGBA" else image.convert("RGBA")
        paper = Pillow.new("RGB", over.size, "white")
        paper.paste(over, mask=over.getchannel("A"))
        return paper
    # A copy of an RGB image would double the peak memory.
    plain = image if image.mode == "RGB" else image.convert("RGB")
    plain.info = {}
    return plain


@contextmanager
def _installed() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise DecoderMissing(reason=str(error)) from error


@contextmanager
def _damage(name: str) -> Iterator[None]:
    """Translate what a parser raises for a hostile file into an error of the document."""
    from PIL import Image, UnidentifiedImageError

    try:
        # Sizes are checked separately; parsers continue after everything else that they warn of.
        with warnings.catch_warnings(action="ignore"):
            yield
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(name=name, width="?", height="?", limit=_plain(error)) from error
    except MemoryError as error:
        raise DocumentTooCostly(name=name, what="memory") from error
    except UnidentifiedImageError as error:
        raise UnreadableDocument(name=name, reason="no image can be found in it") from error
    except _DAMAGE as error:
        raise UnreadableDocument(name=name, reason=_plain(error)) from error


def _plain(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
