"""What a process that parses hostile files puts on itself: bounds of memory, files and time, and its parent's life."""

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

# Libraries and tables of locales that are mapped and hardly read.
_MAPPED_BYTES = 1024**3

# Behind the soft limit, for what does not end at its signal.
_GRACE_SECONDS = 5

_LOOK_SECONDS = 0.5

# What of its bound a process can still get that has done nothing but load its libraries.
_FRESH_SHARE = 0.7


def limit_memory(memory_bytes: int) -> None:
    """Bound the memory of this process, as far as the platform does it, and have it write no files."""
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        # On Linux what the process may write to, however it is got, and not what of a file it has mapped to read.
        resource.RLIMIT_DATA: memory_bytes,
        resource.RLIMIT_AS: memory_bytes + _MAPPED_BYTES,
    }
    for kind, wanted in limits.items():
        most = resource.getrlimit(kind)[1]
        least = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        # macOS takes no limit of the address space, and keeps to none on data.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (least, least))


def limit_time(cpu_seconds: int, wall_seconds: int) -> None:
    """End this process when it has taken so much more of a processor (SIGXCPU), or so much time (SIGALRM), from now.

    May be called again, which begins anew.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    wanted = math.ceil(used.ru_utime + used.ru_stime) + cpu_seconds
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    least = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (least, most))
    # The parent gives up first and says why; this is for a child that has no parent any more.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(wall_seconds + _GRACE_SECONDS)


def end_with(parent: int) -> None:
    """End this process soon after the one that started it, ``parent`` by its id, however that one ends."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        # Native code that is still at work would hold up any other end.
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def has_memory(memory_bytes: int) -> bool:
    """Tell whether this process, which has done nothing yet, gets the memory that it is bounded to.

    Where it does not, another limit is narrower, or the machine has no more: what failed for want of memory is no
    document's fault then. Nothing of it is touched, so that none is taken.
    """
    try:
        mmap.mmap(-1, int(memory_bytes * _FRESH_SHARE), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError:
        return False
    return True


def take_streams() -> tuple[BinaryIO, BinaryIO]:
    """Keep the two pipes for messages alone: what libraries print goes to standard error."""
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return os.fdopen(requests, "rb"), os.fdopen(answers, "wb")
