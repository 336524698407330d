"""``photo-worker demo``: run the whole product on a laptop with one command."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4, uuid5

import click

from photo_worker.cli.context import CommandContext, resolve_context, stack_option
from photo_worker.cli.output import ErrorReportingCommand, OutputFormat, emit, output_option
from photo_worker.cli.stack_options import stack_options
from photo_worker.errors import FixturesMissing, UnknownEngine, WorkerFailed
from photo_worker.files import read_regular
from photo_worker.printable import printable

if TYPE_CHECKING:
    from photo_worker.cli.job_view import JobRow
    from photo_worker.devkit.local_stack import StackOptions
    from photo_worker.devkit.stack import Stack
    from photo_worker.sources import Source

# Job ids of the demo are derived from the photos' hashes, so that running it again, or after a
# crash, resumes the same jobs instead of adding others.
_JOBS = UUID("5d3b9b3e-6f0c-4a8e-9a55-2f1f6a7f3c11")

# A worker that dies this often has a persistent fault.
_STARTS = 5
_STOP_SECONDS = 30.0


@click.command(cls=ErrorReportingCommand)
@click.option(
    "--fixtures",
    type=click.Path(path_type=Path),
    help="Directory of photos.  [default: fixtures/photos, or the sample photos in the package]",
)
@click.option("--engine", help="OCR backend: textract (the emulator; the default), local or recorded.")
@click.option("--fresh", is_flag=True, help="Process the photos again under new job ids.")
@stack_option
@stack_options
@output_option("text", "json")
@click.pass_context
def demo(
    ctx: click.Context,
    *,
    fixtures: Path | None,
    engine: str | None,
    fresh: bool,
    stack_name: str | None,
    options: StackOptions,
    output: OutputFormat,
) -> None:
    """Start the stack, process the fixture photos, and show the results.

    Starts a worker for as long as it is needed; the stack keeps running, for you to look around. Running
    the command again reports the same jobs, and resumes those that were interrupted.
    """
    from photo_worker.sources import expand_sources

    _check_engine(engine)
    directory = fixtures or fixture_directory()
    found = expand_sources([str(directory)])
    for what in found.left_out:
        click.echo(what, err=True)
    sources = [(_named(source), uuid4() if fresh else _job_id(source)) for source in found.sources]
    stack = _stack_up(stack_name, options)
    context = resolve_context(ctx, stack_name=stack_name, stack_variables=stack.env())
    rows = asyncio.run(_process(context, sources, engine, stack.paths.logs / "worker.log"))
    failed = any(row.reason for row in rows)
    emit(
        "demo",
        output,
        data={"jobs": [row.as_dict(context.variables) for row in rows]},
        text=lambda: _print(context.variables, rows),
        status="failed" if failed else "ok",
    )
    ctx.exit(1 if failed else 0)


def _check_engine(engine: str | None) -> None:
    """Raise ``InvalidEngine``, or ``UnknownEngine`` if this machine, which runs the demo's worker, has no such one."""
    from photo_worker.adapters.ocr.registry import known_engines
    from photo_worker.services.jobs import check_engine

    check_engine(engine)
    if engine is not None and engine not in (known := known_engines()):
        raise UnknownEngine(engine=engine, known=", ".join(known)).from_option()


def _stack_up(name: str | None, options: StackOptions) -> Stack:
    """Start the stack, or use the running one, and report which."""
    from photo_worker.devkit.local_stack import local_stack

    stack = local_stack(name, options)
    click.echo(f"stack {stack.name}: starting in {stack.paths.root}", err=True)
    report = stack.up()
    click.echo(f"stack {stack.name}: {'ready' if report.started else 'ran already'} ({report.seconds:.1f} s)", err=True)
    return stack


def fixture_directory() -> Path:
    """Return the directory of photos: the checkout's, or the package's samples. Raises ``FixturesMissing``."""
    from photo_worker import devkit
    from photo_worker.devkit.layout import worktree_root

    places = [worktree_root(Path.cwd()) / "fixtures" / "photos", Path(devkit.__path__[0]) / "photos"]
    for directory in places:
        if directory.is_dir():
            return directory
    raise FixturesMissing(path=str(places[0]))


def _named(source: Source) -> Source:
    """Label a photo with its file name: all photos are in one directory."""
    return source if source.path is None else dataclasses.replace(source, label=source.path.name)


def _job_id(source: Source) -> UUID:
    from photo_worker.services.jobs import UPLOAD_LIMIT_BYTES

    try:
        content = read_regular(source.path, UPLOAD_LIMIT_BYTES) if source.path else source.key.encode()
    except OSError:
        # The submission reports why it cannot be read, without affecting the others.
        return uuid4()
    return uuid5(_JOBS, hashlib.sha256(content).hexdigest())


async def _process(
    context: CommandContext, sources: Sequence[tuple[Source, UUID]], engine: str | None, log: Path
) -> list[JobRow]:
    from photo_worker.cli.submit import submit_all

    async with _worker(context.variables, log) as ended:
        jobs = asyncio.ensure_future(submit_all(context, list(sources), engine, None, wait=True, worker_comes=True))
        either: set[asyncio.Future[Any]] = {jobs, ended}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not jobs.done():
            jobs.cancel()
            await asyncio.gather(jobs, return_exceptions=True)
            ended.result()
        return await jobs


@contextlib.asynccontextmanager
async def _worker(variables: Mapping[str, str], log: Path) -> AsyncIterator[asyncio.Future[None]]:
    """Run a worker during the block, restarting it if it dies; the future ends with the error if it cannot run."""
    keeper = asyncio.ensure_future(_supervise_worker(variables, log))
    try:
        yield keeper
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)


async def _supervise_worker(variables: Mapping[str, str], log: Path, *, starts: int = _STARTS) -> None:
    for start in range(starts):
        with log.open("ab") as output:
            # Its standard input is a pipe that closes when this process ends, even if it is killed.
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "photo_worker.cli", "worker", "--stop-on-eof"),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=dict(variables),
                # Only this process receives Ctrl-C from the terminal; it then stops the worker gracefully.
                start_new_session=True,
            )
        try:
            code = await process.wait()
        finally:
            await _stop(process)
        again = "; starting it again" if start + 1 < starts else ""
        click.echo(f"the worker ended with code {code}{again} (log: {log})", err=True)
    raise WorkerFailed(starts=starts, log=log)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), _STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


def _print(variables: Mapping[str, str], rows: Sequence[JobRow]) -> None:
    from photo_worker.cli.job_view import links, print_rows

    click.echo("Where to look")
    for row in rows:
        if row.report is None:
            continue
        click.echo(f"  {printable(row.label)}")
        for what, where in links(variables, row.report).items():
            if where:
                click.echo(f"    {what:<9} {where}")
    click.echo(f"\nTemporal UI  {variables.get('TEMPORAL_UI_URL', 'that of the external server')}")
    click.echo("A job, whole:  photo-worker show JOB    The stack:  photo-worker status, photo-worker down\n")
    print_rows(rows)
