"""The C library's allocator in a reading process: what a very large picture leaves behind must not stay allocated."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

from textract_local import media
from textract_local.limits import SNIFF_BYTES

# From <malloc.h> of glibc: blocks of this size and more are mapped one by one, and given back as soon as they are free.
_M_MMAP_THRESHOLD = -3

# A picture of 4 bytes a pixel then takes a third of a process's memory.
_LARGE_PIXELS = 80_000_000

_MAPPED_BLOCK = 4 * 1024**2


def adapt_allocator(path: Path) -> None:
    """Let glibc map smaller blocks one by one if the document at ``path`` is a very large picture.

    Reading one took 850 to 940 MiB, as chance would have it, because free blocks between others stayed allocated; so it
    takes 710 MiB. A process that has had only usual pages is left alone: it would take a quarter more processor time.
    So are other C libraries, and a file that cannot be read.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        with path.open("rb") as file:
            size = media.dimensions(file.read(SNIFF_BYTES))
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    if size is not None and size[0] * size[1] >= _LARGE_PIXELS:
        # Undoing it would also end glibc's own choice of this size, which is what makes usual pages fast.
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_BLOCK)
