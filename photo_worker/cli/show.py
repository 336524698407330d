"""``photo-worker show``: one job, whole."""

from __future__ import annotations

from collections.abc import Mapping

import click

from photo_worker.cli.context import stack_option, surroundings
from photo_worker.cli.output import Command, OutputFormat, emit, output_option


@click.command(cls=Command)
@click.argument("job_id", metavar="JOB")
@stack_option
@output_option("text", "json")
@click.pass_context
def show(ctx: click.Context, job_id: str, stack_name: str | None, output: OutputFormat) -> None:
    """Show a job's state, artifacts and text."""
    from photo_worker.bootstrap import build_application
    from photo_worker.cli.view import links
    from photo_worker.contracts.keys import parse_job_id
    from photo_worker.jobs import JobService

    wanted = parse_job_id(job_id)
    around = surroundings(ctx, stack_name=stack_name)
    application = build_application(around.settings)
    try:
        service = JobService(application.store, application.repository, None, around.settings.s3_bucket)
        report = service.report(wanted)
    finally:
        application.close()
    facts = report.as_dict()
    where = links(around.variables, report)
    emit("show", output, data={"job": facts, "links": where}, text=_text(facts, where))


def _text(facts: Mapping[str, object], where: Mapping[str, str | None]) -> str:
    shown = {name: value for name, value in facts.items() if name != "lines" and value is not None}
    error = facts["error"]
    if isinstance(error, Mapping):
        shown["error"] = f"[{error['code']}] {error['message']}"
    width = max(len(name) for name in shown)
    rows = [f"{name:<{width}}  {value}" for name, value in shown.items()]
    rows += [f"{name:<{width}}  {value}" for name, value in where.items() if value and not value.startswith("s3://")]
    lines = facts["lines"]
    if isinstance(lines, list) and lines:
        rows += ["", *(str(line) for line in lines)]
    return "\n".join(rows)
