"""Properties of object keys and job ids."""

from __future__ import annotations

import hashlib
import unicodedata
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from photo_worker.contracts.keys import (
    KEY_LIMIT_BYTES,
    manifest_key,
    ocr_key,
    parse_job_id,
    raw_key,
    validate_key,
)
from photo_worker.errors import InvalidJobId, InvalidKey

JOB = UUID("8c5b4f0e-7a51-4a52-9f3a-2f6f3c1d9b77")
SHA = hashlib.sha256(b"photo").hexdigest()


@given(st.uuids())
def test_parse_job_id_round_trips_canonical_text(job_id: UUID) -> None:
    assert parse_job_id(str(job_id)) == job_id


@given(st.uuids(allow_nil=False), st.sampled_from(["upper", "hex", "urn", "braced", "space", "newline"]))
def test_parse_job_id_other_spelling_is_refused(job_id: UUID, form: str) -> None:
    text = {
        "upper": str(job_id).upper() if str(job_id) != str(job_id).upper() else "A" + str(job_id)[1:],
        "hex": job_id.hex,
        "urn": job_id.urn,
        "braced": f"{{{job_id}}}",
        "space": f" {job_id}",
        "newline": f"{job_id}\n",
    }[form]
    with pytest.raises(InvalidJobId) as caught:
        parse_job_id(text)
    assert repr(text) in str(caught.value)


@given(st.text())
def test_parse_job_id_accepted_text_is_canonical(text: str) -> None:
    try:
        parsed = parse_job_id(text)
    except InvalidJobId:
        return
    assert str(parsed) == text


def test_parse_job_id_other_digits_are_refused() -> None:
    with pytest.raises(InvalidJobId):
        parse_job_id("٣" + str(JOB)[1:])


@pytest.mark.parametrize(
    "key",
    [
        "a",
        "photos/grandma's apple pie.jpg",
        "photos/50%+butter & flour.png",
        "фото/рецепт.jpg",
        "写真/レシピ 1.jpg",
        "crème brûlée.jpg",
        "a/.hidden",
        "a/..b/c..",
        "...",
        "🥧.jpg",
        "x" * KEY_LIMIT_BYTES,
    ],
)
def test_validate_key_ordinary_key_is_accepted(key: str) -> None:
    validate_key(key)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "empty"),
        (".", "segment"),
        ("..", "segment"),
        ("../secret", "segment"),
        ("a/../b", "segment"),
        ("a/./b", "segment"),
        ("a/..", "segment"),
        ("a\x00b", "control"),
        ("a\nb", "control"),
        ("a\x7fb", "control"),
        ("a\x85b", "control"),
        ("\ud800", "UTF-8"),
        ("x" * (KEY_LIMIT_BYTES + 1), "1025 bytes"),
        ("é" * 513, "1026 bytes"),
    ],
)
def test_validate_key_ambiguous_key_is_refused(key: str, reason: str) -> None:
    with pytest.raises(InvalidKey, match=reason) as caught:
        validate_key(key)
    assert caught.value.retryable is False


@given(st.text(max_size=600))
def test_validate_key_accepted_key_is_safe(key: str) -> None:
    try:
        validate_key(key)
    except InvalidKey:
        return
    assert 1 <= len(key.encode()) <= KEY_LIMIT_BYTES
    assert not {".", ".."} & set(key.split("/"))
    assert all(unicodedata.category(character) != "Cc" for character in key)


@given(st.binary(max_size=64), st.text(max_size=12))
def test_raw_key_with_any_suffix_is_valid(content: bytes, suffix: str) -> None:
    sha256 = hashlib.sha256(content).hexdigest()
    key = raw_key(sha256, suffix)
    validate_key(key)
    assert key.startswith(f"raw/{sha256}")


@given(st.uuids(), st.uuids())
def test_artifact_keys_are_valid_and_unique_per_job(one: UUID, other: UUID) -> None:
    keys = [ocr_key(one), manifest_key(one)]
    for key in keys:
        validate_key(key)
    assert len(set(keys)) == 2
    if one != other:
        assert not set(keys) & {ocr_key(other), manifest_key(other)}


def test_keys_have_documented_form() -> None:
    assert ocr_key(JOB) == f"artifacts/{JOB}/textract.json"
    assert manifest_key(JOB) == f"artifacts/{JOB}/manifest.json"
    assert raw_key(SHA, ".JPG") == f"raw/{SHA}.jpg"
    assert raw_key(SHA, "/../x") == f"raw/{SHA}"


@pytest.mark.parametrize("sha256", ["", SHA.upper(), SHA[:-1], SHA + "0", "../" + SHA[3:]])
def test_raw_key_invalid_hash_is_refused(sha256: str) -> None:
    with pytest.raises(InvalidKey):
        raw_key(sha256)
