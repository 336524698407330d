"""The product's worker process, which can die, stop or fail at a given crash point.

``python -m tests.crash.real.worker`` runs one by hand, with the variables of ``arming``, ``holding`` and ``scaled``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence

from photo_worker.bootstrap import build_activities, build_application, workflow_classes, workflow_policies
from photo_worker.config import load_settings, read_environment
from photo_worker.crash_points import armed
from photo_worker.errors import PhotoWorkerError
from photo_worker.logs import configure_logging
from photo_worker.readiness import readiness_checks
from photo_worker.worker import WorkerOptions, serve
from tests.crash.real import scaled
from tests.crash.real.arming import tripwire_of
from tests.crash.real.holding import holder_of

# Exit code of a worker whose services are away when it starts: its caller restarts it (EX_TEMPFAIL).
AWAY = 75


def main(arguments: Sequence[str] = ()) -> int:
    """Run the worker until SIGTERM, or until standard input ends."""
    if arguments:
        raise SystemExit(f"this worker takes variables, not {arguments[0]!r}")
    variables = dict(os.environ)
    scale = scaled.scale_of(variables)
    trigger = tripwire_of(variables) or holder_of(variables)
    with armed(trigger) if trigger is not None else contextlib.nullcontext():
        try:
            asyncio.run(_run(variables, scale))
        except PhotoWorkerError as error:
            print(f"[{error.code}] {error.message}", file=sys.stderr)  # noqa: T201 - to its log
            return AWAY if error.retryable else 1
    return 0


async def _run(variables: dict[str, str], scale: scaled.Scale | None) -> None:
    settings = load_settings(read_environment(variables, None))
    configure_logging(settings.log_level, settings.log_format)
    pipelines = scaled.pipelines_of(scale) if scale is not None else None
    times = scaled.times_of(scale) if scale is not None else None
    with build_application(settings, pipelines=pipelines, times=times) as application:
        policies = workflow_policies(application)
        activities = build_activities(application)
        client = await application.client()
        await serve(
            client,
            settings,
            workflow_classes(application.pipelines),
            activities,
            checks=readiness_checks(application),
            stop_on_eof=True,
            options=scaled.options_of(scale, policies) if scale is not None else WorkerOptions(policies=policies),
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
