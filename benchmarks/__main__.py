"""Run the benchmarks: ``python -m benchmarks [--short] [NAME ...]``.

Prints a table and writes ``.reports/bench.json``. Exits with 1 if a threshold is missed. With ``--short`` each runs
all of its code with the least work, in a minute or two altogether: that tests the benchmarks and measures nothing, so
that no threshold is checked and no report is written.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.cleanup import STACK, ended_in_any_case, exit_on_signals

Result = dict[str, Any]
Lines = Sequence[tuple[str, str]]

REPORT = Path(__file__).resolve().parents[1] / ".reports" / "bench.json"


def _startup(*, short: bool) -> tuple[Result, Lines]:
    from benchmarks import startup

    result = startup.run(1) if short else startup.run()
    return result, startup.table(result)


def _stack(*, short: bool) -> tuple[Result, Lines]:
    from benchmarks import stack

    result = stack.measure(1) if short else stack.measure()
    return result, stack.table(result)


def _company(*, short: bool) -> tuple[Result, Lines]:
    from benchmarks import concurrent_stacks

    result = concurrent_stacks.run(1, idle_seconds=1, clones=2) if short else concurrent_stacks.run()
    return result, concurrent_stacks.table(result)


def _throughput(*, short: bool) -> tuple[Result, Lines]:
    from benchmarks import throughput

    with _running_stack() as variables:
        result = throughput.run(variables, jobs=5, rounds=1) if short else throughput.run(variables)
    return result, throughput.table(result)


def _emulator(*, short: bool) -> tuple[Result, Lines]:
    from benchmarks import emulator

    result = emulator.run(pages=2, rounds=1) if short else emulator.run()
    return result, emulator.table(result)


def _cached(*, short: bool) -> tuple[Result, Lines]:
    from benchmarks import cached

    with _running_stack() as variables:
        result = cached.run(variables, rounds=1, seconds=0.1) if short else cached.run(variables)
    return result, cached.table(result)


def _footprint(*, short: bool) -> tuple[Result, Lines]:
    from benchmarks import footprint

    result = footprint.run(starts=1, settling_seconds=1) if short else footprint.run()
    return result, footprint.table(result)


def _hashing(*, short: bool) -> tuple[Result, Lines]:
    from benchmarks import hashing

    with _running_stack() as variables:
        result = hashing.run(variables)
    return result, hashing.table(result)


def _ocr(*, short: bool) -> tuple[Result, Lines]:
    from benchmarks import ocr_quality

    result = ocr_quality.run(angles=[0]) if short else ocr_quality.run()
    return result, ocr_quality.table(result)


def _replay(*, short: bool) -> tuple[Result, Lines]:
    from benchmarks import replay

    result = replay.run(count=1, rounds=1) if short else replay.run()
    return result, replay.table(result)


MEASUREMENTS: dict[str, Callable[..., tuple[Result, Lines]]] = {
    "startup": _startup,
    "stack": _stack,
    "company": _company,
    "throughput": _throughput,
    "emulator": _emulator,
    "cached": _cached,
    "footprint": _footprint,
    "hashing": _hashing,
    "ocr": _ocr,
    "replay": _replay,
}


@contextmanager
def _running_stack() -> Iterator[dict[str, str]]:
    """Run a temporary stack, with its variables in the process environment, where botocore reads them."""
    from photo_worker.devkit.stack import Stack

    with tempfile.TemporaryDirectory(prefix="photo-worker-bench-") as home:
        Path(home).chmod(0o711)
        stack = Stack(Path(home), STACK, base_port=0)
        before = dict(os.environ)
        with ended_in_any_case() as ending:
            ending.register("stack", home)
            try:
                stack.up()
                os.environ.update(stack.env())
                yield stack.env()
            finally:
                os.environ.clear()
                os.environ.update(before)
                stack.delete()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, as ratios within one run.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of: {', '.join(MEASUREMENTS)} (default: all)")
    parser.add_argument("--short", action="store_true", help="only see that each goes through; nothing is judged")
    options = parser.parse_args()
    names = options.names or list(MEASUREMENTS)
    if unknown := sorted(set(names) - set(MEASUREMENTS)):
        parser.error(f"there is no measurement {', '.join(unknown)}")
    exit_on_signals()
    results: dict[str, Result] = {}
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        results[name], lines = MEASUREMENTS[name](short=options.short)
        if not lines or not all(label and value for label, value in lines):
            raise RuntimeError(f"{name} has printed no table, or one with a hole: {lines}")
        print(f"\n{name}")
        for label, value in lines:
            print(f"  {label:<44} {value}", flush=True)
    if options.short:
        print(f"\nall of {', '.join(names)} went through; nothing was judged")
        return 0
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    missed = [name for name, result in results.items() if not result["met"]]
    print(f"\nwritten: {REPORT}" + (f"\nmissed a bar: {', '.join(missed)}" if missed else ""))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
