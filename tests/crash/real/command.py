"""The ``photo-worker`` command, which can die, stop or fail at a given crash point."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from photo_worker import cli
from photo_worker.crash_points import armed
from tests.crash.real.arming import tripwire_of


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    tripwire = tripwire_of(dict(os.environ))
    with armed(tripwire) if tripwire is not None else contextlib.nullcontext():
        return cli.run(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
