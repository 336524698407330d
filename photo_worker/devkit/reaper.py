"""Ends the services of a supervisor that was killed.

A supervisor killed by SIGKILL cannot end its children, and macOS cannot tie a child's life to its
parent's. So each child writes its pid into this process's pipe before it becomes the service:
``+<pid> <signal>``; the supervisor writes ``-<pid>`` once it has seen the service end, and ``?`` if
a child ended before the supervisor knew its pid, so that ended ones are dropped from the list. When the
pipe closes, all its writers have ended, and the reaper ends the services still listed. It uses the
standard library only and is started by path with ``-I -S``, to cost next to nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import time

_GRACE_SECONDS = 6.0


def main() -> None:
    """Read the pipe on stdin until it closes, then end the listed process groups."""
    # Ctrl-C in a terminal or a plain `kill` must not end the reaper before the services.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    running: dict[int, int] = {}
    for line in sys.stdin:
        pid, _, number = line[1:].strip().partition(" ")
        if line.startswith("+"):
            running[int(pid)] = int(number)
        elif line.startswith("-"):
            running.pop(int(pid), None)
        else:
            running = {group: stop for group, stop in running.items() if signal_group(group, 0)}
    end_groups(running, grace=_GRACE_SECONDS, paused=paused_processes(sys.argv[1]) if sys.argv[1:] else [])


def paused_processes(directory: str) -> list[int]:
    """Return the pids listed as paused in a stack's directory; an empty list if there is no usable list."""
    import json

    try:
        with open(f"{directory}/run/paused.json", encoding="utf-8") as file:  # noqa: PTH123 - a library less to import
            return [int(pid) for service in json.load(file).values() for pid, _ in service["processes"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def end_groups(groups: dict[int, int], *, grace: float, paused: list[int] | None = None) -> None:
    """Send each process group its signal, then SIGKILL to those left after ``grace`` seconds.

    The ``paused`` processes are resumed: stopped ones would not end, and some are in other process groups.
    """
    for group, number in groups.items():
        signal_group(group, number)
    for pid in paused or ():
        try:
            os.kill(pid, signal.SIGCONT)
        except OSError:
            continue
    deadline = time.monotonic() + grace
    left = list(groups)
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [group for group in left if signal_group(group, 0)]
    for group in left:
        signal_group(group, signal.SIGKILL)


def signal_group(group: int, number: int) -> bool:
    """Signal a process group; returns False if no live process is left in it."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        # macOS raises this for a group in which only zombies are left.
        return False
    return True


if __name__ == "__main__":
    main()
