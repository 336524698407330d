"""PDFs of a few hundred bytes that take gigabytes or minutes to render."""

from __future__ import annotations

import zlib
from collections.abc import Sequence


def one_page(content: bytes, resources: bytes = b"", others: Sequence[bytes] = ()) -> bytes:
    """Return a PDF of one page of 612 x 792 points; the first of ``others`` is object 5."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<<%s>>>>" % resources,
        stream(b"", content),
        *others,
    ]
    written = b"".join(b"%d 0 obj\n%s\nendobj\n" % each for each in enumerate(objects, 1))
    return b"%PDF-1.7\n" + written + b"trailer\n<</Root 1 0 R>>\n%%EOF\n"


def stream(entries: bytes, data: bytes) -> bytes:
    """Return a stream object."""
    return b"<<%s/Length %d>>\nstream\n%s\nendstream" % (entries, len(data), data)


def slow() -> bytes:
    """Return a page filled with a pattern of some five billion tiles: rendering takes minutes."""
    tile = b"/Type/Pattern/PatternType 1/PaintType 1/TilingType 1/BBox[0 0 1 1]/XStep 0.01/YStep 0.01/Resources<<>>"
    return one_page(b"/Pattern cs /P scn 0 0 612 792 re f", b"/Pattern<</P 5 0 R>>", [stream(tile, b"0 0 1 1 re f")])


def greedy() -> bytes:
    """Return a page with a form that draws itself twice: rendering takes all memory."""
    form = b"/Type/XObject/Subtype/Form/BBox[0 0 612 792]/Resources<</XObject<</F 5 0 R>>>>"
    return one_page(b"/F Do", b"/XObject<</F 5 0 R>>", [stream(form, b"/F Do /F Do")])


def greedy_table() -> bytes:
    """Return a PDF whose object table decompresses to 3 GB: counting its pages takes all memory."""
    packing = zlib.compressobj(9)
    data = b"".join([*(packing.compress(bytes(1 << 20)) for _ in range(3000)), packing.flush()])
    table = stream(b"/Type/XRef/Size 5/W[1 4 0]/Root 1 0 R/Filter/FlateDecode", data)
    return b"%PDF-1.7\n" + b"4 0 obj\n" + table + b"\nendobj\nstartxref\n9\n%%EOF\n"
