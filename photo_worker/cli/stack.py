"""``up``, ``down``, ``status``, ``logs``, ``reset`` and ``env``: the local stack."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from photo_worker.cli.completion import complete_stack
from photo_worker.cli.log_choice import LogChoice, log_names
from photo_worker.cli.option_types import NumberRange
from photo_worker.cli.output import ErrorReportingCommand, OutputFormat, emit, output_option, table
from photo_worker.cli.stack_options import base_port_option, external_services_warnings, stack_options
from photo_worker.devkit.layout import DEFAULT_NAME
from photo_worker.devkit.local_stack import StackOptions, local_stack
from photo_worker.errors import ConfirmationRequired
from photo_worker.loopback import proxy_exceptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from photo_worker.devkit.stack import Stack
    from photo_worker.devkit.status import StackStatus, UpReport
    from photo_worker.devkit.timeline import Timeline

_COLUMNS = ("SERVICE", "STATE", "VERSION", "URL", "PORT", "PID", "UPTIME")

_name = click.option(
    "--name",
    envvar="PHOTO_WORKER_STACK",
    shell_complete=complete_stack,
    help="Name of the stack in this worktree; ports, data and resource names depend on it.  [default: dev]",
)
_timings = click.option("--timings", is_flag=True, help="Show the start and duration of each step.")


@click.command(cls=ErrorReportingCommand)
@_name
@stack_options
@_timings
@output_option("text", "json", "env")
def up(name: str | None, options: StackOptions, timings: bool, output: OutputFormat) -> None:
    """Start the local stack, or report the one that is running.

    It is ready when every service has completed a real round trip. If interrupted, it leaves no processes. The
    options are remembered: the next `up`, and every other command, needs none of them.
    """
    stack = local_stack(name, options)
    _emit_up("up", stack, stack.up(), timings, output)


@click.command(cls=ErrorReportingCommand)
@_name
@output_option("text", "json")
def down(name: str | None, output: OutputFormat) -> None:
    """Stop the local stack; its data is kept."""
    stack = local_stack(name)
    stopped = stack.down()
    text = f"The stack {stack.name} is stopped." if stopped else f"The stack {stack.name} did not run."
    warnings = external_services_warnings(stack, "nothing there was stopped") if stopped else []
    emit("down", output, data={"name": stack.name, "stopped": stopped}, text=text, warnings=warnings)


@click.command(cls=ErrorReportingCommand)
@_name
@output_option("text", "json")
@click.pass_context
def status(ctx: click.Context, name: str | None, output: OutputFormat) -> None:
    """Show the state and address of each service.

    Exits with code 0 if every service responds, and 1 otherwise.
    """
    from photo_worker.devkit.faults import faults_of

    stack = local_stack(name)
    found = stack.status()
    wrong = faults_of(stack, found).faults

    def text() -> None:
        _print_status(found)
        if wrong:
            said = ", ".join(f"{fault.service} {fault.fault}" for fault in wrong)
            click.echo(f"\nSet to go wrong: {said}. More: photo-worker faults list; end it: photo-worker faults clear")

    emit(
        "status",
        output,
        data={**_status_data(found), "faults": [asdict(fault) for fault in wrong]},
        text=text,
        status="ok" if found.running else "failed",
        warnings=() if found.problem is None else (found.problem,),
    )
    ctx.exit(0 if found.running else 1)


@click.command(cls=ErrorReportingCommand)
@_name
@click.option(
    "--timeout",
    type=NumberRange(0, 86_400),
    default=120.0,
    show_default=True,
    help="Seconds to wait before giving up.",
)
@output_option("text", "json")
def wait(name: str | None, timeout: float, output: OutputFormat) -> None:
    """Wait until the local stack, which another process starts, is ready.

    It is ready when every service responds and no other command, such as up or reset, is still working on it.
    """
    found = local_stack(name).wait(timeout)
    emit("wait", output, data=_status_data(found), text=lambda: _print_status(found))


@click.command(cls=ErrorReportingCommand)
@_name
@click.option(
    "-n", "--lines", type=click.IntRange(0, 100_000), default=50, show_default=True, help="Number of lines per service."
)
@click.option("-f", "--follow", is_flag=True, help="Stream new log lines until interrupted.")
@click.argument("services", nargs=-1, type=LogChoice(), metavar="[SERVICE]...")
def logs(name: str | None, lines: int, follow: bool, services: tuple[str, ...]) -> None:
    """Show the logs of the services that `status` shows, of the supervisor, and of the demo's worker."""
    stack = local_stack(name)
    chosen = services or log_names()
    # Following starts before the old lines are read, so that no line is missed in between.
    news = stack.follow(chosen, lambda: False) if follow else None
    width = max(len(service) for service in chosen)
    for service in chosen:
        for line in stack.tail(service, lines):
            click.echo(f"{service:<{width}} | {line}")
    if news is not None:
        for service, line in news:
            click.echo(f"{service:<{width}} | {line}")


