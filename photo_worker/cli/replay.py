"""``photo-worker replay``: checks today's code against recorded workflow histories."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from photo_worker.cli.output import (
    ErrorReportingCommand,
    OutputFormat,
    echo_printable,
    emit,
    emit_error,
    envelope,
    output_option,
)
from photo_worker.cli.replay_server import FromServerOptions, fetched, server_options, take
from photo_worker.errors import PhotoWorkerError
from photo_worker.printable import printable
from photo_worker.replay.target_names import PRODUCT_CONVERTER, PRODUCT_WORKFLOWS
from photo_worker.replay_errors import (
    ReplayTargetBroken,
    ReportUnwritable,
)

if TYPE_CHECKING:
    from rich.console import Console

    from photo_worker.replay.clock import RunClock
    from photo_worker.replay.gate import GateOptions, GateReport

HISTORIES = Path("tests/replay/histories")
ALLOW_LIST = "allowed_drift.toml"
_FORMATS = ("text", "json", "junit", "github")

_LOG_COLUMNS = 160

# A week: longer than any run, and a timeout that every system accepts for a wait.
_LONGEST_SECONDS = 604_800.0

# A shorter run shows no progress.
_QUIET_SECONDS = 3.0


class _Group(click.Group):
    """A group that imports some commands only when they run."""

    commands_elsewhere = {"record": "photo_worker.cli.replay_record:record"}  # noqa: RUF012

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *self.commands_elsewhere]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = self.commands_elsewhere.get(cmd_name)
        if target is None:
            return super().get_command(ctx, cmd_name)
        module_name, _, attribute = target.partition(":")
        command: click.Command = getattr(import_module(module_name), attribute)
        return command


_ENDS = (
    "Exit codes: 0 all histories replayed, 1 failure, 2 usage error, 130 interrupted, 129 or 143 ended by SIGHUP or "
    "SIGTERM; check then still writes its report. A second signal ends it at once."
)


@click.group(cls=_Group, epilog=_ENDS)
def replay() -> None:
    """Check that the current code replays recorded histories, and record new ones."""


class _Format(click.ParamType):  # type: ignore[type-arg]
    name = "format"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Path | None]:
        if isinstance(value, tuple):
            return value
        name, given, file = str(value).partition("=")
        if name not in _FORMATS:
            self.fail(f"{name!r} is not one of {', '.join(_FORMATS)}", param, ctx)
        if given and not file:
            self.fail(f"{value!r} names no file after =", param, ctx)
        return name, Path(file) if file else None


class _Seconds(click.ParamType):  # type: ignore[type-arg]
    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = float(value)
        except ValueError:
            seconds = -1.0
        # NaN fails every comparison, and would be no limit.
        if not 0 < seconds <= _LONGEST_SECONDS:
            self.fail(f"{value!r} is not a number of seconds, above 0 and at most {_LONGEST_SECONDS:.0f}", param, ctx)
        return seconds


_paths = click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path))


@replay.command(cls=ErrorReportingCommand, epilog=_ENDS)
@_paths
@click.option(
    "--format",
    "formats",
    type=_Format(),
    metavar="FORMAT[=FILE]",
    multiple=True,
    default=("text",),
    show_default=True,
    help="Report format: text, json, junit or github; with =FILE written to that file. Repeatable.",
)
@click.option("--workflow", metavar="TYPE", help="Check only histories of this workflow type.")
@click.option(
    "--workflows",
    metavar="MODULE:ATTRIBUTE",
    default=PRODUCT_WORKFLOWS,
    show_default=True,
    help="Python path of the workflow classes (module:attr), resolved from the working directory.",
)
@click.option(
    "--converter",
    metavar="MODULE:ATTRIBUTE",
    default=PRODUCT_CONVERTER,
    show_default=True,
    help="Python path of the data converter (module:attr), resolved from the working directory.",
)
@click.option(
    "--allow",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"File of allowed drift.  [default: {ALLOW_LIST} beside the directory of histories, if present]",
)
@click.option(
    "--limit-seconds",
    type=_Seconds(),
    default=30.0,
    show_default=True,
    help="Seconds after which the replay of one history counts as hanging.",
)
@click.option(
    "--run-limit-seconds",
    type=_Seconds(),
    default=1800.0,
    show_default=True,
    help="Seconds after which the whole run ends; histories not reached are named, and the check fails.",
)
@click.option(
    "--jobs", type=click.IntRange(1, 64), help="Number of parallel processes.  [default: number of CPU cores]"
)
@click.option(
    "--coverage/--no-coverage",
    default=None,
    help="Fail if a required exit is not covered.  [default: if PATH is a directory]",
)
@click.option(
    "--provenance/--no-provenance",
    default=None,
    help="Fail if a history has no provenance.  [default: if PATH is a directory]",
)
@click.option("--static/--no-static", default=True, help="Also analyse the workflow code statically.")
@server_options
@click.pass_context
def check(
    ctx: click.Context,
    /,
    paths: tuple[Path, ...],
    formats: tuple[tuple[str, Path | None], ...],
    workflow: str | None,
    workflows: str,
    converter: str,
    allow: Path | None,
    limit_seconds: float,
    run_limit_seconds: float,
    jobs: int | None,
    coverage: bool | None,
    provenance: bool | None,
    static: bool,
    **given: Any,
) -> None:
    """Replay the histories under PATH (default: tests/replay/histories) with the current code.

    The check fails for: files that are not histories, histories that do not replay or hang, drift that is not
    in the allow list, missing coverage, nondeterministic workflow code, a planted fault that is not detected, and
    no histories at all.
    """
    from photo_worker.replay.clock import RunClock, RunOver, stopping_on_signals
    from photo_worker.replay.gate import GateOptions, ended_early, not_run
    from photo_worker.replay.replay_pool import CodeUnderTest

    _check_formats(formats)
    server = take(ctx, given)
    # The worker's code is imported from the current directory, as `python -m` does.
    code = CodeUnderTest(workflows, converter, (str(Path.cwd()),))
    chosen = paths or (HISTORIES,)
    if server.from_server and paths:
        raise click.UsageError("--from-server checks a service's runs in place of PATH; check the files apart.", ctx)
    _check_paths(path for path in chosen if path != HISTORIES)
    options = GateOptions(
        paths=chosen,
        code=code,
        limit_seconds=limit_seconds,
        run_limit_seconds=run_limit_seconds,
        jobs=jobs,
        allow=allow if allow or server.from_server else _allow_list(chosen),
        workflow=workflow,
        coverage=coverage,
        provenance=provenance,
        static=static,
    )
    clock = RunClock(run_limit_seconds)
    failed: PhotoWorkerError | None = None
    with stopping_on_signals(clock):
        try:
            report = _report_of(ctx, options, server, clock)
        except RunOver as over:
            report = ended_early(clock, str(over))
        except ReplayTargetBroken as error:
            report = not_run(error)
        except PhotoWorkerError as error:
            failed, report = error, not_run(error)
        unwritable = write(report, formats, failed)
    if clock.ended_by is not None:
        if failed is not None:
            emit_error("replay check", "text", failed)
        click.echo(f"ended by {clock.ended_by.name}", err=True)
        ctx.exit(128 + clock.ended_by)
    if failed is not None and failed.wrong_use:
        # The report above is the output; an envelope after it would be a second one.
        emit_error("replay check", "text", failed)
        ctx.exit(2)
    if failed is not None:
        raise failed
    if unwritable is not None:
        raise unwritable
    ctx.exit(0 if report.green else 1)


def _report_of(ctx: click.Context, options: GateOptions, server: FromServerOptions, clock: RunClock) -> GateReport:
    """Run the gate on files or on a service's runs. Raises ``PhotoWorkerError`` and ``RunOver``."""
    from photo_worker.replay.gate import check as run

    if not server.from_server:
        return run(options, _progress(), clock)
    with fetched(ctx, server, options.code, options.workflow, clock) as (folder, extra):
        # The runs of a service need not cover every exit, and their files have no provenance.
        chosen = replace(
            options,
            paths=(folder,),
            coverage=bool(options.coverage),
            provenance=bool(options.provenance),
            sample=True,
            extra=extra,
        )
        return run(chosen, _progress(), clock)


