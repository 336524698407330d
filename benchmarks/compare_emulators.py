"""Send the same requests to this emulator and to moto's server: `python -m benchmarks.compare_emulators [--json]`.

This emulator uses the S3, SNS and SQS that the environment's AWS_ENDPOINT_URL_* variables name, or those of a
temporary stack; moto has them built in. Prints the table of docs/explanation/compared-with-others.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks import footprint, moto
from benchmarks.__main__ import _running_stack
from benchmarks.probes import PROBES, Target, ask

ROOT = Path(__file__).resolve().parents[1]
PAGE, WORD = "photos/clean-print.png", "Lemon"
_SERVICES = ("s3", "sns", "sqs")


@lru_cache(maxsize=64)
def client(service: str, url: str) -> Any:
    """Return a client that sends parameters without validation, and without retries."""
    import boto3
    from botocore.config import Config

    config = Config(parameter_validation=False, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    session: Any = boto3.Session("local", "local", region_name="us-east-1")
    return session.client(service, endpoint_url=url, config=config)


@contextlib.contextmanager
def ours() -> Iterator[Target]:
    """Yield this emulator with its own data directory and the environment's S3, SNS and SQS."""
    beside = {service: os.environ[f"AWS_ENDPOINT_URL_{service.upper()}"] for service in _SERVICES}
    with tempfile.TemporaryDirectory(prefix="photo-worker-compare-") as data, ExitStack() as running:

        def start() -> str:
            running.close()
            return running.enter_context(footprint.started("--data", data))[1]

        def clients(service: str, url: str) -> Any:
            return client(service, beside.get(service, url))

        yield Target(start(), clients, start, (ROOT / "fixtures" / PAGE).read_bytes(), WORD)


@contextlib.contextmanager
def motos(directory: Path) -> Iterator[Target]:
    """Yield moto's server, which provides all services."""
    with ExitStack() as running:

        def start() -> str:
            running.close()
            return running.enter_context(moto.running(directory))

        yield Target(start(), client, start, (ROOT / "fixtures" / PAGE).read_bytes(), WORD)


def compare() -> dict[str, dict[str, str]]:
    """Return the observation by emulator and promise."""
    directory = moto.programs()
    with ExitStack() as stack:
        if not all(f"AWS_ENDPOINT_URL_{service.upper()}" in os.environ for service in _SERVICES):
            stack.enter_context(_running_stack())
        with ours() as target:
            seen = {"photo-worker": ask(target)}
    with motos(directory) as target:
        seen[f"moto {moto.version(directory)}"] = ask(target)
    return seen


def main() -> None:
    """Print the comparison as a table, or as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare_emulators")
    parser.add_argument("--json", action="store_true", help="print JSON")
    as_json = parser.parse_args().json
    seen = compare()
    if as_json:
        print(json.dumps(seen, indent=2))
        return
    print("| promise |", " | ".join(seen), "|")
    print("| --- |", " | ".join("---" for _ in seen), "|")
    for promise in PROBES:
        print(f"| {promise} |", " | ".join(responses[promise] for responses in seen.values()), "|")


if __name__ == "__main__":
    main()
