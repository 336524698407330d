"""What a user names as a document: a file is read in place, and all else, such as a pipe, once into memory."""

from __future__ import annotations

import io
import os
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from textract_local.errors import DocumentMissing

# A pipe without a writer is refused: reading it would never end.
SILENCE_SECONDS = 60

_PIECE_BYTES = 1024 * 1024


def source_of(path: str | os.PathLike[str], most_bytes: int, silence_seconds: float = SILENCE_SECONDS) -> Path | bytes:
    """Return the file that a path leads to, links followed; of what is no file its content.

    Of a content longer than ``most_bytes``, one byte more than these is returned. Raises ``DocumentMissing``.
    """
    with file_errors(path):
        # Opening a pipe would wait for its writer.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(number)
            if stat.S_ISREG(status.st_mode):
                found = Path(os.path.realpath(path))
                if found.exists() and os.path.samestat(found.stat(), status):
                    return found
                # A file that is open without a name, such as a shell's here-document.
            return _content(number, path, most_bytes, silence_seconds)
        finally:
            os.close(number)


def standard_input(most_bytes: int) -> bytes:
    """Return standard input as ``source_of`` returns a pipe. Raises ``DocumentMissing`` if it is closed."""
    if sys.stdin is None:
        raise DocumentMissing(path="-", reason="standard input is closed")
    return sys.stdin.buffer.read(most_bytes + 1)


@contextmanager
def file_errors(path: str | os.PathLike[str], source: Path | None = None) -> Iterator[None]:
    """Translate errors of a file into ``DocumentMissing``; ``source`` is the file that the path leads to."""
    try:
        yield
    except OSError as error:
        if error.filename not in {None, os.fspath(path), source and str(source)}:
            # It concerns another file, such as one of the engine's.
            raise
        raise DocumentMissing(path=os.fspath(path), reason=error.strerror or str(error)) from error


def _content(number: int, path: str | os.PathLike[str], most_bytes: int, silence_seconds: float) -> bytes:
    content = io.BytesIO()
    waiting = select.poll()
    waiting.register(number, select.POLLIN)
    while (wanted := most_bytes + 1 - content.tell()) > 0:
        if not waiting.poll(silence_seconds * 1000):
            raise DocumentMissing(path=os.fspath(path), reason=f"nothing came from it for {silence_seconds} seconds")
        try:
            piece = os.read(number, min(wanted, _PIECE_BYTES))
        except BlockingIOError:
            continue
        if not piece:
            break
        content.write(piece)
    return content.getvalue()
