"""The options of the server as a command line, and what runs with them."""

from __future__ import annotations

import argparse
from pathlib import Path

from textract_local.origins import is_host
from textract_local.server.options import DEFAULT_HOST, OPEN_JOBS_OPTION, PORT_OPTION, PROCESSES_OPTION, NumberOption
from textract_local.server.spawning import spawn_early


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the server's options to a parser."""
    parser.add_argument("--host", default=DEFAULT_HOST, help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=_port, default=PORT_OPTION.default, help="0 takes a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--data", type=Path, help="folder that jobs are kept in (default: one that follows from the port)"
    )
    parser.add_argument("--processes", type=_processes, default=0, help="pages read at once (default: one a core)")
    parser.add_argument(
        "--most-open-jobs",
        type=_open_jobs,
        default=OPEN_JOBS_OPTION.default,
        help="jobs in progress at once, others are refused (default: %(default)s)",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        type=_host_name,
        help="name that clients may call it by, beside those of loopback",
    )


def serve(given: argparse.Namespace) -> int:
    """Serve until a signal ends the process. Returns 1 if it cannot start, 2 for wrong usage."""
    from textract_local.errors import ExtraMissing, TextractLocalError

    first = spawn_early()
    try:
        # The modules below are imported while the reading process loads its engine.
        from textract_local.server.command import EmulatorOptions, configure_logging, run
    except ImportError as error:
        return ExtraMissing(reason=str(error)).report()

    configure_logging()
    options = EmulatorOptions(
        given.host,
        given.port,
        given.data,
        given.processes,
        most_open_jobs=given.most_open_jobs,
        hosts=tuple(given.allow_host),
    )
    try:
        run(options, first)
    except TextractLocalError as error:
        return error.report()


def _port(text: str) -> int:
    return _integer(text, PORT_OPTION)


def _processes(text: str) -> int:
    return _integer(text, PROCESSES_OPTION)


def _open_jobs(text: str) -> int:
    return _integer(text, OPEN_JOBS_OPTION)


def _host_name(text: str) -> str:
    if not is_host(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a host, such as textract or 192.0.2.7")
    return text


def _integer(text: str, option: NumberOption) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if not option.least <= value <= option.most:
        raise argparse.ArgumentTypeError(f"{value} is not from {option.least} to {option.most}")
    return value
