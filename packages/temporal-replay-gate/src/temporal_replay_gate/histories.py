"""Recorded histories on disk: their layout, their contents, and their provenance.

A history is Temporal's own JSON, as ``temporal workflow show --output json`` writes it. Next to
``SCENARIO.json`` there is ``SCENARIO.provenance.json``, which tells how it was recorded. The layout of a
corpus is ``WORKFLOW/RELEASE/SCENARIO.json``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from temporal_replay_gate.files import NotRegularFile, read_head

PROVENANCE_SUFFIX = ".provenance.json"

Exit = Literal["success", "failure", "cancellation", "continued", "timeout", "terminated", "open"]

_EXITS: dict[str, Exit] = {
    "WorkflowExecutionCompleted": "success",
    "WorkflowExecutionFailed": "failure",
    "WorkflowExecutionCanceled": "cancellation",
    "WorkflowExecutionContinuedAsNew": "continued",
    "WorkflowExecutionTimedOut": "timeout",
    "WorkflowExecutionTerminated": "terminated",
}


@dataclass(frozen=True)
class Provenance:
    """How a history was recorded.

    ``sha256`` is the digest of the file's bytes. ``core_flags`` and ``patch_ids`` repeat values of the history,
    so that a later scrubbing that loses them is detected. ``recorded_at`` is ISO 8601 in UTC.
    """

    sha256: str
    sdk_version: str
    core_flags: tuple[int, ...]
    patch_ids: tuple[str, ...]
    app_version: str
    recorded_at: str
    scenario: str
    exit: Exit
    scrubbed: bool

    def to_json(self) -> str:
        """Return the text of the provenance file."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Provenance:
        """Parse a provenance file. Raises ``ValueError``, which names the faulty field."""
        try:
            document = json.loads(text)
        except RecursionError:
            raise ValueError("its JSON is nested too deeply") from None
        if not isinstance(document, dict):
            raise ValueError("it is not a JSON object")
        names = {field.name for field in fields(cls)}
        if missing := sorted(names - document.keys()):
            raise ValueError(f"it lacks {', '.join(missing)}")
        values = {name: document[name] for name in names}
        for name, kind, of in (("core_flags", int, "numbers"), ("patch_ids", str, "texts")):
            if not isinstance(values[name], list) or not all(isinstance(entry, kind) for entry in values[name]):
                raise ValueError(f"{name} is not a list of {of}")
            values[name] = tuple(values[name])
        return cls(**values)


@dataclass(frozen=True)
class HistoryFile:
    """One recorded run of a workflow whose events have passed the preflight checks."""

    path: Path
    workflow_type: str
    workflow_id: str
    run_id: str
    events: Sequence[Mapping[str, Any]]
    sha256: str
    provenance: Provenance | None = None

    @property
    def exit(self) -> Exit:
        """How the run ended; ``open`` if it was still running."""
        return exit_of(self.events)

    @property
    def core_flags(self) -> tuple[int, ...]:
        """The SDK core's flags that the run used, in ascending order."""
        return core_flags(self.events)

    @property
    def patch_ids(self) -> tuple[str, ...]:
        """The ids of the patches whose new branch the run took."""
        return patch_ids(self.events)

    @property
    def scenario(self) -> str:
        """The file's name without its suffix."""
        return self.path.name.removesuffix(".json")


def provenance_path(history: Path) -> Path:
    """Return the path of the provenance file of ``history``."""
    return history.with_name(history.name.removesuffix(".json") + PROVENANCE_SUFFIX)


def is_directory(path: Path) -> bool:
    """Tell whether ``path`` is a directory or a link to one; False also if the system cannot tell."""
    try:
        return path.is_dir()
    except OSError:
        return False


def discover(paths: Iterable[Path]) -> list[Path]:
    """Return the histories under ``paths``, each once, sorted: named files, and the files found in directories."""
    return search(paths).histories


# Suffixes of files that are no histories and may be among them: notes, an allow list, code.
_BESIDE = (".md", ".toml", ".txt", ".py", ".pyc")

# The end of a provenance file's stem if the file has another suffix.
_PROVENANCE = ".provenance"

# The part of a file in which the events of an export begin.
_HEAD_BYTES = 64 * 1024
_EVENTS = re.compile(r'"events"\s*:\s*\[')

# Files that file managers and version control create in a directory.
_OF_TOOLS = frozenset({".DS_Store", ".gitattributes", ".gitignore", ".gitkeep", ".keep"})


@dataclass(frozen=True)
class Searched:
    """The result of a search.

    ``orphans`` are provenance files without a history, ``left_out`` files that are not read because of their name,
    and ``unread`` directories that cannot be listed and broken links, each with the reason.
    """

    histories: list[Path]
    orphans: list[Path]
    left_out: list[Path]
    unread: list[tuple[Path, str]]

    @property
    def empty(self) -> bool:
        """Whether nothing was found, not even a file that is reported instead of read."""
        return not (self.histories or self.orphans or self.left_out or self.unread)


