"""Ends the services of a supervisor that was killed.

A supervisor killed by SIGKILL cannot end its children, and macOS has no way to tie their lives to
its own. So each child writes its number into this process's pipe before it becomes the service:
``+<pid> <signal>``; the supervisor writes ``-<pid>`` once it has seen the service end, and ``?`` when
a child ended before it told its number, so that those that are gone leave the list. When the pipe
closes, nobody is left who could write, and what is still listed is ended. Standard library only,
started by path with ``-I -S``: it should cost next to nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import time

_GRACE_SECONDS = 6.0


def main() -> None:
    """Read the pipe on stdin until it closes, then end what it lists."""
    # A terminal's Ctrl-C or a polite `kill` must not remove the net before the trapeze is empty.
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
    """Return the numbers of the processes that are noted as paused in a stack's directory; none without a note."""
    import json

    try:
        with open(f"{directory}/run/paused.json", encoding="utf-8") as file:  # noqa: PTH123 - a library less to import
            return [int(pid) for service in json.load(file).values() for pid, _ in service["processes"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def end_groups(groups: dict[int, int], *, grace: float, paused: list[int] | None = None) -> None:
    """Send each process group its signal, then SIGKILL to those left after ``grace`` seconds.

    The ``paused`` processes go on: until then they would not end, some of them not even with their group.
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
    """Signal a process group; false where nothing of it is left."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        # What macOS says of a group in which only zombies are left.
        return False
    return True


if __name__ == "__main__":
    main()
