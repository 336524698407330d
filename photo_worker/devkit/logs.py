"""Reading, rotating and following the services' logs."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from photo_worker.devkit.layout import StackPaths

_BLOCK_BYTES = 256 * 1024
_POLL_SECONDS = 0.2

SHOWN_LINES = 20
"""The last lines of a service's log that a message repeats."""


def rotate(path: Path) -> None:
    """Rename the previous run's log to ``.log.1``, so that a log covers a single run."""
    with contextlib.suppress(FileNotFoundError):
        path.replace(path.with_suffix(".log.1"))


def erase(directory: Path, writing: Collection[str], begun: Collection[str] = ()) -> None:
    """Empty the logs of the services that are ``writing``, keep those just ``begun``, and delete every other."""
    for path in directory.iterdir():
        service = path.name.removesuffix(".log")
        if service in begun:
            continue
        if service in writing:
            # Services open their logs for appending, so the next line goes to the beginning.
            os.truncate(path, 0)
        else:
            path.unlink()


def tail(path: Path, lines: int) -> list[str]:
    """Return a log's last lines, whole and without control characters; an empty list if there is no log."""
    if lines <= 0:
        return []
    blocks: list[bytes] = []
    try:
        with path.open("rb") as handle:
            begin = handle.seek(0, os.SEEK_END)
            # One more line break than lines: the first block may begin in the middle of a line.
            while begin > 0 and sum(block.count(b"\n") for block in blocks) <= lines:
                end, begin = begin, max(0, begin - _BLOCK_BYTES)
                handle.seek(begin)
                blocks.insert(0, handle.read(end - begin))
    except FileNotFoundError:
        return []
    content = b"".join(blocks)
    return [printable(line) for line in content.splitlines()[-lines:]]


def follow(paths: StackPaths, services: Iterable[str], stop: Callable[[], bool]) -> Iterator[tuple[str, str]]:
    """Yield each complete line that is written from now on as (service, line), until ``stop`` returns true.

    A log that was replaced or truncated is read from its beginning.
    """
    return _lines_of([LogReader(service, paths.log(service)) for service in services], stop)


def _lines_of(tailed: list[LogReader], stop: Callable[[], bool]) -> Iterator[tuple[str, str]]:
    while not stop():
        quiet = True
        for log in tailed:
            for line in log.new_lines():
                quiet = False
                yield log.service, line
        if quiet:
            time.sleep(_POLL_SECONDS)


class LogReader:
    """A log that is read from its current end onwards."""

    def __init__(self, service: str, path: Path) -> None:
        self.service = service
        self._path = path
        self._position = _size(path)
        self._rest = b""

    def new_lines(self) -> list[str]:
        """Return the whole lines that were written since the last call."""
        size = _size(self._path)
        if size < self._position:
            self._position, self._rest = 0, b""
        if size == self._position:
            return []
        with self._path.open("rb") as handle:
            handle.seek(self._position)
            content = self._rest + handle.read(size - self._position)
        self._position = size
        *lines, self._rest = content.split(b"\n")
        return [printable(line) for line in lines]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def printable(line: bytes) -> str:
    """Decode a line and replace control characters: a service may log input that would control a terminal."""
    text = line.decode("utf-8", errors="replace").rstrip("\r\n")
    return "".join(character if character.isprintable() or character == "\t" else "\ufffd" for character in text)
