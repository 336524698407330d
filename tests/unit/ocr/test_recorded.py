from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from photo_worker.adapters.ocr.recorded import RecordedBackend
from photo_worker.errors import ConfigurationError, RecordingInvalid, RecordingMissing
from photo_worker.policies import OCR_RESULT_LIMIT_BYTES
from photo_worker.ports.object_store import DocumentRef
from photo_worker.ports.ocr import DetectedText

SHA = "0123456789abcdef" * 4
RESPONSE: dict[str, Any] = {
    "DocumentMetadata": {"Pages": 1},
    "Blocks": [{"BlockType": "PAGE", "Id": "c0ffee00-0000-4000-8000-000000000000"}],
    "DetectDocumentTextModelVersion": "1.0",
}
FIXTURES = Path(__file__).resolve().parents[3] / "fixtures"


def play(directory: Path, sha256: str = SHA) -> DetectedText:
    return RecordedBackend(directory).detect_text(DocumentRef("photos", "card.jpg", "image/jpeg", 1, sha256))


def record(directory: Path, content: bytes) -> None:
    (directory / f"{SHA}.json").write_bytes(content)


def test_recorded_backend_returns_recording_unchanged(tmp_path: Path) -> None:
    record(tmp_path, json.dumps(RESPONSE).encode())
    detected = play(tmp_path)
    assert detected.response == RESPONSE
    assert (detected.ocr_version, detected.page_count) == ("1.0", 1)


def test_recorded_backend_reads_all_fixture_recordings() -> None:
    recorded = sorted((FIXTURES / "recorded").glob("*.json"))
    assert recorded
    for path in recorded:
        assert play(path.parent, path.stem).page_count == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting"),
        (b"\xff\xfe\xfd", "decode"),
        (b"[" * 200_000, "recursion"),
        (b"[]", "not an object"),
        (b"{}", "Pages"),
        (json.dumps(RESPONSE | {"DocumentMetadata": {"Pages": "1"}}).encode(), "Pages"),
        (json.dumps(RESPONSE | {"DocumentMetadata": {"Pages": True}}).encode(), "Pages"),
        (json.dumps(RESPONSE | {"Blocks": []}).encode(), "Blocks"),
        (json.dumps(RESPONSE | {"Blocks": [{"BlockType": "WORD"}]}).encode(), "Blocks[0]"),
        (json.dumps(RESPONSE | {"Blocks": [*RESPONSE["Blocks"], 7]}).encode(), "Blocks[1]"),
        (json.dumps(RESPONSE | {"DetectDocumentTextModelVersion": None}).encode(), "ModelVersion"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_recorded_backend_broken_recording_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    record(tmp_path, content)
    with pytest.raises(RecordingInvalid, match=re.escape(says)) as caught:
        play(tmp_path)
    assert (caught.value.code, caught.value.retryable) == ("recording_invalid", False)
    assert f"{SHA}.json" in caught.value.message


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["DocumentMetadata", "Pages", "Blocks", "BlockType", "Id", "x"]), inner, max_size=4
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_recorded_backend_any_bad_file_is_recording_invalid(tmp_path: Path, content: bytes) -> None:
    record(tmp_path, content)
    with pytest.raises(RecordingInvalid):
        play(tmp_path)


def test_recorded_backend_oversized_recording_is_refused(tmp_path: Path) -> None:
    path = tmp_path / f"{SHA}.json"
    with path.open("wb") as file:
        file.truncate(OCR_RESULT_LIMIT_BYTES + 1)
    with pytest.raises(RecordingInvalid, match=str(OCR_RESULT_LIMIT_BYTES)):
        play(tmp_path)


def test_recorded_backend_directory_as_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / f"{SHA}.json").mkdir()
    with pytest.raises(RecordingInvalid):
        play(tmp_path)


@pytest.mark.parametrize("sha256", ["", "f" * 64, "f" * 63, SHA.upper(), f"../{SHA}", f"{SHA}\n", "\x00" * 64])
def test_recorded_backend_unknown_document_names_hash(tmp_path: Path, sha256: str) -> None:
    directory = tmp_path / "recorded"
    directory.mkdir()
    record(directory, json.dumps(RESPONSE).encode())
    record(tmp_path, json.dumps(RESPONSE).encode())
    with pytest.raises(RecordingMissing) as caught:
        play(directory, sha256)
    assert sha256 in caught.value.message
    assert not caught.value.retryable


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_recorded_backend_missing_directory_names_setting(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match="OCR_RECORDED_DIR") as caught:
        RecordedBackend(tmp_path / name)
    assert name in caught.value.message
    assert str(tmp_path) in caught.value.message
