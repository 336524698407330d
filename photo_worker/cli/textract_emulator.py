"""``photo-worker textract-emulator``: the Textract emulator alone, without the rest of the stack."""

from __future__ import annotations

import re
from pathlib import Path

import click

from photo_worker.cli.output import ErrorReportingCommand
from photo_worker.printable import cut
from photo_worker.stack_errors import ExtraMissing

# Of a name, an IPv4 or an IPv6 address; what has other characters is in no Host header.
_HOST = re.compile(r"[\w.:\[\]-]{1,253}", re.ASCII)


def _names(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not _HOST.fullmatch(value):
            raise click.BadParameter(f"{cut(value)!r} is not the name of a host")
    return values


@click.command(cls=ErrorReportingCommand)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8765, show_default=True, help="Port; 0 takes a free one."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that jobs are kept in.  [default: one in your folder for state that follows from the port]",
)
@click.option("--processes", type=click.IntRange(1, 64), help="Pages read at once.  [default: one a core]")
@click.option(
    "--most-open-jobs",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    help="Jobs in progress at once; others are refused with LimitExceededException.",
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    callback=_names,
    help="Name that clients may call it by, beside those of loopback: the one that other containers know it by. "
    "Repeatable; PHOTO_WORKER_ALLOWED_HOSTS names more, separated by commas.",
)
def textract_emulator(
    host: str, port: int, data: Path | None, processes: int | None, most_open_jobs: int, hosts: tuple[str, ...]
) -> None:
    """Run an emulated Amazon Textract that really reads documents, until it is told to stop.

    AWS SDKs use it with AWS_ENDPOINT_URL_TEXTRACT, which the first line names. S3 and SNS are those that
    AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL_SNS and the other standard variables name.

    Requests of web pages are refused, and those whose Host is no name of this machine.
    """
    from photo_worker.devkit.textract.spawning import spawn_early

    first = spawn_early()
    try:
        # Imported while the process loads its engine.
        from photo_worker.devkit.textract.command import EmulatorOptions, configure_logging, run
    except ImportError as error:
        raise ExtraMissing(command="textract-emulator", reason=str(error)) from error
    configure_logging()
    run(EmulatorOptions(host, port, data, processes or 0, most_open_jobs=most_open_jobs, hosts=hosts), first)
