"""Starts a reading process, which takes longer than everything else before the first response.

This module imports only light modules, so that a program can start the process first and import the rest of
itself meanwhile.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

from textract_local.child_environment import child_environment

OWN_READER = "textract_local.server.reading_process:own_reader"

MIB = 1024**2


@dataclass(frozen=True)
class ReadingLimits:
    """Limits of reading. Times are wall-clock seconds unless another unit is given; memory is resident memory.

    Measured with this package's reader: 145 to 240 MiB after the start, 400 to 600 while it reads a photo of 12
    megapixels, regardless of the amount and angle of its text, and 670 to 690 for images of the largest area with
    transparency.
    """

    processes: int = 1
    start_seconds: float = 60.0
    page_seconds: float = 120.0
    """CPU time of a page: on a busy or sleeping machine the wall-clock time is longer. A dense page takes 5 s. It also
    limits the wall-clock time without CPU use, unless a signal or a debugger has stopped the process."""
    page_clock_seconds: float = 900.0
    """Wall-clock time of a page in any case: ``page_seconds`` on a machine with seven times its load."""
    call_seconds: float = 55.0
    """A synchronous call, including its waiting: AWS's SDKs time out after 60."""
    slow_page_seconds: float = 30.0
    """CPU time from which a page counts as slow when its call times out; with less, it only waited."""
    slow_page_memory_seconds: float = 900.0
    """How long a page is remembered as slow: later there may be more time for it."""
    slow_seconds: float = 10.0
    """After this, another process may be started for the next urgent page."""
    memory_bytes: int = 930 * MIB
    """The limit of one process: less than 1 GB."""
    trim_bytes: int = 512 * MIB
    """A process that takes more than this returns its free memory to the system while it reads. Without that, a page
    of 12 megapixels takes 570 to 780 MiB, as free blocks happen to lie between others."""
    total_bytes: int = 1900 * MIB
    """The limit of all processes together: less than 2 GB."""
    usual_bytes: int = 450 * MIB
    """What a page usually needs: another page begins only if this much of ``total_bytes`` is free."""
    retire_bytes: int = 512 * MIB
    """A process that holds more than this after a page is replaced by a new one."""
    idle_growth_bytes: int = 48 * MIB
    """An idle process is replaced as well if it holds this much more than after its start."""
    idle_seconds: float = 10.0
    response_bytes: int = 64 * MIB


def spawn(reader: str = OWN_READER, bounds: ReadingLimits | None = None) -> subprocess.Popen[bytes]:
    """Start a reading process with ``reader``, a factory as ``module:name``. Raises ``OSError``.

    It ends when its standard input is closed.
    """
    bounds = bounds or ReadingLimits()
    # -P: nothing is imported from the directory in which the server was started.
    command = [sys.executable, "-P", "-m", "textract_local.server.reading_process"]
    return subprocess.Popen(
        [*command, reader, str(bounds.page_seconds), str(bounds.page_clock_seconds), str(bounds.memory_bytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        close_fds=True,
        # Only the server shall receive a terminal's interrupt.
        start_new_session=True,
        env={**child_environment(), "OMP_NUM_THREADS": "1"},
    )


def spawn_early() -> subprocess.Popen[bytes] | None:
    """Start a process with the own reader; None if that fails, so that the caller can try again later."""
    try:
        return spawn()
    except OSError:
        return None
