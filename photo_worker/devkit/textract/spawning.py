"""The start of a reading process, which takes longer than all else before the first answer.

Nothing but the standard library's lightest is imported here, so that a program can start one first and import the
rest of itself meanwhile.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

from photo_worker.child_environment import child_environment

OWN_READER = "photo_worker.devkit.textract.reading_process:own_reader"

MIB = 1024**2


@dataclass(frozen=True)
class ReadingLimits:
    """What reading may cost. Times are seconds by the clock where nothing else is said, memory is resident.

    Measured on this project's own reader: 145 to 240 MiB after the start, 400 to 780 while it reads a photo of 12
    megapixels, however much text it has and however it lies. Pictures of the largest area with transparency are read
    within the bound.
    """

    processes: int = 1
    start_seconds: float = 60.0
    page_seconds: float = 120.0
    """Of a processor: on a machine with other work, or one that sleeps, a page takes longer by the clock. A dense page
    takes 5 s. As long may it take none at all, while no signal and no debugger holds its process."""
    page_clock_seconds: float = 900.0
    """By the clock, whatever holds its process: ``page_seconds`` on a machine with seven times its work."""
    call_seconds: float = 55.0
    """What a synchronous call may take, its waiting included: AWS's SDKs give up after 60."""
    slow_page_seconds: float = 30.0
    """A page that took as much of a processor when its call's time is over is slow itself; another only waited."""
    slow_page_memory_seconds: float = 900.0
    """For how long it is known that a page is slow: there may be more time for it later."""
    slow_seconds: float = 10.0
    """A page that is read for longer does not keep the next urgent one waiting."""
    memory_bytes: int = 930 * MIB
    """What one process may hold: less than 1 GB."""
    total_bytes: int = 1900 * MIB
    """What all of them may hold together: less than 2 GB."""
    usual_bytes: int = 450 * MIB
    """What a page usually needs: as much must be left of ``total_bytes`` for another one to begin."""
    retire_bytes: int = 512 * MIB
    """A process that kept more than this after a page makes room for a new one."""
    idle_growth_bytes: int = 48 * MIB
    """And so does one that keeps this much more than it began with while nothing is asked for."""
    idle_seconds: float = 10.0
    answer_bytes: int = 64 * MIB


def spawn(reader: str = OWN_READER, bounds: ReadingLimits | None = None) -> subprocess.Popen[bytes]:
    """Start a process that reads with ``reader``, a factory as ``module:name``. Raises ``OSError``.

    It ends when its standard input does.
    """
    bounds = bounds or ReadingLimits()
    # -P: a document's folder, or any other that the server was started in, is no place to import from.
    command = [sys.executable, "-P", "-m", "photo_worker.devkit.textract.reading_process"]
    return subprocess.Popen(
        [*command, reader, str(bounds.page_seconds), str(bounds.page_clock_seconds), str(bounds.memory_bytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        close_fds=True,
        # A terminal's interrupt is the server's to answer.
        start_new_session=True,
        env={**child_environment(), "OMP_NUM_THREADS": "1"},
    )


def spawn_early() -> subprocess.Popen[bytes] | None:
    """Start a process of the own reader as ``spawn`` does, or None where it has to be tried again later."""
    try:
        return spawn()
    except OSError:
        return None
