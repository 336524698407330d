"""Resident memory while the worker's activity verifies and hashes the largest object that OCR accepts.

A new process measures, so that the memory of the upload does not hide any growth; it samples its memory
after every chunk. A small object goes first, so that the cost of imports, TLS and connection pools is not
measured.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from photo_worker.ports.object_store import ObjectInfo

ROOT = Path(__file__).resolve().parents[1]
MIB = 1 << 20
SIZE_BYTES = 10 * MIB
PART_BYTES = 16 * MIB
BAR_MIB = 8
LIMIT_SECONDS = 600


class LargePhoto(io.RawIOBase):
    """A file of any size that begins like a PNG and is generated while it is read."""

    def __init__(self, size_bytes: int) -> None:
        header = b"IHDR" + struct.pack(">IIBBBBB", 100, 100, 8, 2, 0, 0, 0)
        self._head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
        self._body = hashlib.shake_256(b"photo").digest(MIB)
        self._size = size_bytes
        self._at = 0
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        source = self._head if self._at < len(self._head) else self._body
        offset = self._at if source is self._head else (self._at - len(self._head)) % len(source)
        view = memoryview(buffer).cast("B")
        piece = source[offset : offset + min(len(view), self._size - self._at)]
        view[: len(piece)] = piece
        self._at += len(piece)
        self.digest.update(piece)
        return len(piece)


def run(variables: dict[str, str], *, size_bytes: int = SIZE_BYTES) -> dict[str, Any]:
    """Upload, verify, hash and delete an object of this size; return the time and memory."""
    from boto3.s3.transfer import TransferConfig

    from photo_worker.adapters.s3.object_store import make_client
    from photo_worker.aws import aws_session

    client = make_client(session=aws_session(variables))
    bucket = f"bench-{uuid4().hex}"
    client.create_bucket(Bucket=bucket)
    photos = {"small.png": LargePhoto(2 * MIB), "large.png": LargePhoto(size_bytes)}
    try:
        for key, photo in photos.items():
            client.upload_fileobj(
                io.BufferedReader(photo, PART_BYTES),
                bucket,
                key,
                ExtraArgs={"ContentType": "image/png"},
                Config=TransferConfig(multipart_chunksize=PART_BYTES, use_threads=False),
            )
        measured = _measured_elsewhere(variables, bucket)
    finally:
        for key in photos:
            client.delete_object(Bucket=bucket, Key=key)
        client.delete_bucket(Bucket=bucket)
        client.close()
    if measured["sha256"] != photos["large.png"].digest.hexdigest():
        raise AssertionError("the hash is not that of the bytes that were uploaded")
    growth = (measured["peak_bytes"] - measured["before_bytes"]) / MIB
    return {
        "size_mib": size_bytes // MIB,
        "growth_mib": round(growth, 1),
        "peak_mib": round(measured["peak_bytes"] / MIB, 1),
        "mib_per_second": round(size_bytes / MIB / measured["seconds"], 1),
        "bar_mib": BAR_MIB,
        "met": growth <= BAR_MIB,
    }


def table(result: dict[str, Any]) -> Sequence[tuple[str, str]]:
    """Return the lines to show."""
    return [
        ("object, MiB", str(result["size_mib"])),
        ("resident growth, MiB", f"{result['growth_mib']} (bar {result['bar_mib']})"),
        ("resident peak, MiB", str(result["peak_mib"])),
        ("verified and hashed, MiB/s", str(result["mib_per_second"])),
    ]


def _measured_elsewhere(variables: dict[str, str], bucket: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.hashing", bucket],
        env={**os.environ, **variables},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        timeout=LIMIT_SECONDS,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _measure(bucket: str) -> dict[str, Any]:
    import psutil
    from temporalio.testing import ActivityEnvironment

    from photo_worker.activities.assets import AssetActivities
    from photo_worker.adapters.documents.process import ProcessDecoder
    from photo_worker.adapters.memory.job_repository import MemoryJobRepository
    from photo_worker.adapters.s3.object_store import BotoObjectStore, make_client
    from photo_worker.aws import aws_session
    from photo_worker.contracts.image import LocateAssetInput

    process = psutil.Process()
    peak = 0

    class Watched(BotoObjectStore):
        @contextmanager
        def open(self, bucket: str, key: str, *, version_id: str = "") -> Iterator[tuple[ObjectInfo, Iterator[bytes]]]:
            with super().open(bucket, key, version_id=version_id) as (info, pieces):
                yield info, self._watch(pieces)

        def _watch(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
            nonlocal peak
            for piece in pieces:
                peak = max(peak, process.memory_info().rss)
                yield piece

    store = Watched(make_client(session=aws_session(os.environ)))
    activities = AssetActivities(store, MemoryJobRepository(), ProcessDecoder(), bucket)

    def verify(key: str) -> str:
        request = LocateAssetInput(bucket=bucket, key=key, expected_content_type="image/png", job_id=str(uuid4()))
        return ActivityEnvironment().run(activities.verify_and_locate_asset, request).sha256

    verify("small.png")
    before = peak = process.memory_info().rss
    began = time.perf_counter()
    sha256 = verify("large.png")
    return {
        "sha256": sha256,
        "seconds": time.perf_counter() - began,
        "before_bytes": before,
        "peak_bytes": max(peak, process.memory_info().rss),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Verify and hash bucket/large.png, and print what that took.")
    parser.add_argument("bucket")
    print(json.dumps(_measure(parser.parse_args().bucket)))
