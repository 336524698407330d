"""``faults set``, ``faults clear`` and ``faults list``: fault injection into the local stack."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from photo_worker.cli.completion import complete_service, complete_stack
from photo_worker.cli.option_types import NumberRange
from photo_worker.cli.output import ErrorReportingCommand, OutputFormat, emit, output_option, table
from photo_worker.devkit.errors import FaultNotSet
from photo_worker.errors import SourceUnreadable

if TYPE_CHECKING:
    from photo_worker.devkit.faults import Fault, StackFaults

# Repeated here for completion and --help: the emulator's own table takes long to import.
KINDS = (
    "throttle",
    "provisioned-throughput",
    "internal-error",
    "slow",
    "job-fails",
    "job-partial",
    "job-slow",
    "notification-late",
    "notification-doubled",
    "notification-lost",
    "notification-out-of-order",
)
# The names in AWS's documentation.
CODES = {
    "ThrottlingException": "throttle",
    "ProvisionedThroughputExceededException": "provisioned-throughput",
    "InternalServerError": "internal-error",
}
# Longer than any client waits; the default of botocore is 60 seconds.
NEVER_SECONDS = 3600
_TIMEOUT = "timeout"
_COLUMNS = ("SERVICE", "FAULT", "SINCE", "RULE")

_name = click.option(
    "--name",
    "stack_name",
    metavar="STACK",
    envvar="PHOTO_WORKER_STACK",
    shell_complete=complete_stack,
    help="Name of the stack.  [default: dev]",
)


@click.group()
def faults() -> None:
    """Inject faults into the local stack: errors and delays of Textract, and paused services."""


@faults.command("set", cls=ErrorReportingCommand, short_help="Inject a fault into a service.")
@click.argument("service", shell_complete=complete_service)
@click.argument("kind", required=False, metavar="[FAULT]", type=click.Choice((*KINDS, _TIMEOUT, *CODES)))
@click.option("--pause", is_flag=True, help="Pause the service: it neither responds nor exits.")
@click.option(
    "--operation",
    "operations",
    multiple=True,
    help="Textract operation to affect, a name or pattern (Start*); repeatable.",
)
@click.option("--document", metavar="PATTERN", help="Key or s3://bucket/key of the documents to affect.")
@click.option(
    "--probability", type=NumberRange(0, 1), help="Probability that a matching call is affected.  [default: 1]"
)
@click.option(
    "--call", "calls", type=click.IntRange(1), multiple=True, help="1-based call index to affect; repeatable."
)
@click.option("--times", type=click.IntRange(1), help="Maximum number of calls to affect.")
@click.option(
    "--seconds", type=NumberRange(0, 86_400), help="Delay in seconds, for slow, job-slow and notification-late."
)
@click.option("--message", help="StatusMessage of the job, for job-fails and job-partial.")
@click.option("--pages", type=click.IntRange(0), help="Number of pages that are read, for job-partial.")
@click.option("--seed", type=int, help="RNG seed for --probability; applies to all rules.")
@click.option(
    "--script",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="JSON file with a whole fault script, - for standard input; replaces the existing rules.",
)
@_name
@output_option("text", "json")
@click.pass_context
def set_(
    ctx: click.Context,
    /,
    *,
    service: str,
    kind: str | None,
    pause: bool,
    seed: int | None,
    script: Path | None,
    stack_name: str | None,
    output: OutputFormat,
    **given: Any,
) -> None:
    """Inject a fault into SERVICE: pause it, or make textract respond with a FAULT. Faults add up until `faults clear`.

    A FAULT is a rule of the Textract emulator. Calls: throttle, provisioned-throughput and internal-error (or the AWS
    error codes) fail, slow delays, timeout delays by an hour. Jobs: job-fails, job-partial, job-slow. Notifications:
    notification-late, -doubled, -lost and -out-of-order. `up`, `down` and `reset` end all faults.
    """
    rule = {field: value for field, value in given.items() if value not in (None, ())}
    _check_combination(ctx, service, kind, rule, pause=pause, seed=seed, script=script)
    from photo_worker.devkit import faults as kit
    from photo_worker.devkit.local_stack import local_stack

    stack = local_stack(stack_name)
    if pause:
        kit.pause(stack, service)
    elif script is not None:
        kit.set_script(stack, _read(script))
    else:
        kit.set_rule(stack, {**_kind_of(kind or ""), **rule}, seed=seed)
    _emit("faults set", stack.name, kit.faults_of(stack), output)


def _check_combination(
    ctx: click.Context,
    service: str,
    kind: str | None,
    rule: Mapping[str, Any],
    *,
    pause: bool,
    seed: int | None,
    script: Path | None,
) -> None:
    """Refuse options that would be ignored; the emulator checks which options go with which kind."""
    if (kind is not None) + pause + (script is not None) != 1:
        raise click.UsageError("Say one of FAULT, --pause and --script.", ctx)
    if not pause and service != "textract":
        raise click.UsageError(f"Only textract knows faults by name; {service} can be stopped with --pause.", ctx)
    if (pause or script is not None) and (rule or seed is not None):
        raise click.UsageError(f"{'--pause' if pause else '--script'} stands alone; the others belong to a FAULT.", ctx)
    if kind == _TIMEOUT and "seconds" in rule:
        raise click.UsageError("timeout is slow without an end; for a delay, say slow --seconds.", ctx)


def _kind_of(name: str) -> dict[str, Any]:
    if name == _TIMEOUT:
        return {"kind": "slow", "seconds": NEVER_SECONDS}
    return {"kind": CODES.get(name, name)}


def _read(script: Path) -> object:
    try:
        text = sys.stdin.read() if str(script) == "-" else script.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SourceUnreadable(path=str(script), reason="it is not UTF-8 text").from_option() from error
    except OSError as error:
        raise SourceUnreadable(path=str(script), reason=error.strerror or str(error)).from_option() from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FaultNotSet(service="textract", reason=f"{script} is not JSON: {error}").from_option() from error


@faults.command(cls=ErrorReportingCommand, short_help="Remove the faults of a service, or all of them.")
@click.argument("service", required=False, shell_complete=complete_service)
@_name
@output_option("text", "json")
def clear(service: str | None, stack_name: str | None, output: OutputFormat) -> None:
    """Remove the faults of SERVICE, or all of them: paused services resume, and Textract works normally."""
    from photo_worker.devkit import faults as kit
    from photo_worker.devkit.local_stack import local_stack

    stack = local_stack(stack_name)
    ended = kit.clear(stack, service)
    left = kit.faults_of(stack)
    count = len(ended.faults)
    text = f"{count or 'No'} fault{'' if count == 1 else 's'} ended in the stack {stack.name}."
    data = {**_data(stack.name, left), "ended": [asdict(fault) for fault in ended.faults]}
    emit("faults clear", output, data=data, text=text)


@faults.command("list", cls=ErrorReportingCommand)
@_name
@output_option("text", "json")
def list_(stack_name: str | None, output: OutputFormat) -> None:
    """List the injected faults with service and start time. A stack that does not run has no faults."""
    from photo_worker.devkit import faults as kit
    from photo_worker.devkit.local_stack import local_stack

    stack = local_stack(stack_name)
    _emit("faults list", stack.name, kit.faults_of(stack), output)


def _emit(command: str, stack: str, found: StackFaults, output: OutputFormat) -> None:
    def text() -> None:
        if not found.faults:
            click.echo(f"Nothing is set to go wrong in the stack {stack}.")
            return
        rows = [(fault.service, fault.fault, fault.since or "-", rule_text(fault)) for fault in found.faults]
        for line in table([_COLUMNS, *rows]):
            click.echo(line)

    warnings = [f"the rules of textract are not known: {found.unknown}"] if found.unknown else []
    emit(command, output, data=_data(stack, found), text=text, warnings=warnings)


def _data(stack: str, found: StackFaults) -> dict[str, Any]:
    return {"name": stack, "seed": found.seed, "faults": [asdict(fault) for fault in found.faults]}


def rule_text(fault: Fault) -> str:
    """Return the conditions of a rule as ``name=value`` pairs."""
    return " ".join(f"{name}={_shown(value)}" for name, value in (fault.rule or {}).items())


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ",".join(str(entry) for entry in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
