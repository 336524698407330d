"""An emulator process for tests, and a reader that does what a document tells it.

Run as a program, this module serves with that reader; the server around it is the real one. What is
under test is how documents and answers travel, so that these need no OCR.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from photo_worker import errors
from photo_worker.devkit.textract.server import listen, serve

ROOT = Path(__file__).resolve().parents[3]
MAGIC = b"\x89PNG\r\n\x1a\n"
DEADLINE_SECONDS = 20


def document(text: str = "Lemon Oat Biscuits", **told: Any) -> bytes:
    """A document of its own each time. ``wait_for`` names a file to wait for, ``fail`` and ``details`` an error."""
    return MAGIC + json.dumps({"text": text, "nonce": secrets.token_hex(8), **told}).encode()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class ObedientReader:
    """Reads the documents of ``document``."""

    engine = "obedient"
    version = "1"

    def warm(self) -> None:
        if os.environ.get("PHOTO_WORKER_TEST_BROKEN"):
            raise errors.EngineUnavailable(engine=self.engine, reason="its weights are missing")

    def read(self, document: bytes, name: str) -> Mapping[str, Any]:
        if not document.startswith(MAGIC):
            raise errors.UnsupportedDocument(name=name, actual="no image")
        told = json.loads(document[len(MAGIC) :])
        deadline = time.monotonic() + DEADLINE_SECONDS
        while "wait_for" in told and not Path(told["wait_for"]).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        if told.get("fail") == "RuntimeError":
            raise RuntimeError("the reader fell over")
        if "fail" in told:
            raise getattr(errors, told["fail"])(name=name, **told["details"])
        words = [_block("WORD", word, told.get("block_type")) for word in told["text"].split()]
        line = _block("LINE", told["text"], children=words)
        blocks = [_block("PAGE", None, children=[line]), line, *words]
        return {"DocumentMetadata": {"Pages": 1}, "Blocks": blocks, "DetectDocumentTextModelVersion": "1.0"}


def _block(
    kind: str, text: str | None, shown_kind: str | None = None, *, children: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    corners = [{"X": x, "Y": y} for x, y in ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))]
    block: dict[str, Any] = {"BlockType": shown_kind or kind}
    if text is not None:
        block |= {"Confidence": 99.5, "Text": text}
    if kind == "WORD":
        block["TextType"] = "PRINTED"
    block["Geometry"] = {"BoundingBox": {"Width": 1.0, "Height": 1.0, "Left": 0.0, "Top": 0.0}, "Polygon": corners}
    block["Id"] = secrets.token_hex(8)
    if children:
        block["Relationships"] = [{"Type": "CHILD", "Ids": [child["Id"] for child in children]}]
    return block


@dataclass(frozen=True)
class Running:
    """An emulator that runs."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def running(folder: Path, variables: Mapping[str, str], *arguments: str) -> Iterator[Running]:
    """Start an emulator on a free port and kill it in the end."""
    log = folder / f"emulator-{secrets.token_hex(4)}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *(arguments or ("-m", __name__))],
            env={**os.environ, "PYTHONUNBUFFERED": "1", **variables},
            stdout=output,
            stderr=output,
            cwd=ROOT,
        )
    try:
        yield Running(process, _port(process, log), log)
    finally:
        process.kill()
        process.wait()


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"listening on \S+:(\d+)", log.read_text("utf-8"))
        if found:
            return int(found[1])
        time.sleep(0.02)
    raise AssertionError(log.read_text("utf-8"))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    bound = listen("127.0.0.1", 0)
    logging.getLogger().info("listening on 127.0.0.1:%d", bound.getsockname()[1])
    serve(ObedientReader(), bound, threads=2)