def search(paths: Iterable[Path]) -> Searched:
    """Search directories for histories, and accept files that are named; each path once, sorted.

    Hidden files and directories are searched like others. Symbolic links are followed, but no directory is searched
    twice. Notes, allow lists and code (by suffix) and files of tools are reported only if they contain a history.
    """
    found: set[Path] = set()
    provenance: set[Path] = set()
    left_out: set[Path] = set()
    unread: dict[Path, str] = {}
    for path in paths:
        if not is_directory(path):
            found.add(path)
            continue
        for entry in _entries(path, unread):
            if entry.name.endswith(PROVENANCE_SUFFIX):
                provenance.add(entry)
            elif entry.name.endswith(".json"):
                found.add(entry)
            elif (reason := _broken_link(entry)) is not None:
                unread[entry] = reason
            elif not _is_beside(entry) or _may_be_history(entry):
                left_out.add(entry)
    orphans = provenance - {provenance_path(history) for history in found}
    return Searched(sorted(found), sorted(orphans), sorted(left_out), sorted(unread.items()))


def _is_beside(entry: Path) -> bool:
    """Tell whether a file, by its name, is a note, an allow list, code or a file of a tool."""
    if Path(entry.stem).suffix == _PROVENANCE:
        return False
    return entry.suffix in _BESIDE or entry.name in _OF_TOOLS


def _may_be_history(entry: Path) -> bool:
    """Tell whether a file begins like a history, whatever its name; True also if it cannot be read."""
    try:
        head = read_head(entry, _HEAD_BYTES)
    except NotRegularFile:
        return False
    except OSError:
        return True
    text = head.decode("utf-8-sig", errors="replace")
    return text.lstrip().startswith("{") and _EVENTS.search(text) is not None


def _entries(root: Path, unread: dict[Path, str]) -> Iterator[Path]:
    """Yield the files below ``root``, and directories named like histories.

    Adds directories that cannot be listed to ``unread``.
    """

    def note(error: OSError) -> None:
        # An error in the middle of a listing names no file.
        unread[Path(os.fsdecode(error.filename)) if error.filename else root] = error.strerror or str(error)

    seen: set[Path] = set()
    for directory, directories, names in os.walk(root, followlinks=True, onerror=note):
        real = Path(directory).resolve()
        if real in seen:
            directories.clear()
            continue
        seen.add(real)
        # A directory with the name of a history is no history: it is reported, not searched.
        named = [name for name in directories if name.endswith(".json")]
        directories[:] = sorted(set(directories) - set(named))
        for name in (*named, *names):
            yield Path(directory) / name


def _broken_link(entry: Path) -> str | None:
    """Return why a symbolic link is broken; None if it works or if ``entry`` is not a link."""
    try:
        if entry.is_symlink():
            entry.stat()
    except OSError as error:
        return error.strerror or str(error)
    return None


def event_name(event: Mapping[str, Any]) -> str:
    """Return an event's type without prefix: exports contain ``EVENT_TYPE_TIMER_STARTED`` or ``TimerStarted``."""
    name = str(event.get("eventType", ""))
    if not name.startswith("EVENT_TYPE_"):
        return name
    return "".join(word.capitalize() for word in name.removeprefix("EVENT_TYPE_").split("_"))


def attributes(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an event's own attributes, empty if it has none."""
    for name, value in event.items():
        if name.endswith("EventAttributes") and isinstance(value, dict):
            return value
    return {}


def exit_of(events: Sequence[Mapping[str, Any]]) -> Exit:
    """Return how the run that ``events`` record ended."""
    return _EXITS.get(event_name(events[-1]), "open") if events else "open"


def core_flags(events: Iterable[Mapping[str, Any]]) -> tuple[int, ...]:
    """Return the SDK core's flags that the workflow tasks recorded; flag 1 turns on id and type checks."""
    flags: set[int] = set()
    for event in events:
        metadata = attributes(event).get("sdkMetadata")
        used = metadata.get("coreUsedFlags") if isinstance(metadata, dict) else None
        if isinstance(used, list):
            flags.update(flag for flag in used if isinstance(flag, int))
    return tuple(sorted(flags))


def patch_ids(events: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the ids in the SDK core's patch markers, sorted."""
    found: set[str] = set()
    for event in events:
        marker = attributes(event)
        if event_name(event) != "MarkerRecorded" or marker.get("markerName") != "core_patch":
            continue
        try:
            payload = marker["details"]["patch-data"]["payloads"][0]
            found.add(str(json.loads(base64.b64decode(payload["data"]))["id"]))
        except (KeyError, IndexError, TypeError, ValueError, binascii.Error):
            # The replay judges a malformed marker; here it just names no patch.
            continue
    return tuple(sorted(found))


def sdk_version(events: Iterable[Mapping[str, Any]]) -> str:
    """Return the SDK version that the last workflow task with one recorded, empty if none did."""
    version = ""
    for event in events:
        metadata = attributes(event).get("sdkMetadata")
        if isinstance(metadata, dict) and metadata.get("sdkVersion"):
            version = str(metadata["sdkVersion"])
    return version


def sha256_of(content: bytes) -> str:
    """Return the digest in the form that provenance files contain: hexadecimal."""
    return hashlib.sha256(content).hexdigest()
