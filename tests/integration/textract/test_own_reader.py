"""The stack's emulator with the project's own reader: responses for real photos have the service's structure."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from botocore.exceptions import ClientError
from botocore.loaders import Loader
from PIL import Image, ImageDraw, ImageFont
from trp import Document as FirstDocument
from trp.trp2 import TDocumentSchema

from textract_support.clients import client_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_textract import TextractClient

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures"
INDEX = {entry["name"]: entry for entry in json.loads((FIXTURES / "index.json").read_text("utf-8"))["fixtures"]}

KEYS = {
    "PAGE": ["BlockType", "Geometry", "Id", "Relationships"],
    "LINE": ["BlockType", "Confidence", "Text", "Geometry", "Id", "Relationships"],
    "WORD": ["BlockType", "Confidence", "Text", "TextType", "Geometry", "Id"],
}


@pytest.fixture(scope="module")
def stack_textract(stack_env: dict[str, str]) -> Iterator[TextractClient]:
    client = client_of(stack_env, stack_env["AWS_ENDPOINT_URL_TEXTRACT"])
    yield client
    client.close()


def photo(name: str) -> bytes:
    return (FIXTURES / str(INDEX[name]["file"])).read_bytes()


def faults(shape: str, value: Any, shapes: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield the differences of a value from the service description, independently of the emulator's check."""
    rule = shapes[shape]
    if rule["type"] == "structure" and isinstance(value, dict):
        for name, item in value.items():
            if name in rule["members"]:
                yield from faults(rule["members"][name]["shape"], item, shapes, f"{path}.{name}")
            else:
                yield f"{path} has {name}"
    elif rule["type"] == "list" and isinstance(value, list):
        for item in value:
            yield from faults(rule["member"]["shape"], item, shapes, f"{path}[]")
    elif not fits(rule, value):
        yield f"{path} may not be {value!r}"


def fits(rule: dict[str, Any], value: Any) -> bool:
    match rule["type"]:
        case "string":
            pattern = rule.get("pattern", ".*")
            return isinstance(value, str) and value in rule.get("enum", [value]) and bool(re.fullmatch(pattern, value))
        case "integer":
            return type(value) is int and value >= rule.get("min", 0)
        case "float":
            return type(value) in {int, float} and rule.get("min", 0) <= value <= rule.get("max", float("inf"))
    return False


def envelope_fits(geometry: dict[str, Any]) -> bool:
    box, xs, ys = geometry["BoundingBox"], [p["X"] for p in geometry["Polygon"]], [p["Y"] for p in geometry["Polygon"]]
    expected = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
    return all(
        abs(a - b) < 1e-6 for a, b in zip((box["Left"], box["Top"], box["Width"], box["Height"]), expected, strict=True)
    )


def recall(name: str, response: Any) -> float:
    wanted = Counter(word.lower() for word in INDEX[name]["words"])
    found = Counter(block["Text"].lower() for block in response["Blocks"] if block["BlockType"] == "WORD")
    return (wanted & found).total() / wanted.total()


@pytest.mark.stack
@pytest.mark.parametrize("name", ["clean-print", "rotated-90", "scan", "single-page"])
def test_detect_photo_has_structure_of_service(stack_textract: TextractClient, name: str) -> None:
    response: dict[str, Any] = dict(stack_textract.detect_document_text(Document={"Bytes": photo(name)}))
    response.pop("ResponseMetadata")
    assert list(response) == ["DocumentMetadata", "Blocks", "DetectDocumentTextModelVersion"]
    assert response["DocumentMetadata"] == {"Pages": 1}

    service = Loader().load_service_model("textract", "service-2")
    assert list(faults("DetectDocumentTextResponse", response, service["shapes"])) == []

    blocks = {block["Id"]: block for block in response["Blocks"]}
    assert len(blocks) == len(response["Blocks"])
    for block in response["Blocks"]:
        assert list(block) == KEYS[block["BlockType"]]
        assert envelope_fits(block["Geometry"])
        assert UUID(block["Id"])
    kinds = [block["BlockType"] for block in response["Blocks"]]
    assert kinds == sorted(kinds, key=["PAGE", "LINE", "WORD"].index)
    ordered = {kind: [block["Id"] for block in response["Blocks"] if block["BlockType"] == kind] for kind in KEYS}
    (page,) = ordered["PAGE"]
    assert blocks[page]["Relationships"] == [{"Type": "CHILD", "Ids": ordered["LINE"]}]
    assert [word for line in ordered["LINE"] for word in blocks[line]["Relationships"][0]["Ids"]] == ordered["WORD"]
    for line in ordered["LINE"]:
        words = [blocks[word] for word in blocks[line]["Relationships"][0]["Ids"]]
        assert blocks[line]["Text"] == " ".join(word["Text"] for word in words)
        mean = sum(word["Confidence"] for word in words) / len(words)
        assert abs(blocks[line]["Confidence"] - mean) < 0.01
    assert recall(name, response) >= INDEX[name]["expected"]["min_word_recall"]


