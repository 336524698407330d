"""Thousands of damaged documents through the real server, processes and decoders, and some with the real engine.

They are the same in each run. TEXTRACT_TEST_MUTANTS is the number of each kind: a defect in new code usually
affects most of them. The decoders were first tested with 2,500 of each.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import local

import psutil
import pytest

from textract_local.server.spawning import OWN_READER
from textract_support.clients import DETECT, JSON_11, SIGNED, call, sent
from textract_support.decode_only_reader import FACTORY
from textract_support.emulator import RunningEmulator, running, until
from textract_support.mutants import KINDS, mutants
from textract_support.recognisers import alive

SEED = 20260101
MUTANTS_OF_A_KIND = int(os.environ.get("TEXTRACT_TEST_MUTANTS", "600"))
ENGINE_MUTANTS_OF_A_KIND = 25
CALLERS = 8

# A decoder that needs longer for 64 x 48 pixels hangs.
PAGE_SECONDS = 10.0

# The errors that the model lists for unreadable documents of DetectDocumentText.
CODES = {
    "UnsupportedDocumentException",
    "BadDocumentException",
    "DocumentTooLargeException",
    "InvalidParameterException",
}


class Caller:
    """Makes calls over one connection per thread, as SDKs do."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._own = local()
        self._connections: list[http.client.HTTPConnection] = []

    def __call__(self, content: bytes) -> tuple[str, float]:
        """Send a document; return ``blocks`` or the code of the error, and the duration in seconds."""
        began = time.monotonic()
        connection = self._connection()
        headers = {"X-Amz-Target": DETECT, "Content-Type": JSON_11, "Authorization": SIGNED}
        connection.request("POST", "/", body=sent(content), headers=headers)
        response = connection.getresponse()
        parsed = json.loads(response.read())
        seconds = time.monotonic() - began
        if response.status == 200:
            assert parsed["Blocks"][0]["BlockType"] == "PAGE"
            return "blocks", seconds
        assert response.status == 400, (response.status, parsed, content)
        return parsed["__type"], seconds

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            self._own.connection = connection
            self._connections.append(connection)
        return connection

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


def judged(started: RunningEmulator, documents: Iterator[bytes], page_seconds: float) -> Counter[str]:
    """Send documents and count the outcomes; fail for any that the service does not have."""
    with closing(Caller(started.port)) as caller, ThreadPoolExecutor(CALLERS) as threads:
        responses = list(threads.map(caller, documents))
    outcomes = Counter(outcome for outcome, _ in responses)
    assert set(outcomes) <= {"blocks", *CODES}, outcomes
    # A page also waits for those of the other callers.
    assert max(seconds for _, seconds in responses) < page_seconds * CALLERS
    return outcomes


def end(started: RunningEmulator) -> None:
    """Check that the server still responds, and that its processes end with it."""
    assert started.process.poll() is None
    assert call(started.port, DETECT, sent(b"flour, butter, sugar")).json["__type"] == "UnsupportedDocumentException"
    left = psutil.Process(started.process.pid).children(recursive=True)
    assert 1 <= len(left) <= 2
    started.process.terminate()
    started.process.wait(timeout=20)
    until(lambda: not any(alive(process.pid) for process in left))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_mutated_documents_are_read_or_refused(tmp_path: Path, kind: str) -> None:
    variables = {"TEXTRACT_TEST_READER": FACTORY, "TEXTRACT_TEST_PAGE_SECONDS": str(PAGE_SECONDS)}
    with running(tmp_path, variables) as started:
        outcomes = judged(started, mutants(kind, MUTANTS_OF_A_KIND, SEED), PAGE_SECONDS)
        # Damage that is never detected, or always at the first byte, would test nothing.
        assert min(outcomes["blocks"], outcomes["BadDocumentException"]) > MUTANTS_OF_A_KIND / 50, outcomes
        end(started)


@pytest.mark.timeout(900)
def test_mutated_documents_do_not_crash_own_reader(tmp_path: Path) -> None:
    with running(tmp_path, {"TEXTRACT_TEST_READER": OWN_READER}) as started:
        outcomes: Counter[str] = Counter()
        for kind in KINDS:
            outcomes += judged(started, mutants(kind, ENGINE_MUTANTS_OF_A_KIND, SEED + 1), 60)
        assert outcomes["blocks"] > 10, outcomes
        end(started)
