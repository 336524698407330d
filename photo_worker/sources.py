"""Sources of a submission: local files, and objects that are already in a bucket."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from photo_worker import media
from photo_worker.contracts.keys import validate_key
from photo_worker.errors import SourceMissing, SourceUnreadable
from photo_worker.files import NotRegularFile, read_head
from photo_worker.printable import cut, printable

# Number of left-out entries of a directory that a message names.
_NAMED = 5


@dataclass(frozen=True)
class Source:
    """An asset to process: a local file, or an object that is already in a bucket."""

    label: str
    path: Path | None = None
    bucket: str = ""
    key: str = ""


@dataclass(frozen=True)
class Expanded:
    """The sources that arguments name. ``left_out`` has a line per directory with the entries left out, and why."""

    sources: list[Source] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def expand_sources(arguments: Sequence[str]) -> Expanded:
    """Return the sources that paths, glob patterns, directories and s3:// locations name, in order.

    A directory stands for the photos and documents in it, by their content; subdirectories and hidden files are left
    out. A file that is named, or that matches a pattern, is taken whatever it contains. Raises ``SourceMissing`` if an
    argument names nothing, ``SourceUnreadable`` if it cannot be looked up, ``InvalidKey`` for an unusable s3:// key.
    """
    expanded = Expanded()
    for argument in arguments:
        if argument.startswith("s3://"):
            expanded.sources.append(_s3_source(argument))
            continue
        try:
            found = _found(argument, expanded.left_out)
        except OSError as error:
            raise SourceUnreadable(path=cut(argument), reason=error.strerror or str(error)) from error
        expanded.sources.extend(Source(label=str(entry), path=entry) for entry in found)
    return expanded


def _found(argument: str, left_out: list[str]) -> list[Path]:
    if not argument or "\0" in argument:
        # pathlib turns an empty path into the current directory.
        raise SourceMissing(path=argument, reason="an empty argument names no file")
    path = Path(argument)
    if path.is_dir():
        return _photos_in(path, left_out)
    if path.exists():
        return [path]
    # Path.glob refuses absolute patterns.
    matches = glob.glob(argument, recursive=True)  # noqa: PTH207
    if found := sorted(Path(match) for match in matches if Path(match).is_file()):
        return found
    if path.is_symlink():
        raise SourceMissing(path=argument, reason="it is a link that leads nowhere")
    raise SourceMissing(path=cut(argument), reason="no file has this name, and none matches it as a pattern")


def _photos_in(directory: Path, left_out: list[str]) -> list[Path]:
    """Return a directory's photos and documents; append a line about its other entries to ``left_out``."""
    entries = sorted(entry for entry in directory.iterdir() if not entry.name.startswith("."))
    reasons = {entry: _unfit(entry) for entry in entries}
    photos = [entry for entry in entries if reasons[entry] is None]
    others = [f"{printable(entry.name)} ({reason})" for entry, reason in reasons.items() if reason is not None]
    named = ", ".join(others[:_NAMED]) + (f" and {len(others) - _NAMED} more" if len(others) > _NAMED else "")
    if not photos:
        reason = f"no photo or document is in this folder, only {named}" if others else "the folder is empty"
        raise SourceMissing(path=str(directory), reason=reason)
    if others:
        left_out.append(f"{len(others)} of {len(entries)} entries of {str(directory)!r} are left out: {named}")
    return photos


def _unfit(entry: Path) -> str | None:
    """Return why a job with this entry cannot succeed, or None if it may."""
    try:
        head = read_head(entry, media.HEAD_BYTES)
    except NotRegularFile:
        return "a folder" if entry.is_dir() else "no file"
    except FileNotFoundError:
        return "a link that leads nowhere"
    except OSError:
        # Its content is not known; the submission reports that it cannot be read.
        return None
    if not head:
        return "empty"
    kind = media.sniff(head)
    if kind is None:
        return "no photo or document"
    return None if kind in media.DOCUMENT_TYPES | media.CONVERTED_TYPES else f"{media.describe_type(kind)}, not read"


def _s3_source(location: str) -> Source:
    """Split an s3:// location. The key is everything after the bucket, verbatim: there is no URL decoding."""
    bucket, _, key = location.removeprefix("s3://").partition("/")
    validate_key(key)
    return Source(label=location, bucket=bucket, key=key)
