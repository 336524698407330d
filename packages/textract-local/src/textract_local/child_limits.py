"""Limits that a process which parses hostile files sets on itself: memory, files, time, and its parent's lifetime."""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import resource
import signal
import threading
import time
from typing import BinaryIO

# Libraries and locale tables that are mapped into memory and hardly read.
_MAPPED_BYTES = 1024**3

# Time after the parent's own limit before the alarm ends the child.
_GRACE_SECONDS = 5

_LOOK_SECONDS = 0.5

# Share of its memory limit that a process can still get after it has loaded its libraries.
_FRESH_SHARE = 0.7


def limit_memory(memory_bytes: int) -> None:
    """Limit the memory of this process, as far as the platform supports it, and forbid it to write files."""
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        # On Linux this covers all private writable memory, and not files that are mapped for reading.
        resource.RLIMIT_DATA: memory_bytes,
        resource.RLIMIT_AS: memory_bytes + _MAPPED_BYTES,
    }
    for kind, wanted in limits.items():
        most = resource.getrlimit(kind)[1]
        least = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        # macOS refuses a limit of the address space and does not enforce one on data.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (least, least))


def limit_time(cpu_seconds: int, wall_seconds: int) -> None:
    """End this process after ``cpu_seconds`` of processor time (SIGXCPU) or ``wall_seconds`` (SIGALRM) from now.

    Calling it again starts both limits anew.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    wanted = math.ceil(used.ru_utime + used.ru_stime) + cpu_seconds
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    least = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (least, most))
    # The parent times out first and says why; the alarm is for a child whose parent has died.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(wall_seconds + _GRACE_SECONDS)


def exit_with_parent(parent: int) -> None:
    """End this process soon after its parent, whose process id is ``parent``, however the parent ends."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        # Any other exit would wait for native code that still runs.
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def has_memory(memory_bytes: int) -> bool:
    """Tell whether this fresh process can allocate the memory that its limit allows.

    If it cannot, another limit is lower or the machine has no memory left, and a failure for lack of memory is not the
    document's fault. The memory is mapped and never touched, so none is used.
    """
    try:
        mmap.mmap(-1, int(memory_bytes * _FRESH_SHARE), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError:
        return False
    return True


def claim_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Return stdin and stdout as files for messages alone; what libraries print goes to standard error from now on."""
    requests, responses = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return os.fdopen(requests, "rb"), os.fdopen(responses, "wb")
