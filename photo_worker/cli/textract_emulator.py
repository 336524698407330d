"""``photo-worker textract-emulator``: run the Textract emulator without the rest of the stack."""

from __future__ import annotations

import os
from pathlib import Path

import click

from photo_worker.cli.output import ErrorReportingCommand
from photo_worker.devkit.errors import AddressUnusable, DataInUse, DataMismatch, DataUnwritable, ExtraMissing
from photo_worker.devkit.layout import HOME_VARIABLE
from photo_worker.printable import cut
from textract_local.origins import is_host
from textract_local.server import DEFAULT_HOST, OPEN_JOBS_OPTION, PORT_OPTION, PROCESSES_OPTION, NumberOption

# The errors of the server of textract-local alone, in this product's words.
SERVER_COUNTERPARTS = {
    kind.code: kind for kind in (AddressUnusable, DataInUse, DataMismatch, DataUnwritable, ExtraMissing)
}

_STATE_VARIABLE = "XDG_STATE_HOME"


def _names(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not is_host(value):
            raise click.BadParameter(f"{cut(value)!r} is not the name of a host")
    return values


def _range(option: NumberOption) -> click.IntRange:
    return click.IntRange(option.least, option.most)


@click.command(cls=ErrorReportingCommand)
@click.option("--host", default=DEFAULT_HOST, show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=_range(PORT_OPTION),
    default=PORT_OPTION.default,
    show_default=True,
    help="Port to listen on; 0 selects a free one.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory to store jobs in.  [default: one for the port in your state directory]",
)
@click.option(
    "--processes",
    type=_range(PROCESSES_OPTION),
    default=PROCESSES_OPTION.default,
    help="Number of pages to read in parallel.  [default: number of CPU cores]",
)
@click.option(
    "--most-open-jobs",
    type=_range(OPEN_JOBS_OPTION),
    default=OPEN_JOBS_OPTION.default,
    show_default=True,
    help="Maximum number of jobs in progress; others are refused with LimitExceededException.",
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    callback=_names,
    help="Host name that clients may use, besides those of loopback, such as the name in a container network. "
    "Repeatable; PHOTO_WORKER_ALLOWED_HOSTS adds more, separated by commas.",
)
def textract_emulator(
    host: str, port: int, data: Path | None, processes: int | None, most_open_jobs: int, hosts: tuple[str, ...]
) -> None:
    """Run a Textract emulator that really reads documents, until it is stopped.

    AWS SDKs use it through AWS_ENDPOINT_URL_TEXTRACT, which the first line of output shows. It uses S3 and SNS as set
    by AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL_SNS and the other standard variables.

    Requests from web pages, and requests whose Host is not a name of this machine, are refused.
    """
    from textract_local.server import spawn_early

    first = spawn_early()
    try:
        # Imported while the child process loads its OCR engine.
        from photo_worker.adapters.ocr.library_errors import COUNTERPARTS, product_errors
        from photo_worker.devkit.guard.rules import ServiceRules, allowed_hosts
        from textract_local.server import EmulatorOptions, configure_logging, run
    except ImportError as error:
        raise ExtraMissing(reason=str(error)) from error
    configure_logging()
    options = EmulatorOptions(
        host,
        port,
        # Port 0 takes a free one, and a directory that goes with the process.
        data or (default_data(port) if port else None),
        processes or 0,
        most_open_jobs=most_open_jobs,
        hosts=(*hosts, *allowed_hosts(os.environ)),
        rules=ServiceRules,
    )
    with product_errors({**COUNTERPARTS, **SERVER_COUNTERPARTS}):
        run(options, first)


def default_data(port: int) -> Path:
    """Return the data directory for this port, below PHOTO_WORKER_HOME or the user's state directory."""
    home = os.environ.get(HOME_VARIABLE, "")
    if home:
        # A stack cannot have this name.
        return Path(home).expanduser().absolute() / f"Textract-{port}"
    state = os.environ.get(_STATE_VARIABLE, "")
    return (Path(state) if state else Path.home() / ".local" / "state") / "photo-worker" / f"textract-{port}"
