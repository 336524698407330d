"""``read``: bytes and paths, text and analysis, one page and several, and another engine."""

from __future__ import annotations

import io
import os
import socket
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from textract_local import (
    DocumentReader,
    EngineReading,
    EngineWord,
    Frame,
    PageRequest,
    PageResult,
    read,
)
from textract_local.errors import DocumentMissing, EngineFailed, FeatureUnknown, UnsupportedDocument
from textract_local.reader.sources import source_of

pytestmark = pytest.mark.single_python


def page(text: str) -> Image.Image:
    image = Image.new("RGB", (900, 300), "white")
    ImageDraw.Draw(image).text((60, 100), text, fill="black", font=ImageFont.load_default(60))
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def lines(response: dict[str, Any]) -> list[str]:
    return [block["Text"] for block in response["Blocks"] if block["BlockType"] == "LINE"]


class OneWord:
    """An engine that finds the same word on every page."""

    name = "one-word"
    version = "1"

    def warm(self) -> None:
        """Load nothing."""

    def read(self, image: Image.Image) -> EngineReading:
        width, height = image.size
        return EngineReading(Frame(width, height, width, height), ((EngineWord("hello", 0.5, 10, 10, 90, 30),),))


@pytest.fixture(scope="module")
def reader() -> DocumentReader:
    return DocumentReader(threads=1)


def test_read_bytes_equals_text_response_of_reader(reader: DocumentReader) -> None:
    content = encoded(page("vanilla sugar"))
    response = read(content, reader=reader)
    assert response == reader.read(content, "document")
    assert (lines(response), response["DetectDocumentTextModelVersion"]) == (["vanilla sugar"], "1.0")


def test_read_path_equals_bytes(reader: DocumentReader, tmp_path: Path) -> None:
    content = encoded(page("vanilla sugar"))
    (tmp_path / "photo.png").write_bytes(content)
    assert read(tmp_path / "photo.png", reader=reader) == read(content, reader=reader)


def test_read_with_features_and_query_is_an_analysis(reader: DocumentReader) -> None:
    response = read(encoded(page("Total: 40 EUR")), ["LAYOUT"], queries=["What is the total?"], reader=reader)
    kinds = {block["BlockType"] for block in response["Blocks"]}
    assert "QUERY" in kinds
    assert any(kind.startswith("LAYOUT_") for kind in kinds)
    assert "AnalyzeDocumentModelVersion" in response


def test_read_several_pages_numbers_their_blocks(reader: DocumentReader) -> None:
    content = encoded(page("flour"), "TIFF", save_all=True, append_images=[page("butter")])
    response = read(content, reader=reader)
    assert response["DocumentMetadata"] == {"Pages": 2}
    words = {block["Text"]: block["Page"] for block in response["Blocks"] if block["BlockType"] == "WORD"}
    assert words == {"flour": 1, "butter": 2}


def test_read_unknown_feature_is_refused_before_reading() -> None:
    with pytest.raises(FeatureUnknown, match="'TABLE'; known are FORMS, LAYOUT"):
        read(b"", ["TABLE"])


def test_read_string_in_place_of_list_is_refused() -> None:
    with pytest.raises(TypeError, match=r"features is the string 'TABLES'; give a list: \['TABLES'\]"):
        read(b"", "TABLES")
    with pytest.raises(TypeError, match=r"queries is the string 'Total\?'; give a list"):
        read(b"", queries="Total?")


def test_read_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentMissing, match=r"gone\.png.*No such file"):
        read(tmp_path / "gone.png")


def test_read_link_equals_its_file(reader: DocumentReader, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(encoded(page("vanilla sugar")))
    (tmp_path / "link.png").symlink_to("photo.png")
    assert read(tmp_path / "link.png", reader=reader) == read(tmp_path / "photo.png", reader=reader)


def test_read_named_pipe_equals_bytes(reader: DocumentReader, tmp_path: Path) -> None:
    pipe, content = tmp_path / "pipe", encoded(page("vanilla sugar"))
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as threads:
        written = threads.submit(pipe.write_bytes, content)
        assert read(pipe, reader=reader) == read(content, reader=reader)
        assert written.result(timeout=60) == len(content)


def test_source_of_pipe_without_writer_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DocumentMissing, match=r"pipe' cannot be read: nothing came from it"):
        source_of(tmp_path / "pipe", 1000, silence_seconds=0.1)


def test_source_of_endless_device_is_read_within_limit() -> None:
    assert source_of("/dev/zero", 1000) == bytes(1001)


def test_read_unnamed_file_is_read_from_its_descriptor(reader: DocumentReader) -> None:
    content = encoded(page("vanilla sugar"))
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        file.seek(0)
        assert read(f"/dev/fd/{file.fileno()}", reader=reader) == read(content, reader=reader)


@pytest.mark.parametrize("kind", ["directory", "circular link", "socket"])
def test_read_path_that_is_no_document_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    if kind == "directory":
        path.mkdir()
    elif kind == "circular link":
        path.symlink_to("a")
    else:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    with pytest.raises(DocumentMissing, match="a' cannot be read: "):
        read(path)


def test_read_file_that_vanishes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(page("flour")))

    class Vanishing(DocumentReader):
        def page(self, request: PageRequest) -> PageResult:
            path.unlink()
            return super().page(request)

    with pytest.raises(DocumentMissing, match=r"photo\.png' cannot be read: No such file"):
        read(path, reader=Vanishing(engine=OneWord()))


def test_read_error_of_engines_own_file_names_it(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(encoded(page("flour")))

    class WithoutModels(OneWord):
        def read(self, image: Image.Image) -> EngineReading:
            raise FileNotFoundError(2, "No such file or directory", "models/words")

    with pytest.raises(EngineFailed, match=r"'one-word' failed on .*: models/words: No such file") as caught:
        read(tmp_path / "photo.png", reader=DocumentReader(engine=WithoutModels()))
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_read_unsupported_document_is_refused(reader: DocumentReader) -> None:
    with pytest.raises(UnsupportedDocument, match="a GIF"):
        read(encoded(page("x"), "GIF"), reader=reader)


def test_read_with_another_engine_returns_its_words() -> None:
    response = read(encoded(page("unseen")), reader=DocumentReader(engine=OneWord()))
    assert lines(response) == ["hello"]
