"""Create the bucket, the topic and the queue, and probe each: ``python -m photo_worker.devkit.resources``.

Run by the one-shot service of ``compose/docker-compose.yml``; reads the same variables as the worker. Exit codes: 0,
or 1 with the reason on standard error.
"""

from __future__ import annotations

import os
import sys

from photo_worker.devkit import readiness


def main() -> int:
    """Create the missing resources; return the exit code."""
    try:
        readiness.probe_aws(dict(os.environ))
    except readiness.NotReady as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
