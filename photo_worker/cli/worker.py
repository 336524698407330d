"""``photo-worker worker``: run the worker process."""

from __future__ import annotations

import asyncio

import click

from photo_worker.cli.context import CommandContext, resolve_context, stack_option
from photo_worker.cli.output import ErrorReportingCommand


@click.command(cls=ErrorReportingCommand)
@stack_option
@click.option("--stop-on-eof", is_flag=True, hidden=True, help="Stop when standard input ends.")
@click.pass_context
def worker(ctx: click.Context, stack_name: str | None, stop_on_eof: bool) -> None:
    """Run the worker until it is stopped.

    It polls the task queue TEMPORAL_TASK_QUEUE. On SIGTERM or Ctrl-C it takes no new work and lets
    running activities finish within GRACEFUL_SHUTDOWN_SECONDS; a second signal ends it at once.
    It takes work while database, schema, bucket and OCR service are available and accept its credentials, and logs
    once what prevents it. Without settings for its services it uses the local stack that runs here.
    """
    asyncio.run(_run(resolve_context(ctx, stack_name=stack_name), stop_on_eof))


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
