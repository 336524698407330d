"""The C library's allocator in a reading process: free blocks must not count as memory that a page needs."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

from textract_local import media
from textract_local.limits import SNIFF_BYTES

# From <malloc.h> of glibc: blocks of this size and more are mapped one by one, and given back as soon as they are free.
_M_MMAP_THRESHOLD = -3

# Measured: pages of 12 million pixels took up to 722 MiB, larger PNGs of 24 to 88 million up to 928 of the 930 MiB.
_LARGE_PIXELS = 20_000_000

_MAPPED_BLOCK = 4 * 1024**2


def give_back_memory() -> None:
    """Return free pages between blocks that are in use to the system; without glibc, do nothing."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return
    trim(0)


def adapt_allocator(path: Path) -> None:
    """Let glibc map smaller blocks one by one if the document at ``path`` is a large picture.

    Reading one took 730 to 928 MiB, as chance would have it, because free blocks between others stayed allocated; so it
    takes at most 673. A process that has had only usual pages is left alone: it would take a quarter more processor
    time. So is one that reads a JPEG, which is decoded at a smaller scale, and other C libraries.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        with path.open("rb") as file:
            head = file.read(SNIFF_BYTES)
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    size = None if media.sniff(head) == media.JPEG else media.dimensions(head)
    if size is not None and size[0] * size[1] >= _LARGE_PIXELS:
        # Undoing it would also end glibc's own choice of this size, which is what makes usual pages fast.
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_BLOCK)
