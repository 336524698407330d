"""A reader that decodes documents like the project's own, but recognises no text."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from textract_local.reader.blocks import Ids
from textract_local.reader.document import DocumentLimits, open_document
from textract_local.reader.reader import PageRequest, PageResult

FACTORY = "textract_support.decode_only_reader:DecodeOnlyReader"
CORNERS = [{"X": x, "Y": y} for x, y in ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))]
WHOLE = {"BoundingBox": {"Width": 1.0, "Height": 1.0, "Left": 0.0, "Top": 0.0}, "Polygon": CORNERS}


class DecodeOnlyReader:
    """Returns a page's PAGE block after decoding its image."""

    engine = "looking"
    version = "1"

    def warm(self) -> None:
        import PIL.Image
        import pypdfium2  # noqa: F401

        PIL.Image.init()

    def pages(self, source: Path | bytes, name: str, limits: DocumentLimits, /) -> int:
        with closing(open_document(source, name, limits)) as document:
            return document.pages

    def page(self, request: PageRequest, /) -> PageResult:
        with closing(open_document(request.source, request.name, request.limits)) as document:
            image = document.image(request.number)
        # As for the engine: the whole image in its own mode.
        assert image.mode == "RGB"
        image.tobytes()
        block = {"BlockType": "PAGE", "Geometry": WHOLE, "Id": Ids(request.seed, request.number).next()}
        return PageResult([block], None, recognised=True)
