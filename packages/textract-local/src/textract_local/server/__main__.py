"""`python -m textract_local.server`: the same as `textract-local serve`."""

from __future__ import annotations

import argparse
import sys

from textract_local.server.arguments import add_arguments, serve


def main() -> int:
    """Serve until a signal ends the process. Returns 1 if it cannot start, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m textract_local.server")
    add_arguments(parser)
    return serve(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
