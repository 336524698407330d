"""A reader for the real reading processes that is controlled by the content of documents."""

from __future__ import annotations

import ctypes
import json
import os
import re
import secrets
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from textract_local import errors
from textract_local.reader.document import DocumentLimits
from textract_local.reader.reader import PageRequest, PageResult

FACTORY = "textract_support.scripted_reader:ScriptedReader"
MIB = 1024 * 1024
MAGIC = b"\x89PNG\r\n\x1a\n"
DEADLINE_SECONDS = 60

# Variables that a server passes on to its reading processes, to control this reader.
BROKEN = "LC_TEXTRACT_TEST_BROKEN"
DIES = "LC_TEXTRACT_TEST_DIES"


def document(text: str = "Lemon Oat Biscuits", **told: Any) -> bytes:
    """Return a new unique document.

    ``wait_for`` is a file that pages from ``wait_from`` on wait for, ``begun`` a file to create, ``log`` a file to
    append the page's number to, ``fail`` and ``details`` an error to raise, ``pages`` the page count, and ``harm`` the
    harm to the reading process, on each page or those in ``harm_at``; with ``swell_first`` it grows before it waits,
    with ``fragments`` it waits until free memory is returned.
    """
    return MAGIC + json.dumps({"text": text, "nonce": secrets.token_hex(8), **told}).encode()


class ScriptedReader:
    """Reads the documents that ``document`` returns."""

    engine = "obedient"
    version = "1"

    def warm(self) -> None:
        if os.environ.get(BROKEN):
            raise errors.EngineUnavailable(engine=self.engine, reason="its weights are missing")
        if os.environ.get(DIES):
            os.kill(os.getpid(), signal.SIGSEGV)

    def pages(self, source: Path | bytes, name: str, limits: DocumentLimits, /) -> int:
        pages: int = _told(source, name, limits).get("pages", 1)
        return pages

    def page(self, request: PageRequest, /) -> PageResult:
        told = _told(request.source, request.name, request.limits)
        if "log" in told:
            with Path(told["log"]).open("a", encoding="utf-8") as log:
                log.write(f"{told['text']} {request.number}\n")
        if "begun" in told:
            Path(told["begun"]).touch()
        if told.get("swell_first"):
            _harm("swell")
        if told.get("fragments"):
            _fragment()
        deadline = time.monotonic() + DEADLINE_SECONDS
        waits = "wait_for" in told and request.number >= told.get("wait_from", 1)
        while waits and not Path(told["wait_for"]).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        if request.number in told.get("harm_at", [request.number]):
            _harm(told.get("harm", ""))
        if told.get("fail") == "RuntimeError":
            raise RuntimeError("the reader fell over")
        if "fail" in told:
            raise getattr(errors, told["fail"])(name=request.name, **told["details"])
        text = told["text"] if request.number == 1 else f"{told['text']} {request.number}"
        if request.analysis is not None:
            text += " " + " ".join(sorted(request.analysis.features))
        words = [_block("WORD", word, told.get("block_type")) for word in text.split()]
        line = _block("LINE", text, children=words)
        blocks = [_block("PAGE", None, children=[line]), line, *words]
        recognised = request.kept is None or told.get("never_kept", False)
        return PageResult(blocks, b"kept" if recognised else None, recognised)


def _told(source: Path | bytes, name: str, limits: DocumentLimits) -> dict[str, Any]:
    content = source if isinstance(source, bytes) else source.read_bytes()
    if not content.startswith(MAGIC):
        raise errors.UnsupportedDocument(name=name, actual="no image")
    told: dict[str, Any] = json.loads(content[len(MAGIC) :])
    if told.get("pages", 1) > limits.pages:
        raise errors.UnsupportedDocument(name=name, actual=f"a PDF of {told['pages']} pages")
    return told


def _harm(kind: str) -> None:
    match kind:
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "leave":
            os._exit(3)
        case "hang":
            # Like native code that does not release the GIL.
            re.match(r"(a+)+$", "a" * 64 + "b")
        case "memory":
            held = []
            while True:
                held.append(bytes(32 * 1024 * 1024).replace(b"\0", b"\1"))
        case "noise":
            # Like the output of libraries.
            os.write(1, b"noise on the standard output\n" * 1000)
            print("and more of it", flush=True)  # noqa: T201
        case "nonsense":
            for descriptor in range(3, 64):
                try:
                    os.write(descriptor, b"\xff" * 4096)
                except OSError:
                    continue
            time.sleep(DEADLINE_SECONDS)
        case "file":
            with Path(os.devnull).open("wb"), Path(f"/tmp/{secrets.token_hex(8)}").open("wb") as file:  # noqa: S108
                try:
                    file.truncate(1 << 40)
                finally:
                    Path(file.name).unlink()
        case "swell":
            sys.modules[__name__].__dict__["_swollen"] = bytes(200 * 1024 * 1024).replace(b"\0", b"\1")


def _fragment() -> None:
    """Leave 300 MiB of free blocks between others, and wait until the process does not hold them any more."""
    resident, size = psutil.Process().memory_info, 16 * 1024
    before = resident().rss
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    blocks = [libc.malloc(size) for _ in range(20_000)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    for number, block in enumerate(blocks):
        if number % 16:
            libc.free(block)
    more: list[bytes] = []
    deadline = time.monotonic() + DEADLINE_SECONDS
    while resident().rss > before + 150 * MIB:
        if time.monotonic() > deadline:
            raise RuntimeError("the free blocks are still resident")
        # As a page does: it needs more again.
        if len(more) < 64:
            more.append(b"1" * MIB)
        time.sleep(0.01)


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
