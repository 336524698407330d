"""``photo-worker submit``: submit photos as jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import click

from photo_worker.cli.context import CommandContext, resolve_context, stack_option
from photo_worker.cli.output import ErrorReportingCommand, OutputFormat, emit, output_option
from photo_worker.errors import InputError, PhotoWorkerError
from photo_worker.printable import cut

if TYPE_CHECKING:
    from photo_worker.cli.job_view import JobRow
    from photo_worker.ports.orchestrator import WorkflowOrchestrator
    from photo_worker.sources import Source

# Enough to keep a worker busy from the start, few enough not to overload a laptop's services.
_PARALLEL_SUBMISSIONS = 8


def _parse_content_type(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    from photo_worker import media

    accepted = media.DOCUMENT_TYPES | media.CONVERTED_TYPES
    if value is not None and media.media_type(value) not in accepted:
        raise click.BadParameter(f"{cut(value)!r} is no type that OCR reads; those are {', '.join(sorted(accepted))}")
    return value


@click.command(cls=ErrorReportingCommand)
@click.argument("sources", metavar="PATH|s3://BUCKET/KEY...", nargs=-1, required=True)
@click.option("--job-id", help="Job id (UUID), only with one source; an existing id joins that job.")
@click.option("--engine", help="OCR backend for these jobs: textract, local, recorded, or an installed plug-in.")
@click.option(
    "--expect",
    "expected_content_type",
    metavar="TYPE",
    callback=_parse_content_type,
    help="Refuse files that are not of this media type, such as image/jpeg.",
)
@click.option("--wait", is_flag=True, help="Wait for the results and show them.")
@stack_option
@output_option("text", "json")
@click.pass_context
def submit(
    ctx: click.Context,
    sources: tuple[str, ...],
    job_id: str | None,
    engine: str | None,
    expected_content_type: str | None,
    wait: bool,
    stack_name: str | None,
    output: OutputFormat,
) -> None:
    """Submit photos: files, directories, quoted globs, or objects in S3.

    From a directory, files that hold a photo or document are submitted; skipped files are reported.

    Each becomes a job that a worker processes. With --wait, exits with code 1 if a job failed. Submitting a job id
    again never runs it twice: it joins the job, or reports it; if its workflow has ended and left its row open,
    reports this and exits with code 1.
    """
    from photo_worker.contracts.keys import parse_job_id
    from photo_worker.sources import expand_sources

    wanted = None if job_id is None else parse_job_id(job_id)
    if not all(sources):
        raise click.UsageError("an argument is empty, as an unset shell variable makes it: name a file or a folder")
    try:
        expanded = expand_sources(sources)
    except InputError as error:
        raise error.from_option() from error
    found = expanded.sources
    if wanted is not None and len(found) != 1:
        raise click.UsageError(f"--job-id goes with one source; {len(found)} were given")
    # Printed before anything is uploaded: the user may have meant other files.
    for what in expanded.left_out:
        click.echo(f"warning: {what}", err=True)
    context = resolve_context(ctx, stack_name=stack_name)
    rows = asyncio.run(
        submit_all(context, [(source, wanted) for source in found], engine, expected_content_type, wait=wait)
    )
    failed = any(row.reason for row in rows)
    emit(
        "submit",
        output,
        data={"jobs": [row.as_dict(context.variables) for row in rows]},
        text=lambda: _print(context, rows, wait),
        status="failed" if failed else "ok",
        warnings=expanded.left_out if output == "json" else (),
    )
    ctx.exit(1 if failed else 0)


async def submit_all(
    context: CommandContext,
    sources: Sequence[tuple[Source, UUID | None]],
    engine: str | None,
    expected_content_type: str | None,
    *,
    wait: bool,
    worker_comes: bool = False,
) -> list[JobRow]:
    """Submit each source under its job id, or a new one; if ``wait`` is set, wait for the results.

    Prints a note if ``engine`` is not installed on this machine, and, unless ``worker_comes``, if no worker takes work.

    Raises, before anything is uploaded, ``InvalidEngine``, and what ``require_own_bucket`` raises for the bucket of the
    uploads. If a source is refused, its row gets the error and the others go on; with a single source the error is
    raised. An error while waiting for a job always goes to its row.
    """
    from photo_worker.cli.job_view import JobRow, with_progress
    from photo_worker.services.binding import require_own_bucket
    from photo_worker.services.jobs import check_engine

    check_engine(engine)
    with context.application() as application:
        _note_unknown_backend(engine)
        # Before anything is written: if Temporal is unavailable, no half-submitted job remains.
        orchestrator = await application.connect()
        bucket = context.settings.s3_bucket
        if any(source.path is not None for source, _ in sources):
            await asyncio.to_thread(require_own_bucket, application.store, application.repository, bucket)
        service = application.jobs()
        if not worker_comes:
            await _note_no_worker(orchestrator, context.settings.temporal_task_queue)
        gate = asyncio.Semaphore(_PARALLEL_SUBMISSIONS)

        async def one(source: Source, job_id: UUID | None) -> JobRow:
            row = JobRow(source.label)
            try:
                async with gate:
                    submission = await service.submit(
                        source, job_id=job_id, engine=engine, expected_content_type=expected_content_type
                    )
                row.job_id, row.joined = submission.job_id, submission.joined
                if wait:
                    row.report = await service.wait(submission.job_id)
            except PhotoWorkerError as error:
                # A submitted job has an id, which an error alone would not show.
                if len(sources) == 1 and row.job_id is None:
                    raise
                row.error = error
            return row

        label = "processed" if wait else "submitted"
        return await with_progress(label, [one(source, job_id) for source, job_id in sources])


async def _note_no_worker(orchestrator: WorkflowOrchestrator, queue: str) -> None:
    """Print a note if no worker takes work, and what the existing workers wait for."""
    if not await orchestrator.has_worker():
        click.echo(f"no worker polls the task queue {queue!r}: start one with `photo-worker worker`", err=True)
    elif waits_for := (await orchestrator.queue_state()).waits_for:
        click.echo(
            f"the worker of the task queue {queue!r} takes no work at this moment, it waits: {', '.join(waits_for)}; "
            "its log says more",
            err=True,
        )


def _note_unknown_backend(engine: str | None) -> None:
    """Print a note if this machine does not have the backend: the jobs wait for a worker that has it."""
    from photo_worker.adapters.ocr.registry import known_engines

    if engine is not None and engine not in (known := known_engines()):
        click.echo(
            f"no OCR backend {engine!r} is installed here (known are {', '.join(known)}): "
            "its jobs wait until a worker has it",
            err=True,
        )


def _print(context: CommandContext, rows: Sequence[JobRow], wait: bool) -> None:
    from photo_worker.cli.job_view import print_rows

    print_rows(rows)
    if not wait and any(row.job_id for row in rows):
        click.echo("\nSee a job with: photo-worker show JOB")
    if ui := context.variables.get("TEMPORAL_UI_URL"):
        click.echo(f"\nTemporal UI: {ui}")
