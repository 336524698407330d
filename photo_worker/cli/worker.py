"""``photo-worker worker``: run the worker process."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from photo_worker.cli.context import CommandContext, env_file_of, resolve_context, stack_option
from photo_worker.cli.output import ErrorReportingCommand

if TYPE_CHECKING:
    from photo_worker.cli.worker_processes import WorkerProcess

_LAST_PORT = 65_535


@click.command(cls=ErrorReportingCommand)
@stack_option
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Number of worker processes; each takes MAX_ACTIVITIES.",
)
@click.option("--stop-on-eof", is_flag=True, hidden=True, help="Stop when standard input ends.")
@click.pass_context
def worker(ctx: click.Context, stack_name: str | None, processes: int, stop_on_eof: bool) -> None:
    """Run the worker until it is stopped.

    It polls the task queue TEMPORAL_TASK_QUEUE. On SIGTERM or Ctrl-C it takes no new work and lets
    running activities finish within GRACEFUL_SHUTDOWN_SECONDS; a second signal ends it at once.
    It takes work while database, schema, bucket and OCR service are available and accept its credentials, and logs
    once what prevents it. Without settings for its services it uses the local stack that runs here.

    With --processes it starts that many workers, and another one for each that ends; the metrics of the second are at
    METRICS_ADDRESS with the next port, and so on.
    """
    context = resolve_context(ctx, stack_name=stack_name)
    if processes > 1:
        from photo_worker.cli.worker_processes import run_processes

        ctx.exit(asyncio.run(run_processes(_processes(ctx, context, processes, stack_name))))
    asyncio.run(_run(context, stop_on_eof))


def _processes(
    ctx: click.Context, context: CommandContext, count: int, stack_name: str | None
) -> Sequence[WorkerProcess]:
    """Return the processes to run. Raises ``click.UsageError`` if there is no port for the metrics of each."""
    from photo_worker.cli.worker_processes import WorkerProcess

    env_file = env_file_of(ctx)
    command = [
        *(sys.executable, "-m", "photo_worker.cli"),
        *([] if env_file is None else ["--env-file", str(env_file)]),
        *("worker", "--stop-on-eof"),
        *([] if stack_name is None else ["--name", stack_name]),
    ]
    address = context.settings.metrics_address
    if address is None:
        return [WorkerProcess(command, os.environ)] * count
    host, _, port = address.rpartition(":")
    if int(port) + count - 1 > _LAST_PORT:
        raise click.UsageError(f"METRICS_ADDRESS {address} leaves no ports for the metrics of {count} processes")
    return [
        WorkerProcess(command, {**os.environ, "METRICS_ADDRESS": f"{host}:{int(port) + number}"})
        for number in range(count)
    ]


async def _run(context: CommandContext, stop_on_eof: bool) -> None:
    from photo_worker.adapters.temporal.telemetry import metrics_runtime
    from photo_worker.bootstrap import build_activities, workflow_classes, workflow_policies
    from photo_worker.logs import configure_logging
    from photo_worker.readiness import readiness_checks
    from photo_worker.worker import WorkerOptions, serve

    configure_logging(context.settings.log_level, context.settings.log_format)
    address = context.settings.metrics_address
    runtime = metrics_runtime(address) if address else None
    with context.application() as application:
        await serve(
            await application.client(runtime),
            context.settings,
            workflow_classes(application.pipelines),
            build_activities(application),
            checks=readiness_checks(application),
            stop_on_eof=stop_on_eof,
            options=WorkerOptions(policies=workflow_policies(application)),
        )