def _check_paths(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            path.stat()
        except FileNotFoundError as error:
            raise click.UsageError(f"There is no {str(path)!r} to check.") from error
        except OSError as error:
            raise click.UsageError(f"{str(path)!r} cannot be checked: {error.strerror or error}.") from error


def _check_formats(formats: tuple[tuple[str, Path | None], ...]) -> None:
    if sum(file is None for _, file in formats) > 1:
        raise click.UsageError("Only one format can go to standard output; give the others a file: --format junit=FILE")
    files = [file.absolute() for _, file in formats if file is not None]
    for target in files:
        if target.is_dir():
            raise click.UsageError(f"{str(target)!r} is a folder; a report goes into a file.")
        if files.count(target) > 1:
            raise click.UsageError(f"Two formats would go to {str(target)!r}; give each a file of its own.")
    for _, file in formats:
        if file is not None and not file.absolute().parent.is_dir():
            raise click.UsageError(f"There is no folder {str(file.parent)!r} to write {file.name!r} into.")


def _allow_list(paths: tuple[Path, ...]) -> Path | None:
    for path in paths:
        beside = path.parent / ALLOW_LIST
        if path.is_dir() and beside.is_file():
            return beside
    return None


def _progress() -> Callable[[int, int], None]:
    began = last = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - began > _QUIET_SECONDS and now - last > _QUIET_SECONDS and done < total:
            last = now
            click.echo(f"replayed {done} of {total} histories, {now - began:.0f} s", err=True)

    return show


def write(
    report: GateReport, formats: tuple[tuple[str, Path | None], ...], failed: PhotoWorkerError | None = None
) -> PhotoWorkerError | None:
    """Write a report in every requested format; return the error if one could not be written, else None.

    Each report contains the error ``failed`` that ended the run. Text for standard output is then omitted, because
    the message on standard error tells the same.
    """
    unwritable = None
    for name, file in formats:
        if failed is not None and name == "text" and file is None:
            continue
        text = _rendered(report, name, file, failed)
        if file is None:
            click.echo(text, nl=False)
        else:
            try:
                file.write_text(text, encoding="utf-8")
            except OSError as error:
                # The other formats are still written, and the exit code is still set.
                unwritable = ReportUnwritable(path=str(file), reason=error.strerror or str(error))
    return unwritable


def _console(file: Path | None = None) -> Console:
    from rich.console import Console

    terminal = file is None and sys.stdout.isatty()
    # A log or a file has no width; a terminal's 80 columns would only wrap names.
    return Console(force_terminal=terminal, width=None if terminal else _LOG_COLUMNS, highlight=False)


def _rendered(report: GateReport, name: str, file: Path | None, failed: PhotoWorkerError | None) -> str:
    from photo_worker.replay import report as plain
    from photo_worker.replay import report_ci

    if name == "json":
        status = "ok" if report.green else "failed"
        document = envelope("replay check", status=status, data=plain.as_dict(report), error=failed)  # type: ignore[arg-type]
        return json.dumps(document, indent=2, default=str) + "\n"
    if name == "junit":
        return report_ci.to_junit(report)
    if name == "github":
        return report_ci.to_github(report)
    console = _console(file)
    with console.capture() as captured:
        plain.print_text(report, console)
    return captured.get()


@replay.command("list", cls=ErrorReportingCommand)
@_paths
@output_option("text", "json")
def list_histories(paths: tuple[Path, ...], output: OutputFormat) -> None:
    """List the histories under PATH (default: tests/replay/histories) and their coverage."""
    from photo_worker.replay.histories import search
    from photo_worker.replay.preflight import inspect, search_findings
    from photo_worker.replay.report import cell, short
    from photo_worker.replay.view import list_row, recorded_coverage

    _check_paths(paths)
    there = search(paths or (HISTORIES,))
    looked = [(path, *inspect(path)) for path in there.histories]
    histories = [history for _, history, _ in looked if history is not None]
    rows = [list_row(history) for history in histories]
    found = [fault for _, _, faults_of in looked for fault in faults_of] + search_findings(there)
    faults = [fault.as_dict() for fault in found]
    coverage = recorded_coverage(histories)

    def text() -> None:
        from rich.table import Table

        from photo_worker.replay.report import coverage_table

        table = Table()
        for name in ("file", "workflow", "exit", "events", "patches", "recorded with", "at"):
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(
                cell(short(row["file"])),
                cell(row["workflow_type"]),
                row["exit"],
                str(row["events"]),
                cell(", ".join(row["patch_ids"]) or "-"),
                cell(f"{row['app_version']}, SDK {row['sdk_version']}" if row["app_version"] else "unknown"),
                cell(str(row["recorded_at"] or "unknown")),
            )
        console = _console()
        console.print(table)
        console.print(coverage_table(coverage))

    warnings = [f"{fault['file']}: [{fault['code']}] {fault['what']}" for fault in faults]
    data = {"histories": rows, "coverage": [row.as_dict() for row in coverage], "faults": faults}
    emit("replay list", output, data=data, text=text if rows else "There are no histories.", warnings=warnings)


@replay.command(cls=ErrorReportingCommand)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@output_option("text", "json")
@click.pass_context
def show(ctx: click.Context, file: Path, output: OutputFormat) -> None:
    """Show the events of the history in FILE, with JSON payloads decoded."""
    from photo_worker.replay.preflight import inspect
    from photo_worker.replay.view import event_line, event_rows, list_row

    history, faults = inspect(file)
    if history is None:
        for fault in faults:
            echo_printable(f"error [{fault.code}]: {fault.file}: {fault.what}", err=True)
            echo_printable(f"hint: {fault.fix}", err=True)
        ctx.exit(1)
    rows = event_rows(history)
    facts = list_row(history) | {"workflow_id": history.workflow_id, "run_id": history.run_id}

    def text() -> None:
        for name, value in facts.items():
            echo_printable(f"{name:<14}{value if value not in (None, []) else '-'}")
        click.echo()
        width = max(len(row["type"]) for row in rows)
        for row in rows:
            at = "" if row["seconds"] is None else f"{row['seconds']:.3f} s"
            line = f"{row['id']:>5}  {at:>11}  {row['type']:<{width}}  {event_line(row)}"
            click.echo(printable(line.rstrip()))

    warnings = [f"[{fault.code}] {fault.what}" for fault in faults]
    emit("replay show", output, data={"history": facts, "events": rows}, text=text, warnings=warnings)
