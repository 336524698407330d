"""Child process of ``ReadingProcesses``: renders and reads hostile documents, one after another.

``python -P -m textract_local.reader.reading_child PARENT CPU_SECONDS WALL_SECONDS MEMORY_BYTES IDLE_SECONDS`` takes
requests from standard input and responds on standard output. A message is the lengths of a JSON header and of a body,
as 32-bit big-endian numbers, then the header and the body. The process first sends ``ready`` or an error, then for
each request ``begun`` and one response. It ends at the end of its input, when idle, and soon after its parent process
PARENT.
"""

from __future__ import annotations

import io
import json
import resource
import select
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from textract_local import child_limits, media
from textract_local.errors import DocumentTooCostly, EngineUnavailable, TextractLocalError
from textract_local.messages import HEAD

if TYPE_CHECKING:
    from textract_local.reader.reader import DocumentReader

_PILLOW_NAMES = {media.PNG: "PNG", media.JPEG: "JPEG", media.TIFF: "TIFF", media.PDF: "PDF"}


def main(arguments: list[str]) -> int:
    """Serve requests until the input ends or the process has been idle too long. Returns the exit status."""
    parent, cpu_seconds, wall_seconds, memory_bytes = map(int, arguments[:4])
    idle_seconds = float(arguments[4])
    requests, responses = child_limits.claim_standard_streams()
    child_limits.limit_memory(memory_bytes)
    child_limits.limit_time(cpu_seconds, wall_seconds)
    child_limits.exit_with_parent(parent)
    try:
        # Checked before anything uses some of it.
        has_memory = child_limits.has_memory(memory_bytes)
        reader = _load()
        version = reader.version
    except Exception as error:
        send(responses, _failure(error))
        return 0
    send(responses, {"ready": True, "version": version, "has_memory": has_memory})
    while True:
        child_limits.limit_time(cpu_seconds, wall_seconds + round(idle_seconds))
        if not select.select([requests], [], [], idle_seconds)[0]:
            return 0
        try:
            header, content = receive(requests)
        except EOFError:
            return 0
        # If the process ends without this message, the document is not the cause.
        send(responses, {"begun": True})
        child_limits.limit_time(cpu_seconds, wall_seconds)
        told, body = _response(reader, header, content)
        send(responses, {**told, "holds_bytes": _resident()}, body)


def send(file: BinaryIO, header: Mapping[str, Any], body: bytes = b"") -> None:
    """Write a message. Raises ``OSError`` if the other end has closed the pipe."""
    text = json.dumps(header, default=str).encode()
    file.write(HEAD.pack(len(text), len(body)) + text)
    file.write(body)
    file.flush()


class MessageTooLong(EOFError):
    """A message is longer than it may be; nothing of it was read."""


def receive(file: BinaryIO, most_bytes: int | None = None) -> tuple[dict[str, Any], bytes]:
    """Read a message. Raises ``EOFError`` if it is cut off, ``MessageTooLong`` if it has more than ``most_bytes``."""
    head = _exactly(file, HEAD.size)
    sizes = HEAD.unpack(head)
    if most_bytes is not None and sum(sizes) > most_bytes:
        raise MessageTooLong
    try:
        header = json.loads(_exactly(file, sizes[0]))
    except ValueError as error:
        raise EOFError from error
    if not isinstance(header, dict):
        raise EOFError
    return header, _exactly(file, sizes[1])


def _exactly(file: BinaryIO, size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise EOFError
    return content


def _load() -> DocumentReader:
    from textract_local.reader.reader import DocumentReader

    reader = DocumentReader(threads=1)
    reader.warm()
    return reader


def _response(reader: DocumentReader, header: Mapping[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
    # The parent keeps the document's name and puts it into the message.
    try:
        if "sample" in header:
            content = _sample(header["sample"])
        response = reader.read(content, "")
        return {"read": True}, json.dumps(response, ensure_ascii=False, separators=(",", ":")).encode()
    except MemoryError:
        return {"error": DocumentTooCostly.code, "context": {"what": "memory"}}, b""
    except Exception as error:
        return _failure(error), b""


def _failure(error: Exception) -> dict[str, Any]:
    if isinstance(error, ImportError):
        error = EngineUnavailable(engine="ocrust", reason=str(error))
    if isinstance(error, TextractLocalError):
        return {"error": error.code, "context": error.context}
    # No decoder should raise this; the parent logs it.
    return {"defect": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}


def _sample(kind: str) -> bytes:
    """Return a small sound document of a type, with text on it."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (160, 48), "white")
    ImageDraw.Draw(image).text((10, 10), "Salt 5 g", fill="black", font_size=24)
    file = io.BytesIO()
    image.save(file, _PILLOW_NAMES.get(kind, "PNG"))
    return file.getvalue()


def _resident() -> int:
    """Return how much memory this process holds, or its peak if the system only reports that."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