@click.command(cls=ErrorReportingCommand)
@_name
@base_port_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@_timings
@output_option("text", "json", "env")
def reset(name: str | None, base_port: int | None, yes: bool, timings: bool, output: OutputFormat) -> None:
    """Delete the local stack's data and start it empty."""
    stack = local_stack(name, StackOptions(base_port=base_port))
    if not yes:
        if not sys.stdin.isatty():
            raise ConfirmationRequired(what=f"the data of the stack {stack.name!r}")
        click.confirm(f"Delete the data of the stack {stack.name} in {stack.paths.root}?", abort=True, err=True)
    report = stack.reset()
    _emit_up("reset", stack, report, timings, output, external_services_warnings(stack, "nothing there was deleted"))


@click.command(cls=ErrorReportingCommand)
@_name
@output_option("env", "json")
def env(name: str | None, output: OutputFormat) -> None:
    """Print the environment variables of the local stack.

    For a shell: set -a; eval "$(photo-worker env)"; set +a. The output is also a valid .env file. If a proxy is set,
    NO_PROXY is printed with loopback added to its current value.
    """
    variables = _for_a_shell(local_stack(name).env())
    emit("env", output, data=variables, text="", env=variables)


def _for_a_shell(variables: Mapping[str, str]) -> dict[str, str]:
    return {**variables, **proxy_exceptions(os.environ)}


def _emit_up(
    command: str,
    stack: Stack,
    report: UpReport,
    timings: bool,
    output: OutputFormat,
    warnings: Sequence[str] = (),
) -> None:
    variables = _for_a_shell(stack.env())
    spans = [asdict(span) for span in report.timeline.spans()] if timings else None
    data = {
        **_status_data(report.status),
        "started": report.started,
        "seconds": round(report.seconds, 3),
        "env": variables,
        "timings": spans,
    }

    def text() -> None:
        _print_status(report.status)
        if report.started:
            click.echo(f"\nThe stack {stack.name} is up after {report.seconds:.1f} s.")
        else:
            click.echo(f"\nThe stack {stack.name} runs already.")
        named = "" if stack.name == DEFAULT_NAME else f" --name {stack.name}"
        click.echo(
            f"Its variables: photo-worker env{named}; its logs: photo-worker logs{named}; "
            f"stop it: photo-worker down{named}"
        )

    emit(command, output, data=data, text=text, env=variables, warnings=warnings)
    if timings and output != "json":
        _print_timings(report.timeline)


def _status_data(found: StackStatus) -> dict[str, Any]:
    return {
        "name": found.name,
        "directory": str(found.directory),
        "running": found.running,
        "services": [asdict(service) for service in found.services],
    }


def _print_status(found: StackStatus) -> None:
    rows = [
        (
            service.name,
            service.state if service.exit_code is None else f"{service.state} ({service.exit_code})",
            service.version or "-",
            service.url,
            str(service.port),
            "-" if service.pid is None else str(service.pid),
            "-" if service.uptime_seconds is None else _duration(service.uptime_seconds),
        )
        for service in found.services
    ]
    for line in table([_COLUMNS, *rows]):
        click.echo(line)


def _duration(seconds: float) -> str:
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s"
    return f"{whole // 3600}h {whole % 3600 // 60}m"


def _print_timings(timeline: Timeline) -> None:
    """Print the tree of steps to stderr, so that it does not mix with the output for programs."""
    group = None
    for span in timeline.spans():
        if span.group != group:
            group = span.group
            click.echo(group, err=True)
        click.echo(f"  {span.step:<18} @{span.offset:6.2f}s +{span.duration:.2f}s", err=True)
