"""Output of commands: text for people, one JSON envelope for programs, variables for shells.

Results go to stdout, everything else to stderr. In the envelope every key is always present; a key that does not
apply is null.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import click

from photo_worker.errors import PhotoWorkerError
from photo_worker.printable import printable

OutputFormat = Literal["text", "json", "env"]
_F = TypeVar("_F", bound=Callable[..., Any])
_SCHEMA_VERSION = 1


class ErrorReportingCommand(click.Command):
    """A command that turns a ``PhotoWorkerError`` into one message and exit code 1, or 2 for a usage error."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; if it raises ``PhotoWorkerError``, print it and exit with 1, or 2 for a usage error."""
        try:
            return super().invoke(ctx)
        except PhotoWorkerError as error:
            if (ctx.find_root().obj or {}).get("debug"):
                import traceback

                traceback.print_exception(error)
            emit_error(_command_name(ctx), ctx.params.get("output", "text"), error)
            ctx.exit(2 if error.wrong_use else 1)


def _command_name(ctx: click.Context) -> str:
    """Return the full name of a command with its groups, as its output names it: ``faults set``."""
    words = [ctx.info_name or ""]
    while (ctx := ctx.parent or ctx).parent is not None:
        words.insert(0, ctx.info_name or "")
    return " ".join(words)


def output_option(*formats: OutputFormat) -> Callable[[_F], _F]:
    """Add ``-o/--output`` with the formats that a command supports; the first is the default."""
    return click.option(
        "-o", "--output", type=click.Choice(formats), default=formats[0], show_default=True, help="Output format."
    )


def envelope(
    command: str,
    *,
    status: Literal["ok", "failed"],
    data: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
    error: PhotoWorkerError | None = None,
) -> dict[str, Any]:
    """Return what ``-o json`` prints, in the same shape for success and failure."""
    return {
        "schemaVersion": _SCHEMA_VERSION,
        "command": command,
        "status": status,
        "data": None if data is None else dict(data),
        "warnings": list(warnings),
        "error": None
        if error is None
        else {"code": error.code, "message": error.message, "retryable": error.retryable, "hint": error.hint},
    }


def emit(
    command: str,
    output: OutputFormat,
    *,
    data: Mapping[str, Any],
    text: str | Callable[[], None],
    env: Mapping[str, str] | None = None,
    status: Literal["ok", "failed"] = "ok",
    warnings: Sequence[str] = (),
) -> None:
    """Print a result. ``text`` is the text for people, or a function that prints it."""
    if output == "json":
        click.echo(json.dumps(envelope(command, status=status, data=data, warnings=warnings), indent=2, default=str))
        return
    if output == "env":
        click.echo(env_lines(env or {}))
    elif callable(text):
        text()
    else:
        echo_printable(text)
    for warning in warnings:
        echo_printable(f"warning: {warning}", err=True)


def emit_error(
    command: str, output: OutputFormat, error: PhotoWorkerError, *, data: Mapping[str, Any] | None = None
) -> None:
    """Print an error: the envelope on stdout for programs, the message and its hint on stderr for people."""
    if output == "json":
        click.echo(json.dumps(envelope(command, status="failed", data=data, error=error), indent=2, default=str))
    echo_printable(f"error [{error.code}]: {error.message}", err=True)
    echo_printable(f"hint: {error.hint}", err=True)


def echo_printable(text: str, *, err: bool = False) -> None:
    """Print text that may hold untrusted parts: control characters other than newline and tab are escaped."""
    click.echo(printable(text, keep="\n\t"), err=err)


def table(rows: Sequence[Sequence[str]], *, right: int | None = None) -> list[str]:
    """Return lines in which each column is as wide as its widest cell; the column ``right`` is aligned to the right.

    Lines are never wrapped, so that programs can read them. Importing rich's tables takes a third of what ``status``
    may take; ``submit`` and ``demo``, whose tables fit the terminal, use them.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number == right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def env_lines(variables: Mapping[str, str]) -> str:
    """Return KEY=value lines that both a shell's ``.`` and dotenv readers accept."""
    return "\n".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
