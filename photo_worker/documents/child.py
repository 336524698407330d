"""The process that opens one document: hostile bytes are parsed here, where they can break nothing else.

``python -P -m photo_worker.documents.child check|convert KIND CPU_SECONDS WALL_SECONDS MEMORY_BYTES`` reads the
document from standard input and writes a line of JSON, and behind it the converted image where there is one.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import traceback
from typing import Any

from photo_worker.documents import decoding
from photo_worker.errors import DocumentTooCostly, PhotoWorkerError

# Behind the soft limit, for what does not end at its signal.
_GRACE_SECONDS = 5

# Libraries and tables of locales that are mapped and hardly read.
_MAPPED_BYTES = 1024**3


def main(arguments: list[str]) -> int:
    """Open one document."""
    operation, kind = arguments[:2]
    _limit(*map(int, arguments[2:]))
    # What libraries print must not get between the answer's bytes.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    header, body = _answer(operation, kind)
    with answers:
        answers.write(json.dumps(header, default=str).encode() + b"\n" + body)
    return 0


def _limit(cpu_seconds: int, wall_seconds: int, memory_bytes: int) -> None:
    """Bound what a document may cost, as far as the platform does it."""
    limits = {
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_FSIZE: (0, 0),
        resource.RLIMIT_CPU: (cpu_seconds, cpu_seconds + _GRACE_SECONDS),
        # On Linux what the process may write to, however it is got, and not what of a file it has mapped to read.
        resource.RLIMIT_DATA: (memory_bytes, memory_bytes),
        resource.RLIMIT_AS: (memory_bytes + _MAPPED_BYTES, memory_bytes + _MAPPED_BYTES),
    }
    for kind, wanted in limits.items():
        most = resource.getrlimit(kind)[1]
        soft, hard = wanted if most == resource.RLIM_INFINITY else (min(each, most) for each in wanted)
        # macOS takes no limit of the address space, and keeps to none on data.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (soft, hard))
    # The parent gives up first and says why; this is for a child that has no parent any more.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(wall_seconds + _GRACE_SECONDS)


def _answer(operation: str, kind: str) -> tuple[dict[str, Any], bytes]:
    # The document's name stays with the parent, which puts it into the message.
    try:
        decoding.load(kind)
        content = sys.stdin.buffer.read()
        if operation == "convert":
            return {}, decoding.convert(content, kind, "")
        decoding.check(content, kind, "")
    except PhotoWorkerError as error:
        return {"error": error.code, "context": error.context}, b""
    except MemoryError:
        return {"error": DocumentTooCostly.code, "context": {"what": "memory"}}, b""
    except Exception as error:
        # No parser should raise this; the parent writes it into the log.
        return {"defect": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}, b""
    return {}, b""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
