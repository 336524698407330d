"""The defaults and ranges of the server's options: one definition for every command line that starts it.

Imports nothing, since a command line is made before the reading process starts.
"""

from __future__ import annotations

from typing import NamedTuple


class NumberOption(NamedTuple):
    """An option with a whole number. ``default`` is None if the number depends on the machine."""

    default: int | None
    least: int
    most: int


DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8765

MOST_OPEN_JOBS = 100
"""Default limit on jobs in progress: the quota of an AWS account in most regions (D: quotas)."""

PORT_OPTION = NumberOption(DEFAULT_PORT, 0, 65_535)
PROCESSES_OPTION = NumberOption(None, 1, 64)
OPEN_JOBS_OPTION = NumberOption(MOST_OPEN_JOBS, 1, 10_000)
