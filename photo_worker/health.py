"""Health check of a container with a worker: ``python -m photo_worker.health``.

A process can be alive and do nothing, so the check asks Temporal: DescribeTaskQueue lists the workers that have polled
lately by identity, which the SDK sets to ``PID@HOST``. In a container the host name is the container's own. A worker
that waits for a service or a permission is healthy: a restart would not help and would interrupt running activities.

Exit codes: 0 if healthy, with what the worker waits for on standard output; 1 if not, with the reason on standard
error.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from temporalio.service import RPCError

from photo_worker.adapters.temporal.connection import connect
from photo_worker.adapters.temporal.pollers import workers_of
from photo_worker.config import load_settings, read_environment
from photo_worker.errors import PhotoWorkerError


async def check(
    variables: Mapping[str, str], env_file: Path | None, host: str, say: Callable[[str], object] = lambda text: None
) -> str:
    """Return why the worker is not healthy, or an empty string if it is. Raises ``PhotoWorkerError``.

    ``say`` is called with a line about what a healthy worker waits for, if it waits.
    """
    environment = read_environment(variables, env_file)
    settings = load_settings(environment)
    client = await connect(settings, environment.variables)
    try:
        workers = await workers_of(client, settings.temporal_task_queue, host)
    except RPCError as error:
        return f"Temporal does not describe the task queue {settings.temporal_task_queue}: {error.message}"
    if workers.last_seen is None:
        return f"no worker of {host} polls {settings.temporal_task_queue}"
    if not workers.are_there:
        return f"the last poll is {(datetime.now(UTC) - workers.last_seen).total_seconds():.0f} s old"
    if workers.waits_for:
        say(f"the worker takes no work, it waits: {', '.join(workers.waits_for)}\n")
    return ""


def main() -> None:
    """Exit with 0 if the worker is healthy, otherwise with 1."""
    try:
        reason = asyncio.run(check(os.environ, Path(".env"), socket.gethostname(), sys.stdout.write))
    except PhotoWorkerError as error:
        reason = error.message
    if reason:
        sys.stderr.write(f"{reason}\n")
        sys.stderr.flush()
    sys.stdout.flush()
    # After a refused connection the SDK's threads may still use the interpreter; a normal exit races with them and
    # sometimes aborts the process (temporalio 1.35).
    os._exit(1 if reason else 0)


if __name__ == "__main__":
    main()
