"""The worker streams a large object in constant memory."""

from __future__ import annotations

import hashlib
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from benchmarks import hashing
from photo_worker.adapters.s3.object_store import BotoObjectStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.stack

MIB = 1 << 20


def test_verify_largest_photo_grows_less_than_8_mib(stack_env: dict[str, str]) -> None:
    result = hashing.run(stack_env)
    assert result["size_mib"] == 10
    assert result["met"], result
    assert result["growth_mib"] < 8


def test_open_large_object_holds_less_than_8_mib(s3_client: S3Client, bucket: str) -> None:
    body = hashlib.shake_256(b"large").digest(MIB) * 48
    store = BotoObjectStore(s3_client)
    store.put(bucket, "large", body, content_type="image/png")
    expected = hashlib.sha256(body).hexdigest()
    del body
    digest = hashlib.sha256()
    tracemalloc.start()
    try:
        with store.open(bucket, "large") as (_, pieces):
            for piece in pieces:
                digest.update(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert digest.hexdigest() == expected
    assert peak < 8 * MIB
