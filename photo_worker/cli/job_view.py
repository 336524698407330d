"""Jobs in a terminal: a progress bar on stderr, a table on stdout, and links to more."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import UUID

import click

from photo_worker.errors import PhotoWorkerError
from photo_worker.ports.job_repository import FINAL_STATUSES
from photo_worker.printable import printable
from photo_worker.services.jobs import JobReport

_T = TypeVar("_T")
# Wide enough for the whole table if the output is not a terminal: logs and files do not wrap.
_PLAIN_WIDTH = 140


async def with_progress(label: str, work: Sequence[Awaitable[_T]]) -> list[_T]:
    """Await all of ``work`` and show how many are done: a bar on a terminal, elsewhere a line per tenth."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    total = len(work)
    if sys.stderr.isatty():
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        ) as progress:
            task = progress.add_task(label, total=total)
            return await _gather(work, lambda: progress.advance(task))
    done = 0
    step = max(1, total // 10)

    def report() -> None:
        nonlocal done
        done += 1
        if done % step == 0 or done == total:
            click.echo(f"{label}: {done}/{total}", err=True)

    return await _gather(work, report)


async def _gather(work: Sequence[Awaitable[_T]], on_done: Callable[[], object]) -> list[_T]:
    async def one(item: Awaitable[_T]) -> _T:
        result = await item
        on_done()
        return result

    tasks = [asyncio.ensure_future(one(item)) for item in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


@dataclass
class JobRow:
    """One submitted asset with its job, report or error."""

    label: str
    job_id: UUID | None = None
    joined: bool | None = None
    report: JobReport | None = None
    error: PhotoWorkerError | None = None

    @property
    def reason(self) -> tuple[str, str] | None:
        """Return the code and message of the error of the submission or of the job, or None."""
        if self.error is not None:
            return self.error.code, self.error.message
        if self.report is not None and self.report.record.error_code:
            return self.report.record.error_code, self.report.record.error_message or ""
        return None

    def as_dict(self, variables: Mapping[str, str]) -> dict[str, Any]:
        """Return the row for JSON output; keys are always present."""
        reason = self.reason
        return {
            "source": self.label,
            "job_id": None if self.job_id is None else str(self.job_id),
            "joined": self.joined,
            "report": None if self.report is None else self.report.as_dict(),
            "links": None if self.report is None else links(variables, self.report),
            "error": None if reason is None else {"code": reason[0], "message": reason[1]},
        }


def print_rows(rows: Sequence[JobRow]) -> None:
    """Print a line for each job: its asset, status, duration, word count and confidence; then the errors."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("asset", overflow="fold")
    table.add_column("status")
    for numeric in ("seconds", "words", "confidence"):
        table.add_column(numeric, justify="right")
    table.add_column("job", no_wrap=True)
    for row in rows:
        table.add_row(printable(row.label), *_cells(row))
    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, markup=False, highlight=False)
    console.print(table)
    for row in rows:
        if row.reason is not None:
            click.echo(f"\n{printable(row.label)}: [{row.reason[0]}] {printable(row.reason[1])}")
        if row.error is not None:
            click.echo(f"hint: {printable(row.error.hint)}")


def _cells(row: JobRow) -> tuple[str, str, str, str, str]:
    job = "-" if row.job_id is None else str(row.job_id)
    if row.report is None:
        submitted = "joined" if row.joined else "submitted"
        return ("refused" if row.job_id is None else submitted), "-", "-", "-", job
    report = row.report
    return (
        report.record.status,
        f"{report.seconds:.1f}" if report.record.status in FINAL_STATUSES else "-",
        "-" if report.words is None else str(report.words),
        "-" if report.mean_confidence is None else f"{report.mean_confidence:.1f}",
        job,
    )


def object_link(variables: Mapping[str, str], location: str | None) -> str | None:
    """Return an object's URL for a browser if an S3 endpoint is set, otherwise its s3:// location."""
    endpoint = variables.get("AWS_ENDPOINT_URL_S3") or variables.get("AWS_ENDPOINT_URL")
    if location is None or not endpoint:
        return location
    return f"{endpoint.rstrip('/')}/{quote(location.removeprefix('s3://'))}"


def workflow_link(variables: Mapping[str, str], job_id: UUID) -> str | None:
    """Return the URL of a job's page in the Temporal UI, or None without TEMPORAL_UI_URL."""
    base = variables.get("TEMPORAL_UI_URL")
    if not base:
        return None
    return f"{base.rstrip('/')}/namespaces/{variables.get('TEMPORAL_NAMESPACE', 'default')}/workflows/{job_id}"


def links(variables: Mapping[str, str], report: JobReport) -> dict[str, str | None]:
    """Return the links to a job's workflow and each of its objects, by name."""
    facts = report.as_dict()
    return {
        "workflow": workflow_link(variables, report.record.id),
        "photo": object_link(variables, facts["raw"]),
        "text": object_link(variables, facts["ocr"]),
        "manifest": object_link(variables, facts["manifest"]),
    }
