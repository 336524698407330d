"""Conversion and checks of documents: upright copies, and refusals that name the reason."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image, ImageChops

from photo_worker import media
from photo_worker.adapters.documents import decoding
from photo_worker.errors import (
    DecoderMissing,
    DocumentProtected,
    ImageTooLarge,
    InputError,
    UnreadableDocument,
    UnsupportedDocument,
)
from photo_worker.policies import IMAGE_SIDE_LIMIT_PX
from tests.support import documents
from tests.support.documents import card, encoded, heic
from textract_support import bad_inputs


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content), formats=("JPEG",))
    image.load()
    return image


def converted(content: bytes, kind: str = media.WEBP) -> Image.Image:
    return opened(decoding.convert(content, kind, "photo"))


def assert_alike(image: Image.Image, expected: Image.Image) -> None:
    """Compare pixels within the tolerance of compression."""
    assert image.size == expected.size
    difference = ImageChops.difference(image.convert("L"), expected.convert("L"))
    assert sum(difference.histogram()[64:]) < 0.002 * image.width * image.height


class TestHeic:
    def test_convert_heic_is_rotated_once(self) -> None:
        page = Image.new("RGB", (900, 600), (250, 248, 240))
        from PIL import ImageDraw, ImageFont

        for number, line in enumerate(("Apple Cake", "3 apples", "200 g flour", "Bake for 40 minutes")):
            ImageDraw.Draw(page).text((40, 40 + number * 90), line, fill=(25, 25, 30), font=ImageFont.load_default(44))
        content = heic("turned")
        # Phones record the rotation twice: in the container, which counts, and in the EXIF data.
        assert b"irot" in content
        assert struct.pack(">HHIH", 0x0112, 3, 1, 6) in content
        assert_alike(converted(content, media.HEIC), page)

    def test_convert_heic_of_several_images_takes_primary(self) -> None:
        assert converted(heic("several"), media.HEIC).size == (640, 320)

    def test_convert_heic_transparency_becomes_white(self) -> None:
        image = converted(heic("transparent"), media.HEIC).convert("L")
        assert image.getpixel((5, 5)) == 255
        assert image.getextrema()[0] < 40  # type: ignore[operator]

    @pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
    def test_convert_cut_off_image_is_unreadable(self, share: float) -> None:
        content = heic("turned")
        with pytest.raises(UnreadableDocument):
            decoding.convert(content[: int(len(content) * share)], media.HEIC, "photo")

    def test_convert_heic_claimed_size_is_checked_first(self) -> None:
        content = heic("turned")
        size = b"ispe" + bytes(4)
        claimed = content.replace(size + struct.pack(">II", 600, 900), size + struct.pack(">II", 32_000, 32_000))
        assert claimed != content
        with pytest.raises(InputError):
            decoding.convert(claimed, media.HEIC, "photo")

    def test_convert_heic_without_decoder_is_workers_fault(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "pi_heif", None)
        with pytest.raises(DecoderMissing, match="pi_heif") as caught:
            decoding.convert(heic("turned"), media.HEIC, "photo")
        assert caught.value.fault == "worker"
        assert "pip install" in caught.value.hint


class TestWebp:
    def test_convert_webp_keeps_pixels(self) -> None:
        assert_alike(converted(documents.webp("200 g flour")), card("200 g flour"))

    def test_convert_webp_same_bytes_give_same_copy(self) -> None:
        content = documents.webp("salt")
        assert decoding.convert(content, media.WEBP, "a") == decoding.convert(content, media.WEBP, "b")

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_convert_webp_applies_exif_orientation(self, orientation: int) -> None:
        page = card("Plum Jam")
        stored = {
            1: None,
            2: Image.Transpose.FLIP_LEFT_RIGHT,
            3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_90,
            7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270,
        }[orientation]
        exif = Image.Exif()
        exif[0x0112] = orientation
        content = encoded(page if stored is None else page.transpose(stored), "WEBP", lossless=True, exif=exif)
        assert_alike(converted(content), page)

    def test_convert_webp_with_damaged_exif_succeeds(self) -> None:
        assert_alike(converted(encoded(card("Pie"), "WEBP", lossless=True, exif=b"Exif\0\0MM\0*\xff")), card("Pie"))

    def test_convert_webp_removes_metadata(self) -> None:
        exif = Image.Exif()
        exif[0x010F] = "a camera"
        copy = converted(encoded(card("Pie"), "WEBP", exif=exif, icc_profile=b"a profile"))
        assert dict(copy.getexif()) == {}
        assert copy.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}

    def test_convert_webp_animation_is_refused(self) -> None:
        with pytest.raises(UnsupportedDocument, match="an animated WebP of 3 images"):
            decoding.convert(documents.animated_webp(), media.WEBP, "photo")

    def test_convert_webp_long_side_is_scaled_down(self) -> None:
        panorama = encoded(Image.new("RGB", (12_000, 600), "white"), "WEBP", lossless=True, method=0)
        image = converted(panorama)
        assert image.width == IMAGE_SIDE_LIMIT_PX
        assert image.height == 500

    def test_convert_webp_too_many_bytes_are_reduced(self) -> None:
        noise = Image.effect_noise((500, 400), 90).convert("RGB")
        content = encoded(noise, "WEBP", lossless=True, method=0)
        copy = decoding.convert(content, media.WEBP, "photo", most_bytes=60_000)
        assert len(copy) <= 60_000
        assert opened(copy).width >= 250

    def test_convert_webp_huge_canvas_is_refused(self) -> None:
        # An extended WebP whose canvas claims 16,384 x 16,384 pixels and that contains an image of 640 x 240.
        exif = Image.Exif()
        exif[0x010F] = "a camera"
        content = encoded(card("Pie"), "WEBP", exif=exif)
        assert content[12:16] == b"VP8X"
        bomb = content[:24] + (16_383).to_bytes(3, "little") * 2 + content[30:]
        with pytest.raises(ImageTooLarge, match="16384 x 16384"):
            decoding.convert(bomb, media.WEBP, "photo")

    @pytest.mark.parametrize("content", [b"RIFF\x04\0\0\0WEBP", documents.webp("Pie")[:60]])
    def test_convert_cut_off_image_is_unreadable(self, content: bytes) -> None:
        with pytest.raises(UnreadableDocument):
            decoding.convert(content, media.WEBP, "photo")


class TestCheck:
    def test_check_single_page_is_accepted(self) -> None:
        decoding.check(documents.pdf(1), media.PDF, "page")
        for mode in ("1", "L", "RGB", "CMYK", "I;16"):
            decoding.check(documents.tiff(mode=mode), media.TIFF, "page")

    def test_check_fixtures_are_accepted(self) -> None:
        from tests.support.harness import FIXTURES

        decoding.check((FIXTURES / "photos/single-page.pdf").read_bytes(), media.PDF, "page")
        decoding.check((FIXTURES / "photos/scan.tif").read_bytes(), media.TIFF, "page")

    @pytest.mark.parametrize(
        ("content", "kind", "actual"),
        [
            (documents.pdf(12), media.PDF, "a PDF of 12 pages"),
            (documents.tiff(3), media.TIFF, "a TIFF of 3 pages"),
            (documents.tiff(mode="I"), media.TIFF, "a TIFF of 32 bits a sample"),
            (documents.tiff(mode="F"), media.TIFF, "a TIFF of 32 bits a sample"),
        ],
    )
    def test_check_unsupported_document_is_named(self, content: bytes, kind: str, actual: str) -> None:
        with pytest.raises(UnsupportedDocument, match=actual):
            decoding.check(content, kind, "document")

    def test_check_signed_samples_are_refused(self) -> None:
        content = bytearray(documents.tiff(mode="I;16"))
        # A TIFF entry (TIFF 6.0, section 2): tag, type, count and value, here one short.
        content = content.replace(struct.pack("<HHIH", 258, 3, 1, 16), struct.pack("<HHIH", 339, 3, 1, 2))
        with pytest.raises(UnsupportedDocument, match="no unsigned integers"):
            decoding.check(bytes(content), media.TIFF, "document")

    def test_check_pdf_with_password_is_protected(self) -> None:
        with pytest.raises(DocumentProtected, match="protected by a password"):
            decoding.check(documents.protected_pdf(), media.PDF, "document")

    def test_check_pdf_with_certificate_is_protected(self) -> None:
        with pytest.raises(DocumentProtected, match="protected by a certificate"):
            decoding.check(bad_inputs.certificate_pdf(), media.PDF, "document")

    @pytest.mark.parametrize(
        ("content", "kind"),
        [
            (b"%PDF-1.7 and nothing else", media.PDF),
            (documents.pdf(1)[:1500], media.PDF),
            (documents.tiff()[:9], media.TIFF),
            (b"II*\0" + b"\xff" * 40, media.TIFF),
        ],
    )
    def test_check_damaged_document_is_unreadable(self, content: bytes, kind: str) -> None:
        with pytest.raises(UnreadableDocument):
            decoding.check(content, kind, "document")

    def test_check_page_without_area_is_unreadable(self) -> None:
        whole = b"/MediaBox [ 0 0 640.0 240.0 ]"
        flat = documents.pdf(1).replace(whole, whole + b" /CropBox [ 900 900 999 999 ]")
        assert flat != documents.pdf(1)
        with pytest.raises(UnreadableDocument):
            decoding.check(flat, media.PDF, "document")

    def test_check_cyclic_tiff_directories_terminate(self) -> None:
        one = documents.tiff()
        (at,) = struct.unpack("<I", one[4:8])
        (entries,) = struct.unpack("<H", one[at : at + 2])
        link = at + 2 + 12 * entries
        decoding.check(one[:link] + struct.pack("<I", at) + one[link + 4 :], media.TIFF, "document")


def with_tag(tiff: bytes, tag: int, value: int) -> bytes:
    """Return a little-endian TIFF with another value in the SHORT entry of this tag."""
    content = bytearray(tiff)
    (start,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, start)
    for place in range(start + 2, start + 2 + 12 * entries, 12):
        if struct.unpack_from("<H", content, place)[0] == tag:
            struct.pack_into("<H", content, place + 8, value)
            return bytes(content)
    raise AssertionError(tag)


@pytest.mark.parametrize(
    ("tag", "value", "named"),
    [
        (259, 34712, "a TIFF packed as JPEG 2000"),
        (259, 34661, "a TIFF packed as JBIG"),
        (262, 32803, "photometric 32803"),
    ],
)
def test_check_rare_tiff_is_unsupported_not_damaged(tag: int, value: int, named: str) -> None:
    with pytest.raises(UnsupportedDocument, match=named):
        decoding.check(with_tag(documents.tiff(), tag, value), media.TIFF, "scan")


def test_check_pdf_without_pages_reports_no_success() -> None:
    """PDFium reports no error for a catalogue without pages: its last error is about the previous document."""
    with pytest.raises(DocumentProtected):
        decoding.check(bad_inputs.certificate_pdf(), media.PDF, "secret")
    content = documents.pdf(1).replace(b"/Type /Catalog", b"/Type /Cabalog").replace(b"/Pages ", b"/Sages ")
    with pytest.raises(UnreadableDocument, match="no page") as caught:
        decoding.check(content, media.PDF, "page")
    assert "Success" not in caught.value.message
