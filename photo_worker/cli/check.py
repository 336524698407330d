"""``photo-worker check``: check the invariants on live data, and repair."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from photo_worker.cli.context import CommandContext, resolve_context, stack_option
from photo_worker.cli.output import ErrorReportingCommand, OutputFormat, emit, output_option, table
from photo_worker.printable import printable

if TYPE_CHECKING:
    from photo_worker.services.consistency.finding import IntegrityFinding
    from photo_worker.services.consistency.repair import RepairResult
    from photo_worker.services.consistency.scan import ScanProgress, ScanReport

# Findings of each rule in the text output; -o json has all of them.
_SHOWN_PER_RULE = 10

# With more concurrent requests than this, they only wait for each other in the services.
_PARALLEL = 16

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

# A repair completes an unfinished erasure itself, so it need not wait for the erasure to end.
_ERASE_SECONDS_BEFORE_REPAIR = 5.0


class _Duration(click.ParamType):  # type: ignore[type-arg]
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"(\d{1,5})([smhd])", str(value))
        if found is None:
            self.fail(f"{value!r} is not a duration such as 90s, 30m, 1h or 2d", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


@click.command(cls=ErrorReportingCommand)
@click.option(
    "--repair", is_flag=True, help="Repair what is safe to repair, reporting each action; without it nothing changes."
)
@click.option("--job", "job_ids", metavar="JOB", multiple=True, help="Check only this job; repeatable.")
@click.option("--no-hashes", is_flag=True, help="Do not read and hash the photos; their sizes are still compared.")
@click.option(
    "--grace",
    type=_Duration(),
    default="1h",
    show_default=True,
    help="Do not report objects without a job that are younger than this.",
)
@stack_option
@output_option("text", "json")
@click.pass_context
def check(
    ctx: click.Context,
    *,
    repair: bool,
    job_ids: tuple[str, ...],
    no_hashes: bool,
    grace: timedelta,
    stack_name: str | None,
    output: OutputFormat,
) -> None:
    """Check that rows, objects, hashes, workflows and queues are consistent.

    Jobs may run meanwhile. Nothing is changed without --repair, which never does anything that costs money or loses
    data. Exits with code 1 if an error or a warning remains. The rules are in docs/reference/check.md.
    """
    from photo_worker.contracts.keys import parse_job_id

    wanted = [parse_job_id(job_id) for job_id in job_ids]
    context = resolve_context(ctx, stack_name=stack_name)
    begun = time.monotonic()
    say = _repair_printer(output)
    report, steps = asyncio.run(_run(context, wanted, hashes=not no_hashes, grace=grace, repair=repair, say=say))
    failed = any(found.severity != "notice" for found in report.findings)
    seconds = time.monotonic() - begun
    emit(
        "check",
        output,
        data=_data(report, steps, seconds, sound=not failed),
        text=lambda: _print(report, seconds, repaired=repair),
        status="failed" if failed else "ok",
    )
    ctx.exit(1 if failed else 0)


async def _run(
    context: CommandContext,
    wanted: Sequence[UUID],
    *,
    hashes: bool,
    grace: timedelta,
    repair: bool,
    say: Callable[[RepairResult], None],
) -> tuple[ScanReport, list[RepairResult]]:
    from datetime import UTC, datetime

    from photo_worker.services.consistency.inspector import InspectionConfig

    with context.application() as application:
        await application.connect()
        # The scan retries an unavailable service for a minute. This first query fails at once if the database is
        # down for good.
        await asyncio.to_thread(application.repository.deployment_id)
        config = InspectionConfig(
            now=lambda: datetime.now(UTC),
            hashes=hashes,
            grace=grace,
            parallel=min(_PARALLEL, context.settings.max_activities),
        )
        if repair:
            config = config.with_erase_seconds(_ERASE_SECONDS_BEFORE_REPAIR)
        async with application.scanner(config) as scanner:
            with _progress() as progress:
                report = await (scanner.scan_jobs(wanted, progress) if wanted else scanner.scan_all(progress))
            if not repair:
                return report, []
            return report, await application.repairer(scanner).repair(report, say)


@contextmanager
def _progress() -> Iterator[Callable[[ScanProgress], None]]:
    """Show the progress of the scan on a terminal; print nothing elsewhere, so that cron mails only the findings."""
    if not sys.stderr.isatty():
        yield lambda progress: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    labels = {"jobs": "jobs", "photos": "objects", "erases": "erases that may still run"}
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("checking", total=1.0)
        yield lambda now: bar.update(task, completed=now.share, description=f"{now.done:,} {labels[now.stage]}")


def _repair_printer(output: OutputFormat) -> Callable[[RepairResult], None]:
    """Return a function that prints each repair as it happens: to stdout, or to stderr beside JSON output."""

    def say(step: RepairResult) -> None:
        subject = f"job {step.finding.job_id}" if step.finding.job_id else step.finding.where
        click.echo(
            f"{step.outcome:<9} {step.finding.code}, {printable(f'{subject}: {step.detail}')}", err=output == "json"
        )

    return say


def _data(report: ScanReport, steps: Sequence[RepairResult], seconds: float, *, sound: bool) -> dict[str, Any]:
    from photo_worker.services.consistency.rules import all_rules

    counts = Counter(found.code for found in report.findings)
    return {
        "sound": sound,
        "bucket": _binding_word(report),
        "jobs": report.jobs,
        "objects": report.objects,
        "hashed_bytes": report.hashed_bytes,
        "young_objects": report.young,
        "passing": report.passing,
        "seconds": round(seconds, 3),
        "queues": [
            {
                "name": queue.name,
                "backlog": queue.backlog,
                "oldest_seconds": queue.oldest_seconds,
                "has_worker": queue.has_worker,
                "waits_for": list(queue.waits_for),
            }
            for queue in report.queues
        ],
        "rules": [
            {"code": rule.code, "severity": rule.severity, "invariant": rule.invariant, "findings": counts[rule.code]}
            for rule in all_rules()
        ],
        "findings": [found.as_dict() for found in report.findings],
        "repairs": [step.as_dict() for step in steps],
    }


def _binding_word(report: ScanReport) -> str:
    """Return bound, unbound or bound_elsewhere."""
    from photo_worker.services.binding import Bound, Unbound

    if isinstance(report.binding, Bound):
        return "bound"
    return "unbound" if isinstance(report.binding, Unbound) else "bound_elsewhere"


def _print(report: ScanReport, seconds: float, *, repaired: bool) -> None:
    from photo_worker.services.consistency.rules import all_rules

    by_rule = {
        rule.code: found for rule in all_rules() if (found := [one for one in report.findings if one.code == rule.code])
    }
    if by_rule:
        _print_table(by_rule)
    for found in by_rule.values():
        for one in found[:_SHOWN_PER_RULE]:
            _print_finding(one, repaired=repaired)
        if len(found) > _SHOWN_PER_RULE:
            click.echo(f"\n... and {len(found) - _SHOWN_PER_RULE:,} more of {found[0].code}; -o json shows all")
    click.echo(("\n" if by_rule else "") + _summary(report, seconds))


def _print_table(by_rule: dict[str, list[IntegrityFinding]]) -> None:
    from photo_worker.services.consistency.rules import all_rules

    holds = {rule.code: rule.holds for rule in all_rules()}
    rows = [(code, found[0].severity, f"{len(found):,}", holds[code]) for code, found in by_rule.items()]
    for line in table([("rule", "severity", "findings", "what does not hold"), *rows], right=2):
        click.echo(line)


def _print_finding(one: IntegrityFinding, *, repaired: bool) -> None:
    from photo_worker.services.consistency.finding import REPAIRS

    click.echo(f"\n{one.severity} [{one.code}]" + (f" job {one.job_id}" if one.job_id else ""))
    click.echo(f"  {printable(one.where)}")
    click.echo(f"  {printable(one.problem)}")
    click.echo(f"  why: {one.why}")
    click.echo(f"  do:  {one.todo}")
    if one.repair and not repaired:
        click.echo(f"  --repair would {REPAIRS[one.repair]}.")


def _summary(report: ScanReport, seconds: float) -> str:
    from photo_worker.services.consistency.finding import Severity

    severities = Counter(found.severity.value for found in report.findings)
    ordered = [(name.value, severities[name.value]) for name in Severity if severities[name.value]]
    counts = [f"{count:,} {name}{'' if count == 1 else 's'}" for name, count in ordered]
    parts = [f"{report.jobs:,} jobs and {report.objects:,} objects checked in {seconds:.1f} s"]
    if report.hashed_bytes:
        parts.append(f"{report.hashed_bytes / 1e6:,.1f} MB of photos hashed")
    if report.young:
        parts.append(f"{report.young:,} young objects without a job left out")
    return f"{'; '.join(parts)}: {', '.join(counts) or 'all is sound'}."
