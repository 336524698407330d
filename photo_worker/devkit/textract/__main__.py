"""`python -m photo_worker.devkit.textract`: the emulator as a process of its own.

S3 is the one that AWS_ENDPOINT_URL_S3 and the other standard variables name.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from pathlib import Path

from photo_worker.devkit.textract.recognition import make
from photo_worker.devkit.textract.server import default_threads, listen, serve

logger = logging.getLogger(__name__)


def main() -> int:
    """Serve until a signal ends it. Returns 1 where it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m photo_worker.devkit.textract", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, required=True, help="port to listen on; 0 takes a free one")
    parser.add_argument("--threads", type=int, default=default_threads(), help="pages read at once (default: cores)")
    parser.add_argument("--data", type=Path, help="folder to keep readings in (default: one that goes at the end)")
    options = parser.parse_args()
    if options.threads < 1:
        parser.error("--threads must be at least 1")
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    try:
        bound = listen(options.host, options.port)
    except OSError as error:
        logger.error("cannot listen on %s:%d: %s", options.host, options.port, error.strerror)
        return 1
    logger.info("listening on %s:%d", *bound.getsockname()[:2])
    with tempfile.TemporaryDirectory(prefix="photo-worker-textract-") as passing:
        recogniser = make(options.data or Path(passing), processes=options.threads)
        serve(recogniser, bound, threads=options.threads)
    # Python would wait for threads in the middle of a download, and nothing more needs to be saved.
    logging.shutdown()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
