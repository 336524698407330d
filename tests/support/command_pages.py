"""Compares a command with its page: the keys of its JSON, the files it changes, the variables it reads."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import photo_worker
from photo_worker.cli import cli
from scripts.make_command_pages import Named, commands, example, facts_of

_PACKAGE = str(Path(photo_worker.__file__).parent)

# The name of a temporary file that replaces a JSON file.
_PASSING = re.compile(r"\..+\.json\.\w+")
_SETTLING_SECONDS = 10.0


def differences(shown: Any, printed: Any, open_: tuple[str, ...] = (), where: str = "") -> Iterator[str]:
    """Yield the differences between the keys of two JSON values; null and the empty list match anything.

    The elements of a list are merged. At the dotted paths ``open_`` the keys depend on the data.
    """
    if where.lstrip(".") in open_ or _nothing(shown) or _nothing(printed):
        return
    if isinstance(shown, dict) != isinstance(printed, dict) or isinstance(shown, list) != isinstance(printed, list):
        yield f"{where}: {shown!r} is no {type(printed).__name__}"
    elif isinstance(shown, dict):
        yield from (f"{where}.{key} is shown and not printed" for key in shown if key not in printed)
        yield from (f"{where}.{key} is printed and not shown" for key in printed if key not in shown)
        for key in shown.keys() & printed.keys():
            yield from differences(shown[key], printed[key], open_, f"{where}.{key}")
    elif isinstance(shown, list):
        for one in shown:
            for other in printed:
                yield from differences(one, other, open_, where)


def _nothing(value: Any) -> bool:
    return value is None or value == []


@dataclass
class Watched:
    """Runs commands in this process and collects effects that their pages do not mention."""

    roots: Mapping[str, Path]
    """Directories by their names in the pages: <home>, <stack> and those in which nothing may change."""
    monkeypatch: pytest.MonkeyPatch
    complaints: list[str] = field(default_factory=list)
    changed: dict[str, set[str]] = field(default_factory=dict)
    """The files that each command created, changed or deleted, named as in its page."""

    def run(self, *arguments: str, codes: tuple[int, ...] = (0,), given: str | None = None) -> Result:
        """Run a command, with ``-o json`` if it has that, and record its effects."""
        named = _named(arguments)
        facts = facts_of(named.slug)
        printed = any(param.name == "output" for param in named.command.params)
        before = self._settled({})
        with self._reading() as names:
            words = [*arguments, "-o", "json"] if printed else list(arguments)
            result = CliRunner().invoke(cli, words, input=given)
        assert result.exit_code in codes, f"{arguments}: {result.output} {result.exception}"
        if printed:
            shown = json.loads(example((facts.like or " ".join(named.words)).replace(" ", "-")))
            found = differences(shown["data"], json.loads(result.stdout)["data"], facts.open, ".data")
            self.complaints += [f"{named.slug}: {difference}" for difference in found]
        after = self._settled(before)
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        self.changed.setdefault(named.slug, set()).update(changed)
        allowed = [_pattern(path) for path in facts.writes]
        unsaid = sorted(name for name in changed if not any(pattern.fullmatch(name) for pattern in allowed))
        self.complaints += [f"{named.slug} changes {name}" for name in unsaid]
        known = {*facts.variables, *(str(param.envvar) for param in named.command.params)}
        self.complaints += [f"{named.slug} reads {name}" for name in sorted(names) if not _is_known(name, known)]
        return result

    def _settled(self, before: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        """Return the files after temporary ones are gone: services replace their own files by renaming."""
        deadline = time.monotonic() + _SETTLING_SECONDS
        while True:
            after = self._files()
            passing = [name for name in after.keys() - before.keys() if _PASSING.fullmatch(name.rpartition("/")[2])]
            if not passing or time.monotonic() > deadline:
                return after
            time.sleep(0.02)

    def _files(self) -> dict[str, tuple[int, int]]:
        """Return size and time of each file in the directories, named after the innermost one."""
        found = {}
        for name, root in self.roots.items():
            inner = [other for other in self.roots.values() if other != root and other.is_relative_to(root)]
            for path in root.rglob("*"):
                if any(path.is_relative_to(other) for other in inner):
                    continue
                # Running services create and delete files meanwhile.
                with suppress(FileNotFoundError):
                    facts = path.lstat()
                    if not stat.S_ISDIR(facts.st_mode):
                        found[f"{name}/{path.relative_to(root)}"] = (facts.st_mtime_ns, facts.st_size)
        return found

    @contextmanager
    def _reading(self) -> Iterator[set[str]]:
        """Record the environment variables that this project's own code reads by name."""
        names: set[str] = set()
        kind = type(os.environ)
        ask: Callable[[Any, str], str] = kind.__getitem__

        def noted(environ: Any, name: str) -> str:
            frame = sys._getframe(1)
            # These two read by name for their caller; the other methods of the mapping read all variables.
            if frame.f_back is not None and frame.f_code.co_name in {"get", "__contains__"}:
                frame = frame.f_back
            if frame.f_code.co_filename.startswith(_PACKAGE):
                names.add(name)
            return ask(environ, name)

        with self.monkeypatch.context() as patch:
            patch.setattr(kind, "__getitem__", noted)
            yield names


def _named(arguments: tuple[str, ...]) -> Named:
    return next(named for named in commands() if arguments[: len(named.words)] == named.words)


def _pattern(path: str) -> re.Pattern[str]:
    """Return the pattern of a page's file name: * within a name, ** over directories."""
    parts = re.split(r"(\*\*|\*)", path)
    return re.compile("".join({"**": ".*", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts))


def _is_known(name: str, known: set[str]) -> bool:
    return any(_pattern(entry).fullmatch(name) for entry in known)
