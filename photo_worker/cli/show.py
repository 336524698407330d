"""``photo-worker show``: show all facts of one job."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING
from uuid import UUID

import click

from photo_worker.cli.context import resolve_context, stack_option
from photo_worker.cli.output import ErrorReportingCommand, OutputFormat, echo_printable, emit, output_option, table
from photo_worker.errors import ConfigurationError, DependencyError
from photo_worker.printable import printable

if TYPE_CHECKING:
    from photo_worker.bootstrap import Application


@click.command(cls=ErrorReportingCommand)
@click.argument("job_id", metavar="JOB")
@stack_option
@output_option("text", "json")
@click.pass_context
def show(ctx: click.Context, job_id: str, stack_name: str | None, output: OutputFormat) -> None:
    """Show a job's state, artifacts and text.

    For a job that has not ended, also shows what its current activity waits for and whether its workflow still
    runs; if Temporal does not respond, or refuses to, shows only the row. If nothing runs any more although the row
    is open, reports this and exits with code 1.
    """
    from photo_worker.cli.job_view import links
    from photo_worker.contracts.keys import parse_job_id
    from photo_worker.ports.job_repository import FINAL_STATUSES

    wanted = parse_job_id(job_id)
    context = resolve_context(ctx, stack_name=stack_name)
    with context.application() as application:
        report = application.jobs().report(wanted)
        facts = report.as_dict()
        if report.record.status not in FINAL_STATUSES:
            facts |= asyncio.run(_progress(application, wanted))
    where = links(context.variables, report)
    emit("show", output, data={"job": facts, "links": where}, text=_text(facts, where))


async def _progress(application: Application, job_id: UUID) -> dict[str, object]:
    """Return Temporal's state of a job whose row is open.

    Raises ``JobEndedWithoutRow`` or ``JobWithoutWorkflow`` if its workflow no longer runs.
    """
    try:
        await application.connect()
        state = await application.jobs().workflow_of(job_id)
    except (ConfigurationError, DependencyError) as error:
        echo_printable(f"only the row is shown: [{error.code}] {error.message}", err=True)
        return {"workflow": None, "waiting": None}
    waiting = None if state is None else state.waiting
    return {
        "workflow": None if state is None else state.status,
        "waiting": None
        if waiting is None
        else {
            "step": waiting.step,
            "attempt": waiting.attempt,
            "code": waiting.code,
            "reason": waiting.reason,
            "next_at": None if waiting.next_at is None else waiting.next_at.isoformat(),
        },
    }


def _text(facts: Mapping[str, object], where: Mapping[str, str | None]) -> str:
    shown = {name: value for name, value in facts.items() if name != "lines" and value is not None}
    error = facts["error"]
    if isinstance(error, Mapping):
        shown["error"] = f"[{error['code']}] {error['message']}"
    waiting = facts.get("waiting")
    if isinstance(waiting, Mapping):
        due = f"at {waiting['next_at']}" if waiting["next_at"] else "runs now"
        shown["waiting"] = (
            f"{waiting['step']}, attempt {waiting['attempt']} {due}; the last one failed with [{waiting['code']}]"
            f" {waiting['reason']}"
        )
    reachable = [(name, link) for name, link in where.items() if link and not link.startswith("s3://")]
    rows = table([*((name, str(value)) for name, value in shown.items()), *reachable])
    lines = facts["lines"]
    if isinstance(lines, list) and lines:
        rows += ["", *(printable(str(line)) for line in lines)]
    return "\n".join(rows)