@pytest.mark.stack
def test_detect_response_is_parsed_by_trp_and_trp2(stack_textract: TextractClient) -> None:
    response = stack_textract.detect_document_text(Document={"Bytes": photo("clean-print")})
    lines = [block["Text"] for block in response["Blocks"] if block["BlockType"] == "LINE"]
    assert [line.text for page in FirstDocument(response).pages for line in page.lines] == lines
    loaded = TDocumentSchema().load(json.loads(json.dumps(response)))
    assert [line.text for page in loaded.pages for line in loaded.lines(page)] == lines
    assert lines[0].startswith("Lemon")


@pytest.mark.stack
def test_detect_blank_page_is_one_page_block(stack_textract: TextractClient) -> None:
    file = io.BytesIO()
    Image.new("L", (400, 300), 255).save(file, "PNG")
    response = stack_textract.detect_document_text(Document={"Bytes": file.getvalue()})
    assert [block["BlockType"] for block in response["Blocks"]] == ["PAGE"]
    assert FirstDocument(response).pages[0].lines == []


@pytest.mark.stack
def test_detect_s3_photo_equals_inline_photo(stack_textract: TextractClient, s3_client: S3Client, bucket: str) -> None:
    s3_client.put_object(Bucket=bucket, Key="Omas Rezepte/a+b.png", Body=photo("clean-print"))
    stored = stack_textract.detect_document_text(
        Document={"S3Object": {"Bucket": bucket, "Name": "Omas Rezepte/a+b.png"}}
    )
    inline = stack_textract.detect_document_text(Document={"Bytes": photo("clean-print")})
    assert stored["Blocks"] == inline["Blocks"]


def picture(words: str) -> bytes:
    file = io.BytesIO()
    image = Image.new("L", (620, 140), 255)
    ImageDraw.Draw(image).text((40, 35), words, fill=0, font=ImageFont.load_default(60))
    image.save(file, "PNG")
    return file.getvalue()


def pages(count: int, kind: str) -> bytes:
    file = io.BytesIO()
    sheets = [Image.new("RGB", (200, 100), "white") for _ in range(count)]
    sheets[0].save(file, kind, save_all=True, append_images=sheets[1:])
    return file.getvalue()


def wide(side: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (side, 20), 255).save(file, "PNG")
    return file.getvalue()


@pytest.mark.stack
@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(pages(2, "TIFF"), "UnsupportedDocumentException", id="tiff-of-2-pages"),
        pytest.param(pages(2, "PDF"), "UnsupportedDocumentException", id="pdf-of-2-pages"),
        pytest.param(pages(1, "GIF"), "UnsupportedDocumentException", id="gif"),
        pytest.param(b"flour, butter, sugar", "UnsupportedDocumentException", id="text"),
        pytest.param(wide(10_001), "UnsupportedDocumentException", id="10001-pixels"),
        pytest.param(photo("clean-print")[:9000], "BadDocumentException", id="truncated-png"),
        pytest.param(photo("form")[:9000], "BadDocumentException", id="truncated-jpeg"),
        pytest.param(b"%PDF-1.7\n" + bytes(100), "BadDocumentException", id="broken-pdf"),
    ],
)
def test_detect_unreadable_document_is_refused_and_next_is_read(
    stack_textract: TextractClient, content: bytes, code: str
) -> None:
    with pytest.raises(ClientError) as caught:
        stack_textract.detect_document_text(Document={"Bytes": content})
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    readable = picture("READY 2468")
    assert stack_textract.detect_document_text(Document={"Bytes": readable})["Blocks"]


@pytest.mark.stack
def test_detect_16_concurrent_photos_are_not_mixed_up(stack_textract: TextractClient) -> None:
    words = [f"CARD {1000 + 37 * number}" for number in range(16)]

    def read(text: str) -> str:
        response = stack_textract.detect_document_text(Document={"Bytes": picture(text)})
        return " ".join(block["Text"] for block in response["Blocks"] if block["BlockType"] == "LINE")

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(read, words)) == words
