"""``snapshot save``, ``snapshot load`` and ``snapshot list``: save and restore stack data."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from photo_worker.cli.completion import complete_stack
from photo_worker.cli.output import ErrorReportingCommand, OutputFormat, emit, output_option, table
from photo_worker.cli.stack_options import external_services_warnings
from photo_worker.errors import ConfirmationRequired

if TYPE_CHECKING:
    from photo_worker.devkit.snapshots import Snapshot

_MEGABYTE = 1024 * 1024

_name = click.option(
    "--name",
    "stack_name",
    metavar="STACK",
    envvar="PHOTO_WORKER_STACK",
    shell_complete=complete_stack,
    help="Name of the stack.  [default: dev]",
)


def _complete(ctx: click.Context, _argument: click.Parameter, incomplete: str) -> list[str]:
    from photo_worker.devkit import snapshots
    from photo_worker.devkit.local_stack import local_stack

    found = snapshots.list_snapshots(local_stack(ctx.params.get("stack_name")).paths)
    return [snapshot.name for snapshot in found if snapshot.name.startswith(incomplete)]


@click.group()
def snapshot() -> None:
    """Save and restore stack data."""


@snapshot.command(cls=ErrorReportingCommand, short_help="Save a copy of all stack data.")
@click.argument("snapshot_name", metavar="SNAPSHOT")
@_name
@output_option("text", "json")
def save(snapshot_name: str, stack_name: str | None, output: OutputFormat) -> None:
    """Save a copy of all stack data; a running stack is stopped for the copy, and started again."""
    from photo_worker.devkit.local_stack import local_stack

    stack = local_stack(stack_name)
    saved = stack.save_snapshot(snapshot_name)
    text = f"The snapshot {saved.name} holds {saved.bytes // _MEGABYTE} MB."
    warnings = external_services_warnings(stack, "what is stored there is not in the snapshot")
    emit("snapshot save", output, data=_as_data(saved), text=text, warnings=warnings)


@snapshot.command(cls=ErrorReportingCommand)
@click.argument("snapshot_name", metavar="SNAPSHOT", shell_complete=_complete)
@_name
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@output_option("text", "json")
def load(snapshot_name: str, stack_name: str | None, yes: bool, output: OutputFormat) -> None:
    """Replace all stack data with a snapshot, and start the stack."""
    from photo_worker.devkit import snapshots
    from photo_worker.devkit.local_stack import local_stack

    stack = local_stack(stack_name)
    found = snapshots.require(stack.paths, snapshot_name)
    if not yes:
        if not sys.stdin.isatty():
            raise ConfirmationRequired(what=f"the data that the stack {stack.name!r} has now")
        click.confirm(f"Replace the data of the stack {stack.name} by that of {found.created}?", abort=True, err=True)
    report = stack.load_snapshot(snapshot_name)
    text = f"The stack {stack.name} is up with the data of {found.created} after {report.seconds:.1f} s."
    data = {**_as_data(found), "seconds": round(report.seconds, 3)}
    warnings = external_services_warnings(stack, "what is stored there is as it was before")
    emit("snapshot load", output, data=data, text=text, warnings=warnings)


@snapshot.command("list", cls=ErrorReportingCommand)
@_name
@output_option("text", "json")
def list_(stack_name: str | None, output: OutputFormat) -> None:
    """Show the stack's snapshots, oldest first."""
    from photo_worker.devkit import snapshots
    from photo_worker.devkit.local_stack import local_stack

    found = snapshots.list_snapshots(local_stack(stack_name).paths)

    def text() -> None:
        rows = [(entry.name, entry.created, str(entry.bytes // _MEGABYTE)) for entry in found]
        for line in table([("SNAPSHOT", "CREATED", "MB"), *rows]):
            click.echo(line)

    emit("snapshot list", output, data={"snapshots": [_as_data(entry) for entry in found]}, text=text)


def _as_data(found: Snapshot) -> dict[str, Any]:
    """Return the JSON form of a snapshot, without the database password."""
    values = asdict(found)
    del values["password"], values["format"]
    return values
