"""``DocumentReader.page``: what is read, what is rendered again, and how a kept reading is used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from textract_local.errors import EngineUnavailable, UnreadableDocument, UnsupportedDocument
from textract_local.reader.analysis.request import Analysis
from textract_local.reader.document import ASYNC, SYNC
from textract_local.reader.reader import DocumentReader, PageRequest
from textract_support.pages import encoded, font

TABLES = Analysis(frozenset({"TABLES"}))
WORDS = ("flour", "butter", "sugar", "vanilla")


def ruled(first: str) -> Image.Image:
    """Return a page with a ruled table of two rows and two columns."""
    image = Image.new("RGB", (1000, 600), "white")
    draw = ImageDraw.Draw(image)
    for x in (100, 500, 900):
        draw.line([(x, 100), (x, 500)], fill="black", width=4)
    for y in (100, 300, 500):
        draw.line([(100, y), (900, y)], fill="black", width=4)
    for number, text in enumerate((first, *WORDS[1:])):
        draw.text((150 + 400 * (number % 2), 170 + 200 * (number // 2)), text, fill="black", font=font(52))
    return image


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("book") / "book.tif"
    path.write_bytes(encoded(ruled("salt"), "TIFF", save_all=True, append_images=[ruled("flour")]))
    return path


@pytest.fixture
def second(book: Path) -> PageRequest:
    return PageRequest(book, "book", 2, "seed", ASYNC)


def texts(blocks: list[dict[str, Any]], kind: str = "WORD") -> list[str]:
    return [block["Text"] for block in blocks if block["BlockType"] == kind]


def kinds(blocks: list[dict[str, Any]]) -> set[str]:
    return {block["BlockType"] for block in blocks}


def test_reader_page_number_selects_page(reader: DocumentReader, book: Path, second: PageRequest) -> None:
    assert reader.pages(book, "book", ASYNC) == 2
    response = reader.page(second)
    assert sorted(texts(response.blocks)) == sorted(WORDS)
    assert (response.recognised, response.reading is not None) == (True, True)
    assert not any("Page" in block for block in response.blocks)
    with pytest.raises(UnreadableDocument, match="no page 3"):
        reader.page(replace(second, number=3))


def test_reader_page_kept_reading_needs_no_document(
    reader: DocumentReader, second: PageRequest, tmp_path: Path
) -> None:
    first = reader.page(second)
    again = reader.page(replace(second, source=tmp_path / "gone", kept=first.reading, checked=True))
    assert (again.blocks, again.reading, again.recognised) == (first.blocks, None, False)


def test_reader_page_analysis_of_kept_text_skips_recognition(reader: DocumentReader, second: PageRequest) -> None:
    text = reader.page(second)
    at_once = reader.page(replace(second, analysis=TABLES))
    later = reader.page(replace(second, analysis=TABLES, kept=text.reading, checked=True))
    assert "CELL" in kinds(at_once.blocks)
    assert (at_once.recognised, later.recognised) == (True, False)
    assert (later.blocks, later.reading) == (at_once.blocks, at_once.reading)
    # With marks in the kept reading, the document is no longer needed.
    third = reader.page(replace(second, analysis=TABLES, kept=later.reading, checked=True, source=Path("gone")))
    assert (third.blocks, third.reading) == (later.blocks, None)


def test_reader_page_kept_reading_still_obeys_limits(reader: DocumentReader, second: PageRequest) -> None:
    first = replace(second, number=1)
    kept = reader.page(first).reading
    with pytest.raises(UnsupportedDocument, match="several pages"):
        reader.page(replace(first, kept=kept, limits=SYNC))


@pytest.mark.parametrize("kept", [b"", b"{", b"[]", b'{"frame": null, "lines": []}'])
def test_reader_page_damaged_kept_reading_is_read_again(
    reader: DocumentReader, second: PageRequest, kept: bytes
) -> None:
    response = reader.page(replace(second, kept=kept, checked=True))
    assert (response.recognised, sorted(texts(response.blocks))) == (True, sorted(WORDS))


def test_reader_page_other_seed_changes_only_ids(reader: DocumentReader, second: PageRequest) -> None:
    first = reader.page(second)
    other = reader.page(replace(second, seed="another", kept=first.reading, checked=True))
    assert texts(other.blocks) == texts(first.blocks)
    assert {block["Id"] for block in other.blocks}.isdisjoint(block["Id"] for block in first.blocks)


def test_reader_version_without_engine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("textract_local.reader.ocrust_engine.version", missing)
    with pytest.raises(EngineUnavailable):
        _ = DocumentReader().version
