"""Read a drawn table with the engine and the analysis, as any document, and compare it cell by cell."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from textract_local.reader.analysis.request import Analysis
from textract_local.reader.reader import DocumentReader, PageRequest
from textract_support.drawn import MERIDIAN, Drawing, draw_grid


@pytest.fixture(scope="module")
def reader() -> DocumentReader:
    return DocumentReader(threads=1)


def analysed(reader: DocumentReader, image: Image.Image, directory: Path) -> list[dict[str, Any]]:
    file = io.BytesIO()
    image.save(file, "PNG")
    path = directory / "document"
    path.write_bytes(file.getvalue())
    request = PageRequest(path, "document", 1, "seed", analysis=Analysis(frozenset({"TABLES"})))
    return list(reader.page(request).blocks)


def cell_texts(blocks: list[dict[str, Any]]) -> list[list[str]]:
    by_id = {block["Id"]: block for block in blocks}
    cells = [block for block in blocks if block["BlockType"] == "CELL"]
    rows = [
        ["" for _ in range(max(cell["ColumnIndex"] for cell in cells))] for _ in {cell["RowIndex"] for cell in cells}
    ]
    for cell in cells:
        words = [each for relation in cell.get("Relationships", ()) for each in relation["Ids"]]
        rows[cell["RowIndex"] - 1][cell["ColumnIndex"] - 1] = " ".join(by_id[word]["Text"] for word in words)
    return rows


@pytest.mark.parametrize("degrees", [0, 90, 5])
def test_reader_page_photographed_table_has_cell_texts(reader: DocumentReader, tmp_path: Path, degrees: float) -> None:
    page = Drawing(size=30)
    page.write(100, 70, "Shopping for the week")
    draw_grid(page, MERIDIAN)
    image = page.image.rotate(-degrees, Image.Resampling.BICUBIC, expand=True, fillcolor="white")
    blocks = analysed(reader, image, tmp_path)
    assert [block["BlockType"] for block in blocks].count("TABLE") == 1
    assert cell_texts(blocks) == MERIDIAN
    (table,) = (block for block in blocks if block["BlockType"] == "TABLE")
    box = table["Geometry"]["BoundingBox"]
    if not degrees:
        assert (box["Left"], box["Top"]) == pytest.approx((0.1, 150 / 800), abs=0.01)
        assert (box["Width"], box["Height"]) == pytest.approx((0.66, 280 / 800), abs=0.01)
    # Turned by 90 degrees, the table's own top left corner is at the top right of the image.
    corner = table["Geometry"]["Polygon"][0]
    if degrees == 90:
        assert (corner["X"], corner["Y"]) == pytest.approx((1 - 150 / 800, 0.1), abs=0.01)
