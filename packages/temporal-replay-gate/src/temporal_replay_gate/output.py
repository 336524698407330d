"""Output of commands: text for people, and one JSON envelope for programs.

Results go to stdout, everything else to stderr. In the envelope every key is always present; a key that does not
apply is null.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar, cast

import click

from temporal_replay_gate import supervisor
from temporal_replay_gate.errors import EndedEarly, ReplayError, ReportedError
from temporal_replay_gate.printable import printable

OutputFormat = Literal["text", "json"]
_F = TypeVar("_F", bound=Callable[..., Any])
_SCHEMA_VERSION = 1


class ErrorReportingCommand(click.Command):
    """A command whose function returns its exit code. Nothing else that happens while it runs makes the exit code 0.

    It turns an error of ``reported`` into one message and exit code 1, or 2 for a usage error.
    """

    reported: tuple[type[Exception], ...] = (ReplayError,)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the arguments."""
        if not extra.get("resilient_parsing"):
            supervisor.begun()
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.exceptions.Exit as done:
            # An option such as --help is all of the command.
            supervisor.ended(done.exit_code)
            raise

    def invoke(self, ctx: click.Context) -> int:
        """Run the command; if it raises an error of ``reported``, print it. Exit if the exit code is not 0."""
        code = self._invoke(ctx)
        supervisor.ended(code)
        if code:
            ctx.exit(code)
        return code

    def _invoke(self, ctx: click.Context) -> int:
        try:
            return self._result(ctx)
        except self.reported as raised:
            if (ctx.find_root().obj or {}).get("debug"):
                import traceback

                traceback.print_exception(raised)
            error = cast("ReportedError", raised)
            emit_error(command_name(ctx), ctx.params.get("output", "text"), error)
            return 2 if error.wrong_use else 1

    def _result(self, ctx: click.Context) -> int:
        try:
            code: int = super().invoke(ctx)
        except (SystemExit, click.exceptions.Exit) as ended:
            if (ended.exit_code if isinstance(ended, click.exceptions.Exit) else ended.code) in {0, None}:
                raise EndedEarly(reason=f"code of the project raised {type(ended).__name__}") from ended
            raise
        return code


def command_name(ctx: click.Context) -> str:
    """Return the full name of a command with its groups, without the program's: ``replay check``."""
    words = [ctx.info_name or ""]
    while (ctx := ctx.parent or ctx).parent is not None:
        words.insert(0, ctx.info_name or "")
    return " ".join(words)


def output_option(command: _F) -> _F:
    """Add ``-o/--output`` to a command."""
    formats = ("text", "json")
    add = click.option(
        "-o", "--output", type=click.Choice(formats), default="text", show_default=True, help="Output format."
    )
    return add(command)


def envelope(
    command: str,
    *,
    status: Literal["ok", "failed"],
    data: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
    error: ReportedError | None = None,
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
    status: Literal["ok", "failed"] = "ok",
    warnings: Sequence[str] = (),
) -> None:
    """Print a result. ``text`` is the text for people, or a function that prints it."""
    if output == "json":
        click.echo(json.dumps(envelope(command, status=status, data=data, warnings=warnings), indent=2, default=str))
        return
    if callable(text):
        text()
    else:
        echo_printable(text)
    for warning in warnings:
        echo_printable(f"warning: {warning}", err=True)


def emit_error(command: str, output: OutputFormat, error: ReportedError) -> None:
    """Print an error: the envelope on stdout for programs, the message and its hint on stderr for people."""
    if output == "json":
        click.echo(json.dumps(envelope(command, status="failed", error=error), indent=2, default=str))
    echo_printable(f"error [{error.code}]: {error.message}", err=True)
    echo_printable(f"hint: {error.hint}", err=True)


def echo_printable(text: str, *, err: bool = False) -> None:
    """Print text that may hold untrusted parts: control characters other than newline and tab are escaped."""
    click.echo(printable(text, keep="\n\t"), err=err)
