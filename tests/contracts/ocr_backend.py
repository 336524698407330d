"""What every ``OcrBackend`` does. A subclass gives the fixtures ``backend`` and ``place``.

``place`` puts bytes where the backend finds documents and returns the reference to them. What has
documents opened, by itself or by a service, keeps ``ReadingBackendContract`` too.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID, uuid4

import pytest
from PIL import Image, ImageDraw, ImageFont

from photo_worker.errors import InputError
from photo_worker.ports.object_store import DocumentRef, ObjectStore
from photo_worker.ports.ocr import DetectedText, OcrBackend
from textract_support.bad_inputs import BAD_INPUTS

Place = Callable[[bytes], DocumentRef]

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
PHOTOS: dict[str, dict[str, Any]] = {
    entry["name"]: entry for entry in json.loads((FIXTURES / "index.json").read_text("utf-8"))["fixtures"]
}

BAD_CODES = {
    "zero bytes": "document_unreadable",
    "text named PNG": "document_unsupported",
    "HTML named JPEG": "document_unsupported",
    "truncated JPEG": "document_unreadable",
    "truncated PNG": "document_unreadable",
    "truncated TIFF": "document_unreadable",
    "truncated PDF": "document_unreadable",
    "damaged PNG": "document_unreadable",
    "side of 10,001 pixels": "image_too_large",
    "decompression bomb": "image_too_large",
    "lying header": "image_too_large",
    "over 10 MB": "document_too_large",
    "GIF": "document_unsupported",
    "two-page TIFF": "document_unsupported",
    "two-page PDF": "document_unsupported",
}


def photo(name: str) -> bytes:
    return (FIXTURES / str(PHOTOS[name]["file"])).read_bytes()


def note(words: str) -> bytes:
    """Return a JPEG of a few words, which is read in a fraction of a photo's time."""
    image = Image.new("L", (360, 100), 255)
    ImageDraw.Draw(image).text((20, 30), words, fill=0, font=ImageFont.load_default(36))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def place_in(store: ObjectStore, bucket: str) -> Place:
    """Return a ``place`` that puts documents into a bucket, under keys that are no plain names."""

    def place(content: bytes) -> DocumentRef:
        key = f"Omas Küche/{uuid4()} +1.jpg"
        store.put(bucket, key, content, content_type="image/jpeg")
        return DocumentRef(bucket, key, "image/jpeg", len(content), hashlib.sha256(content).hexdigest())

    return place


def as_stored(detected: DetectedText) -> bytes:
    return json.dumps(detected.response, ensure_ascii=False).encode()


def words_of(response: Mapping[str, Any]) -> list[str]:
    return [block["Text"].lower() for block in response["Blocks"] if block["BlockType"] == "WORD"]


