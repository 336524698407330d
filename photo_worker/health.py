"""Whether this machine's worker does its job, for a container's health check: ``python -m photo_worker.health``.

A process can be alive and do nothing. Temporal knows better: DescribeTaskQueue lists the workers that
have asked for work lately, by identity, and the SDK's identity is ``PID@HOST``. In a container the host
name is the container's own.

Exit codes: 0 healthy, 1 not healthy with the reason on standard error.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from temporalio.service import RPCError

from photo_worker.config import load_settings, read_environment
from photo_worker.errors import PhotoWorkerError
from photo_worker.orchestration.connection import connect
from photo_worker.orchestration.pollers import RECENT_POLL, last_poll


async def check(variables: Mapping[str, str], env_file: Path | None, host: str) -> str:
    """Return why the worker is not healthy; nothing where it is. Raises ``PhotoWorkerError``."""
    environment = read_environment(variables, env_file)
    settings = load_settings(environment)
    client = await connect(settings, environment.variables)
    try:
        polled = await last_poll(client, settings.temporal_task_queue, host)
    except RPCError as error:
        return f"Temporal does not describe the task queue {settings.temporal_task_queue}: {error.message}"
    if polled is None:
        return f"no worker of {host} polls {settings.temporal_task_queue}"
    age = datetime.now(UTC) - polled
    return f"the last poll is {age.total_seconds():.0f} s old" if age > RECENT_POLL else ""


def main() -> None:
    """Exit with 0 where the worker is healthy."""
    try:
        reason = asyncio.run(check(os.environ, Path(".env"), socket.gethostname()))
    except PhotoWorkerError as error:
        reason = error.message
    if reason:
        sys.stderr.write(f"{reason}\n")
        sys.stderr.flush()
    # The SDK's threads may still be letting go of the interpreter after a refused connection; an
    # orderly end races with them and aborts the process now and then (temporalio 1.35).
    os._exit(1 if reason else 0)


if __name__ == "__main__":
    main()
