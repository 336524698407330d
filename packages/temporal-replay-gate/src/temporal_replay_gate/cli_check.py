"""``check``: checks today's code against recorded workflow histories."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from temporal_replay_gate.cli_server import FromServerOptions, fetched, server_options, take
from temporal_replay_gate.clock import LONGEST_SECONDS
from temporal_replay_gate.defaults import ALLOW_LIST, COMMAND
from temporal_replay_gate.errors import ReplayTargetBroken, ReplayTargetInvalid, ReportedError, ReportUnwritable
from temporal_replay_gate.hooks import Hooks
from temporal_replay_gate.output import ErrorReportingCommand, command_name, emit_error, envelope

if TYPE_CHECKING:
    from rich.console import Console

    from temporal_replay_gate.clock import RunClock
    from temporal_replay_gate.gate import GateOptions, GateReport

_FORMATS = ("text", "json", "junit", "github")

_LOG_COLUMNS = 160

# A shorter run shows no progress.
_QUIET_SECONDS = 3.0


ENDS = (
    "Exit codes: 0 all histories replayed, 1 failure, 2 usage error, 130 interrupted, 129 or 143 ended by SIGHUP or "
    "SIGTERM; check then still writes its report. A second signal ends it at once."
)


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
        if not 0 < seconds <= LONGEST_SECONDS:
            self.fail(f"{value!r} is not a number of seconds, above 0 and at most {LONGEST_SECONDS:.0f}", param, ctx)
        return seconds


paths_argument = click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path))


def check_command(hooks: Hooks) -> click.Command:
    """Return the command ``check`` of a project."""

    @paths_argument
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
        metavar="MODULE[:ATTRIBUTE]",
        **({"default": hooks.workflows} if hooks.workflows else {"required": True}),
        show_default=True,
        help="Python path of the workflow classes (module or module:attr), resolved from the working directory.",
    )
    @click.option(
        "--converter",
        metavar="MODULE:ATTRIBUTE",
        default=hooks.converter,
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
    @server_options(hooks)
    @click.pass_context
    def check(ctx: click.Context, /, **given: Any) -> int:
        return _check(ctx, hooks, **given)

    about = {"help": _HELP % hooks.histories, "short_help": "Replay recorded histories with the current code."}
    command = click.command("check", cls=ErrorReportingCommand, epilog=ENDS, **about)(check)
    command.reported = hooks.reported
    return command


_HELP = """Replay the histories under PATH (default: %s) with the current code.

The check fails for: files that are not histories, histories that do not replay or hang, drift that is not
in the allow list, missing coverage, nondeterministic workflow code, a planted fault that is not detected, and
a PATH without histories.
"""


def _check(
    ctx: click.Context,
    hooks: Hooks,
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
) -> int:
    from temporal_replay_gate.clock import RunClock, RunOver, stopping_on_signals
    from temporal_replay_gate.gate import GateOptions, ended_early, not_run

    _check_formats(formats)
    server = take(ctx, given)
    chosen = paths or (hooks.histories,)
    if server.from_server and paths:
        raise click.UsageError("--from-server checks a service's runs in place of PATH; check the files apart.", ctx)
    check_paths(path for path in chosen if path != hooks.histories)
    if not workflows:
        # Hooks would take their own instead.
        raise ReplayTargetInvalid(reason="--workflows is empty")
    options = GateOptions(
        paths=chosen,
        code=hooks.code(workflows, converter),
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
    name = command_name(ctx)
    raised: Exception | None = None
    with stopping_on_signals(clock):
        try:
            report = _report_of(ctx, hooks, options, server, clock)
        except RunOver as over:
            report = ended_early(clock, str(over))
        except ReplayTargetBroken as error:
            report = not_run(error)
        except hooks.reported as error:
            raised, report = error, not_run(cast("ReportedError", error))
        failed = cast("ReportedError | None", raised)
        unwritable = write(report, formats, name, failed, hooks.command)
    if clock.ended_by is not None:
        if failed is not None:
            emit_error(name, "text", failed)
        click.echo(f"ended by {clock.ended_by.name}", err=True)
        return 128 + clock.ended_by
    if failed is not None and failed.wrong_use:
        # The report above is the output; an envelope after it would be a second one.
        emit_error(name, "text", failed)
        return 2
    if raised is not None:
        raise raised
    if unwritable is not None:
        raise unwritable
    return 0 if report.green else 1


def _report_of(
    ctx: click.Context, hooks: Hooks, options: GateOptions, server: FromServerOptions, clock: RunClock
) -> GateReport:
    """Run the gate on files or on a service's runs. Raises what ``hooks.reported`` names, and ``RunOver``."""
    from temporal_replay_gate.gate import check as run

    if not server.from_server:
        return run(options, _progress(), clock)
    with fetched(ctx, hooks, server, options.code, options.workflow, clock) as (directory, extra):
        # The runs of a service need not cover every exit, and their files have no provenance.
        chosen = replace(
            options,
            paths=(directory,),
            coverage=bool(options.coverage),
            provenance=bool(options.provenance),
            sample=True,
            extra=extra,
        )
        return run(chosen, _progress(), clock)


def check_paths(paths: Iterable[Path]) -> None:
    """Raise ``click.UsageError`` if one of the paths is not there or cannot be read."""
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
    report: GateReport,
    formats: tuple[tuple[str, Path | None], ...],
    name: str,
    failed: ReportedError | None = None,
    command: str = COMMAND,
) -> ReportUnwritable | None:
    """Write a report in every requested format; return the error if one could not be written, else None.

    ``name`` is the command's in the JSON envelope, ``command`` the gate's. Each report contains the error ``failed``
    that ended the run. Text for standard output is then omitted, because the message on standard error tells the same.
    """
    unwritable = None
    for form, file in formats:
        if failed is not None and form == "text" and file is None:
            continue
        text = _rendered(report, form, file, failed, name, command)
        if file is None:
            click.echo(text, nl=False)
        else:
            try:
                file.write_text(text, encoding="utf-8")
            except OSError as error:
                # The other formats are still written, and the exit code is still set.
                unwritable = ReportUnwritable(path=str(file), reason=error.strerror or str(error))
    return unwritable


def console_of(file: Path | None = None) -> Console:
    """Return a console for a report; ``file`` is where it goes, None for standard output."""
    from rich.console import Console

    terminal = file is None and sys.stdout.isatty()
    # A log or a file has no width; a terminal's 80 columns would only wrap names.
    return Console(force_terminal=terminal, width=None if terminal else _LOG_COLUMNS, highlight=False, emoji=False)


def _rendered(
    report: GateReport, form: str, file: Path | None, failed: ReportedError | None, name: str, command: str
) -> str:
    from temporal_replay_gate import report as plain
    from temporal_replay_gate import report_ci

    if form == "json":
        status = "ok" if report.green else "failed"
        document = envelope(name, status=status, data=plain.as_dict(report), error=failed)  # type: ignore[arg-type]
        return json.dumps(document, indent=2, default=str) + "\n"
    if form == "junit":
        return report_ci.to_junit(report, command)
    if form == "github":
        return report_ci.to_github(report)
    console = console_of(file)
    with console.capture() as captured:
        plain.print_text(report, console)
    return captured.get()
