"""``doctor``: find what keeps this machine from running the stack or the worker, and how to fix it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from photo_worker.cli.completion import complete_stack
from photo_worker.cli.context import ENDPOINT_VARIABLES, resolve_environment
from photo_worker.cli.output import ErrorReportingCommand, OutputFormat, echo_printable, emit, output_option
from photo_worker.cli.stack_options import extras_option, kind_option, s3_option
from photo_worker.config import load_settings
from photo_worker.errors import PhotoWorkerError

if TYPE_CHECKING:
    from photo_worker.config import Environment
    from photo_worker.devkit.doctor_finding import DoctorFinding
    from photo_worker.devkit.stack_options import Kind, S3Server

_CONNECT_SECONDS = 3.0
_MARKS = {"ok": "ok     ", "warning": "warning", "problem": "PROBLEM"}
_ADDRESSES = ("TEMPORAL_TARGET", "TEMPORAL_ADDRESS", "DATABASE_URL")


@click.command(cls=ErrorReportingCommand)
@click.option(
    "--name", envvar="PHOTO_WORKER_STACK", shell_complete=complete_stack, help="Name of the stack.  [default: dev]"
)
@kind_option
@s3_option
@extras_option
@output_option("text", "json")
@click.pass_context
def doctor(
    ctx: click.Context,
    name: str | None,
    kind: Kind | None,
    s3: S3Server | None,
    extras: tuple[str, ...] | None,
    output: OutputFormat,
) -> None:
    """Diagnose the local environment: find what keeps the stack or the worker from running, and how to fix it.

    Nothing is started or changed. Exits with code 1 if there is a problem; warnings do not count. With --stack,
    --s3 or --with, examines the stack that `up` would start with them.
    """
    from photo_worker.devkit.doctor import examine
    from photo_worker.devkit.layout import DEFAULT_NAME, StackPaths, check_name, default_home
    from photo_worker.devkit.stack_options import StackOptions

    paths = StackPaths(default_home(), check_name(name or DEFAULT_NAME))
    findings = [*examine(paths, StackOptions(kind=kind, s3=s3, extras=extras)), *_settings(ctx)]
    counts = {state: sum(finding.state == state for finding in findings) for state in ("problem", "warning")}
    failed = counts["problem"] > 0

    def text() -> None:
        for finding in findings:
            echo_printable(f"{_MARKS[finding.state]}  {finding.check:<10}  {finding.what}")
            if finding.hint is not None:
                echo_printable(f"{'':<21}{finding.hint}")
        summary = f"{_amount(counts['problem'], 'problem')}, {_amount(counts['warning'], 'warning')}."
        click.echo(f"\n{summary.capitalize()}")

    emit(
        "doctor",
        output,
        data={"problems": counts["problem"], "warnings": counts["warning"], "checks": [asdict(f) for f in findings]},
        text=text,
        status="failed" if failed else "ok",
    )
    ctx.exit(1 if failed else 0)


def _settings(ctx: click.Context) -> Iterator[DoctorFinding]:
    """Check the settings from the environment and the .env file, and connect to the endpoints they name."""
    from photo_worker.devkit.doctor_finding import DoctorFinding

    try:
        # Other checks examine the stack; here only the settings that the user gave count.
        environment, _ = resolve_environment(ctx, os.environ, use_stack=False)
        load_settings(environment)
    except PhotoWorkerError as error:
        if error.wrong_use:
            raise
        yield DoctorFinding("settings", "problem", error.message, error.hint)
        return
    yield DoctorFinding("settings", "ok", "valid; `photo-worker config show` prints them")
    given = [name for name in ENDPOINT_VARIABLES if environment.variables.get(name, "").strip()]
    if given and "DATABASE_URL" not in given:
        what = f"{given[0]} in {environment.origins[given[0]]} leaves the stack out, and DATABASE_URL is not set"
        yield DoctorFinding("settings", "problem", what, f"Set DATABASE_URL too, or unset {given[0]} to use the stack.")
    named = endpoint_addresses(environment.variables)
    if named:
        with ThreadPoolExecutor(len(named)) as pool:
            yield from pool.map(lambda entry: _check_endpoint(environment, *entry), named.items())


def endpoint_addresses(variables: Mapping[str, str]) -> dict[str, tuple[str, int]]:
    """Return the host and port of each variable that locates a service, by its name."""
    from photo_worker.devkit.external import DEFAULT_PORTS

    found = {}
    for name, value in variables.items():
        if not value.strip() or not (name in _ADDRESSES or name.startswith("AWS_ENDPOINT_URL")):
            continue
        try:
            url = urlsplit(value if "://" in value else f"//{value}")
            port = url.port or DEFAULT_PORTS.get(url.scheme)
        except ValueError:
            # Several hosts, which libpq supports and urlsplit does not.
            continue
        if url.hostname and port:
            found[name] = (url.hostname, port)
    return found


def _check_endpoint(environment: Environment, name: str, address: tuple[str, int]) -> DoctorFinding:
    from photo_worker.devkit.doctor_finding import DoctorFinding

    host, port = address
    try:
        socket.create_connection(address, timeout=_CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:
        # UnicodeError: Python refuses an invalid host name before it resolves it.
        what = f"{host}:{port}, of {name} in {environment.origins[name]}, cannot be reached: {error}"
        hint = f"Start what should be there, or correct {name}; without it, the stack that runs here is used."
        return DoctorFinding("endpoint", "problem", what, hint)
    return DoctorFinding("endpoint", "ok", f"{host}:{port}, of {name} in {environment.origins[name]}")


def _amount(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"
