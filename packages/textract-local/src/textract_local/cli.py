"""``textract-local``: serve Textract's API, or read one file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from textract_local import __version__
from textract_local.server.arguments import add_arguments, serve

_FEATURES = ("TABLES", "FORMS", "LAYOUT", "SIGNATURES")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0, 1 if it fails, or 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="textract-local", description="Amazon Textract on this machine.")
    parser.add_argument("--version", action="version", version=f"textract-local {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serving = commands.add_parser(
        "serve", help="serve Textract's API until a signal ends it", description="Serve Textract's API to AWS SDKs."
    )
    add_arguments(serving)
    reading = commands.add_parser(
        "read", help="print what Textract would answer for a file", description="Read a PNG, JPEG, TIFF or PDF file."
    )
    reading.add_argument("file", type=Path, metavar="FILE", help="document to read; - reads standard input")
    reading.add_argument(
        "--feature",
        action="append",
        default=[],
        type=str.upper,
        choices=_FEATURES,
        help="analysis to add, as in FeatureTypes of AnalyzeDocument; repeatable",
    )
    reading.add_argument(
        "--query",
        action="append",
        default=[],
        type=_question,
        metavar="TEXT",
        help="question to answer from the document; repeatable",
    )
    given = parser.parse_args(arguments)
    return serve(given) if given.command == "serve" else _read(given)


def _question(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("the question is empty")
    return text


def _read(given: argparse.Namespace) -> int:
    from textract_local.errors import TextractLocalError
    from textract_local.reader.document import ASYNC
    from textract_local.reader.responses import read
    from textract_local.reader.sources import standard_input

    try:
        document = standard_input(ASYNC.most_bytes) if given.file == Path("-") else given.file
        response = read(document, features=given.feature, queries=given.query)
    except TextractLocalError as error:
        return error.report()
    if sys.stdout is None:
        # It was closed when the command started.
        return 0
    try:
        json.dump(response, sys.stdout, ensure_ascii=False, indent=2)
        print(flush=True)  # noqa: T201
    except BrokenPipeError:
        # The reader of the output (head, less) has exited: there is nothing to report, and the interpreter's flush at
        # exit would raise the error again.
        sys.stdout = None
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