class OcrBackendContract:
    """``engine`` is the backend's name, ``small`` are documents that it reads, all different."""

    engine: ClassVar[str]
    small: ClassVar[Sequence[bytes]] = [photo(name) for name in ("clean-print", "form", "accents", "small-640")]

    @pytest.fixture
    def backend(self) -> OcrBackend:
        raise NotImplementedError

    @pytest.fixture
    def place(self) -> Place:
        raise NotImplementedError

    def test_engine_is_the_backends_name(self, backend: OcrBackend) -> None:
        assert backend.engine == self.engine

    @pytest.mark.parametrize("name", ["clean-print", "rotated-90", "exif-orientation-6", "single-page", "scan"])
    def test_detect_text_finds_the_words_of_a_photo(self, backend: OcrBackend, place: Place, name: str) -> None:
        detected = backend.detect_text(place(photo(name)))
        assert detected.page_count == 1
        assert detected.ocr_version
        found, wanted = words_of(detected.response), [word.lower() for word in PHOTOS[name]["words"]]
        matched = sum(min(found.count(word), wanted.count(word)) for word in set(wanted))
        assert matched >= PHOTOS[name]["expected"]["min_word_recall"] * len(wanted)

    def test_detect_text_response_has_textracts_structure(self, backend: OcrBackend, place: Place) -> None:
        response = backend.detect_text(place(photo("two-columns"))).response
        assert list(response) == ["DocumentMetadata", "Blocks", "DetectDocumentTextModelVersion"]
        assert response["DocumentMetadata"] == {"Pages": 1}
        blocks = {block["Id"]: block for block in response["Blocks"]}
        assert len(blocks) == len(response["Blocks"])
        ids: dict[str, list[str]] = {"PAGE": [], "LINE": [], "WORD": []}
        children: dict[str, list[str]] = {"PAGE": [], "LINE": [], "WORD": []}
        for block in response["Blocks"]:
            assert str(UUID(block["Id"])) == block["Id"]
            assert "Page" not in block
            ids[block["BlockType"]].append(block["Id"])
            children[block["BlockType"]] += [i for part in block.get("Relationships", []) for i in part["Ids"]]
            assert (block.get("TextType") == "PRINTED") == (block["BlockType"] == "WORD")
        assert list(blocks) == [*ids["PAGE"], *ids["LINE"], *ids["WORD"]]
        assert len(ids["PAGE"]) == 1
        assert children == {"PAGE": ids["LINE"], "LINE": ids["WORD"], "WORD": []}
        for line in (blocks[block_id] for block_id in ids["LINE"]):
            words = [blocks[word] for word in line["Relationships"][0]["Ids"]]
            assert line["Text"] == " ".join(word["Text"] for word in words)
            assert abs(line["Confidence"] - sum(word["Confidence"] for word in words) / len(words)) < 1e-4
        for block in blocks.values():
            box, polygon = block["Geometry"]["BoundingBox"], block["Geometry"]["Polygon"]
            xs, ys = [point["X"] for point in polygon], [point["Y"] for point in polygon]
            assert len(polygon) == 4
            assert (box["Left"], box["Top"]) == (min(xs), min(ys))
            assert (box["Width"], box["Height"]) == pytest.approx((max(xs) - min(xs), max(ys) - min(ys)), abs=1e-6)

    def test_detect_text_twice_gives_the_same_bytes(self, backend: OcrBackend, place: Place) -> None:
        first, second = (backend.detect_text(place(self.small[0])) for _ in range(2))
        assert as_stored(first) == as_stored(second)
        assert first.ocr_version == second.ocr_version

    def test_detect_text_in_eight_threads_keeps_responses_apart(self, backend: OcrBackend, place: Place) -> None:
        documents = [place(content) for content in [*self.small, *self.small]]
        with ThreadPoolExecutor(8) as threads:
            responses = [as_stored(response) for response in threads.map(backend.detect_text, documents)]
        assert responses[:4] == responses[4:]
        assert len(set(responses)) == 4
        alone = backend.detect_text(documents[0])
        assert as_stored(alone) == responses[0]

    def test_detect_text_after_bad_document_reads_the_next(self, backend: OcrBackend, place: Place) -> None:
        with pytest.raises(InputError):
            backend.detect_text(place(BAD_INPUTS["truncated JPEG"].content()))
        assert words_of(backend.detect_text(place(self.small[0])).response)


class ReadingBackendContract(OcrBackendContract):
    """``codes`` are those of bad documents where they are not the usual."""

    small: ClassVar[Sequence[bytes]] = [
        note(words) for words in ("Lemon Tart 1", "Oat Cakes 22", "Plum Jam 345", "Rye Bread 67")
    ]
    codes: ClassVar[Mapping[str, str]] = {}

    @pytest.mark.parametrize("name", BAD_INPUTS)
    def test_detect_text_bad_document_is_refused(self, backend: OcrBackend, place: Place, name: str) -> None:
        document = place(BAD_INPUTS[name].content())
        with pytest.raises(InputError) as caught:
            backend.detect_text(document)
        assert caught.value.code == self.codes.get(name, BAD_CODES[name])
        assert not caught.value.retryable
        assert document.key in caught.value.message

    def test_detect_text_missing_object_is_refused(self, backend: OcrBackend, place: Place) -> None:
        with pytest.raises(InputError) as caught:
            backend.detect_text(replace(place(photo("clean-print")), key="nowhere.jpg"))
        assert caught.value.code == "object_missing"
        assert not caught.value.retryable
        assert "nowhere.jpg" in caught.value.message

    def test_detect_text_new_document_is_read(self, backend: OcrBackend, place: Place) -> None:
        # The same pixels, other bytes: what follows a JPEG's end is not part of its picture.
        assert words_of(backend.detect_text(place(self.small[1] + uuid4().bytes)).response)
