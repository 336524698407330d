"""The process that opens one document: it parses hostile bytes and can damage nothing but itself.

``python -P -m photo_worker.adapters.documents.child check|convert|measure KIND PARENT CPU_SECONDS WALL_SECONDS
MEMORY_BYTES`` reads the document from standard input and writes a line of JSON, followed by the converted image if
there is one. ``measure`` tells whether the process can get the memory that opening a document may take. PARENT is the
id of the parent process; this process ends soon after it.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any

from photo_worker.adapters.documents import decoding
from photo_worker.errors import DocumentTooCostly, PhotoWorkerError
from textract_local import child_limits


def main(arguments: list[str]) -> int:
    """Open one document and return the exit status, which is 0 also for a refused document."""
    operation, kind = arguments[:2]
    parent, cpu_seconds, wall_seconds, memory_bytes = map(int, arguments[2:])
    child_limits.limit_memory(memory_bytes)
    child_limits.limit_time(cpu_seconds, wall_seconds)
    child_limits.exit_with_parent(parent)
    # The output of libraries must not mix with the response.
    responses = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    header, body = _response(operation, kind, memory_bytes)
    with responses:
        responses.write(json.dumps(header, default=str).encode() + b"\n" + body)
    return 0


def _response(operation: str, kind: str, memory_bytes: int) -> tuple[dict[str, Any], bytes]:
    # The parent knows the document's name and adds it to the message.
    try:
        decoding.load(kind)
        if operation == "measure":
            return {"has_memory": child_limits.has_memory(memory_bytes)}, b""
        content = sys.stdin.buffer.read()
        if operation == "convert":
            return {}, decoding.convert(content, kind, "")
        decoding.check(content, kind, "")
    except PhotoWorkerError as error:
        return {"error": error.code, "context": error.context}, b""
    except MemoryError:
        return {"error": DocumentTooCostly.code, "context": {"what": "memory"}}, b""
    except Exception as error:
        # No parser should raise this; the parent logs it.
        return {"defect": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}, b""
    return {}, b""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
