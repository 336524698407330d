"""A picture that shows every wrong rotation and range of grey, and PDFs written object by object."""

from __future__ import annotations

from PIL import Image

# Dark on the left, light on the right, with a distinct corner: it reveals every wrong rotation and range of grey.
DARK, LIGHT, CORNER = 40, 220, 130


def card() -> Image.Image:
    image = Image.new("L", (60, 40), LIGHT)
    image.paste(DARK, (0, 0, 30, 40))
    image.paste(CORNER, (0, 0, 12, 12))
    return image


def assert_shows_the_card(image: Image.Image, *, within: int = 6) -> None:
    assert (image.mode, image.size) == ("RGB", (60, 40))
    for place, grey in {(5, 5): CORNER, (20, 30): DARK, (50, 20): LIGHT}.items():
        pixel = image.getpixel(place)
        assert isinstance(pixel, tuple)
        assert all(abs(band - grey) <= within for band in pixel), (place, pixel)


def pdf(*objects: bytes, trailer: bytes = b"") -> bytes:
    """Return a PDF of these objects, numbered from 1; the first is its catalogue."""
    body, places = b"%PDF-1.7\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    table += b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer\n<< /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, len(body))
    return body + table + end


def stream(content: bytes, entries: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(content), entries, content)


def pdf_page(box: bytes, drawing: bytes = b"", *others: bytes, resources: bytes = b"", catalogue: bytes = b"") -> bytes:
    """Return a PDF of one page; ``others`` are the objects from 5 on."""
    return pdf(
        b"<< /Type /Catalog /Pages 2 0 R %s >>" % catalogue,
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [%s] /Contents 4 0 R /Resources << %s >> %s >>"
        % (box, resources, b"/Annots [5 0 R]" if catalogue else b""),
        stream(drawing),
        *others,
    )
