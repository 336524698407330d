"""The ``photo-worker`` command.

Commands are imported when they are called: `photo-worker --help` imports click and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import click
from click.shell_completion import CompletionItem

from photo_worker import __version__

# The same for `photo-worker` and `python -m photo_worker.cli`.
_NAME = "photo-worker"
_COMPLETE_VARIABLE = "_PHOTO_WORKER_COMPLETE"

# Written here: without docstrings, an error class has no message either.
_WITHOUT_DOCSTRINGS = (
    "Python runs with -OO or PYTHONOPTIMIZE=2, which removes docstrings: the texts of errors and of --help.\n"
    "hint: Run photo-worker without it; -O and PYTHONOPTIMIZE=1 may stay."
)


class _Entry(NamedTuple):
    """The import path of a command, and the line that `--help` shows without importing it."""

    target: str
    summary: str


_COMMANDS = {
    "demo": _Entry("photo_worker.cli.demo:demo", "Start the stack and process the fixture photos."),
    "up": _Entry("photo_worker.cli.stack:up", "Start the local stack, or report the one that is running."),
    "down": _Entry("photo_worker.cli.stack:down", "Stop the local stack; its data is kept."),
    "status": _Entry("photo_worker.cli.stack:status", "Show the state and address of each service."),
    "wait": _Entry("photo_worker.cli.stack:wait", "Wait until the local stack is ready."),
    "logs": _Entry("photo_worker.cli.stack:logs", "Show the logs of the stack's services."),
    "snapshot": _Entry("photo_worker.cli.snapshot:snapshot", "Save and restore stack data."),
    "faults": _Entry("photo_worker.cli.faults:faults", "Inject faults into the local stack, and remove them."),
    "reset": _Entry("photo_worker.cli.stack:reset", "Delete the local stack's data and start it empty."),
    "env": _Entry("photo_worker.cli.stack:env", "Print the environment variables of the local stack."),
    "prefetch": _Entry("photo_worker.cli.prefetch:prefetch", "Download everything that up needs to work offline."),
    "doctor": _Entry("photo_worker.cli.doctor:doctor", "Diagnose the local environment."),
    "config": _Entry("photo_worker.cli.config:config", "Inspect the settings."),
    "migrate": _Entry("photo_worker.cli.migrate:migrate", "Migrate the database schema and bind the bucket."),
    "worker": _Entry("photo_worker.cli.worker:worker", "Run the worker until it is stopped."),
    "submit": _Entry("photo_worker.cli.submit:submit", "Submit photos: files, globs or s3:// locations."),
    "textract-emulator": _Entry(
        "photo_worker.cli.textract_emulator:textract_emulator", "Run a Textract emulator that reads documents."
    ),
    "replay": _Entry("photo_worker.cli.replay:replay", "Check that the current code replays recorded histories."),
    "show": _Entry("photo_worker.cli.show:show", "Show a job's state, artifacts and text."),
    "check": _Entry("photo_worker.cli.check:check", "Check that rows, objects and workflows are consistent."),
    "erase": _Entry("photo_worker.cli.erase:erase", "Delete every trace of a job."),
}


class _LazyGroup(click.Group):
    """A group that imports a command when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module_name, _, attribute = entry.target.partition(":")
        command: click.Command = getattr(import_module(module_name), attribute)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # Commands are completed with the summaries above: importing all of them takes seconds.
        names = [
            CompletionItem(name, help=entry.summary) for name, entry in _COMMANDS.items() if name.startswith(incomplete)
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in _COMMANDS.items()])


@click.command(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 success, 1 failure, 2 usage error, 130 interrupted, 129 or 143 ended by SIGHUP or SIGTERM.",
)
@click.version_option(__version__, prog_name=_NAME)
@click.option(
    "--env-file",
    type=click.Path(path_type=Path),
    help="Read settings from this file.  [default: .env in the working directory, if present]",
)
@click.option("--debug", is_flag=True, help="Show tracebacks of errors.")
@click.pass_context
def cli(ctx: click.Context, env_file: Path | None, debug: bool) -> None:
    """Turn recipe photos into durable, structured results, on a laptop or in the cloud."""
    ctx.obj = {**(ctx.obj or {}), "env_file": env_file, "debug": debug}


# libpq sends these of the process environment with every connection, and no parameter takes their place: a time zone
# that the server does not know would keep all programs from it.
_LIBPQS_OWN = ("PGTZ", "PGDATESTYLE", "PGGEQO")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _EndedBySignal(SystemExit):
    """Raised by a signal that would otherwise end the process at once, without any cleanup."""

    def __init__(self, number: int) -> None:
        self.name = signal.Signals(number).name
        self.exit_code = 128 + number
        super().__init__(self.exit_code)


def _end(number: int, _frame: object) -> None:
    raise _EndedBySignal(number)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and end the process with its exit code."""
    if "replay" in (sys.argv[1:] if arguments is None else arguments):
        from temporal_replay_gate import supervise

        supervise()
    for name in _LIBPQS_OWN:
        os.environ.pop(name, None)
    code = 1
    try:
        # An ignored signal stays ignored: the parent process, such as nohup, asked for it.
        heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        for number in heeded:
            if number != signal.SIGINT:
                signal.signal(number, _end)
        code = run(arguments)
        # The command is done: a later signal finds nothing to clean up, and must not print a traceback.
        for number in heeded:
            signal.signal(number, signal.SIG_DFL)
    except (KeyboardInterrupt, _EndedBySignal) as ended:
        code = ended.exit_code if isinstance(ended, _EndedBySignal) else 130
    if "temporalio.bridge" in sys.modules:
        # Temporal's own threads outlive a failed connection, and abort the process when they access an
        # interpreter that is being finalised.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _echo_error(what: str) -> None:
    with contextlib.suppress(OSError):
        # The terminal may have been closed.
        click.echo(what, err=True)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    if sys.flags.optimize > 1:
        # The reason of a failed job is such a text too: its row would keep a bare code.
        _echo_error("error [docstrings_missing]: " + _WITHOUT_DOCSTRINGS)
        return 2
    try:
        outcome = cli.main(
            args=None if arguments is None else list(arguments),
            prog_name=_NAME,
            complete_var=_COMPLETE_VARIABLE,
            standalone_mode=False,
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _echo_error("interrupted")
        return 130
    except _EndedBySignal as ended:
        _echo_error(f"ended by {ended.name}")
        return ended.exit_code
    except BrokenPipeError:
        # The reader of the output (head, less) has exited: there is nothing to report, and the interpreter's
        # flush at exit would raise the error again.
        sys.stdout = None
        return 1
    return outcome if isinstance(outcome, int) else 0
