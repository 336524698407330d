"""``photo-worker erase``: delete every trace of a job."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import click

from photo_worker.cli.context import CommandContext, resolve_context, stack_option
from photo_worker.cli.output import ErrorReportingCommand, OutputFormat, emit, output_option
from photo_worker.errors import ConfirmationRequired, JobMissing
from photo_worker.printable import printable

if TYPE_CHECKING:
    from photo_worker.services.erasure import ErasureStep, Traces


@click.command(cls=ErrorReportingCommand)
@click.argument("job_id", metavar="JOB")
@click.option("--with-source", is_flag=True, help="Delete the photo even if it was not uploaded by a submission.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@stack_option
@output_option("text", "json")
@click.pass_context
def erase(
    ctx: click.Context, job_id: str, with_source: bool, yes: bool, stack_name: str | None, output: OutputFormat
) -> None:
    """Delete every trace of a job: its workflow, objects, photo and rows, running or not.

    The photo is kept if other jobs use it. The id cannot be used again; a digest of it is kept to
    recognise it. If the command is interrupted, run it again to complete the erasure.
    """
    from photo_worker.contracts.keys import parse_job_id

    wanted = parse_job_id(job_id)
    context = resolve_context(ctx, stack_name=stack_name)
    steps = asyncio.run(_erase(context, wanted, with_source=with_source, ask=not yes, output=output))
    left = [f"{step.part}: {step.left}" for step in steps if step.left]
    emit(
        "erase",
        output,
        data={"job_id": str(wanted), "steps": [step.as_dict() for step in steps], "left": left},
        text=f"Job {wanted} is erased." if not left else f"Job {wanted} is erased, with what is left above.",
    )


async def _erase(
    context: CommandContext, job_id: UUID, *, with_source: bool, ask: bool, output: OutputFormat
) -> Sequence[ErasureStep]:

    with context.application() as application:
        await application.connect()
        erasure = application.erasure()
        traces = await erasure.traces(job_id)
        if not traces.known:
            raise JobMissing(job_id=job_id)
        # An erased job has nothing left to lose.
        if ask and not traces.gone:
            _confirm(traces, with_source)

        def on_step(step: ErasureStep) -> None:
            if output == "text":
                said = [step.done, f"left: {step.left}" if step.left else ""]
                click.echo(f"{step.part:<9} {printable('; '.join(filter(None, said)))}")

        if output == "text" and any(not state.is_open for state in traces.workflow_states):
            click.echo(
                "Temporal deletes the history of a job that ended a moment ago within a minute or two.", err=True
            )
        return await erasure.erase(job_id, with_source=with_source, on_step=on_step)


def _confirm(traces: Traces, with_source: bool) -> None:
    if not sys.stdin.isatty():
        raise ConfirmationRequired(what=f"every trace of job {traces.job_id}")
    click.echo(f"Job {traces.job_id} has:", err=True)
    for line in describe_traces(traces, with_source):
        click.echo(f"  {printable(line)}", err=True)
    click.confirm("Delete all of this for good? The id cannot be used again.", abort=True, err=True)


def describe_traces(traces: Traces, with_source: bool) -> list[str]:
    """Return one line for each thing that an erasure would delete or keep."""
    lines = [f"objects   s3://{bucket}/{key}" for bucket, key in traces.objects]
    if traces.workflow is not None:
        lines.insert(0, f"workflow  {traces.workflow.status}, with its history")
    lines[:0] = [f"workflow  {one.workflow_id} {one.state.status}, with its history" for one in traces.others]
    for bucket, key in traces.copies:
        lines.append(f"copy      s3://{bucket}/{key}" + (" (stays: other jobs read it)" if traces.shared else ""))
    if traces.photo is not None:
        where = f"photo     s3://{traces.photo[0]}/{traces.photo[1]}"
        if traces.shared:
            where += " (stays: other jobs use it)"
        elif not traces.uploaded and not with_source:
            where += " (stays: it was not uploaded by a submission)"
        lines.append(where)
    if traces.row is not None:
        lines.append(f"rows      {traces.row.status}")
    return lines
