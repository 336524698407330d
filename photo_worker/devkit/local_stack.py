"""Decides of which kind the stack of a name is."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from photo_worker.devkit.errors import DataMismatch
from photo_worker.devkit.layout import DEFAULT_NAME, StackPaths, check_name, default_home, is_locked
from photo_worker.devkit.stack_options import Kind, S3Server, StackOptions
from photo_worker.devkit.state import StackRecord, read_json

if TYPE_CHECKING:
    from pathlib import Path

    from photo_worker.devkit.stack import Stack

__all__ = ["Kind", "S3Server", "StackOptions", "local_stack"]


def local_stack(name: str | None = None, options: StackOptions | None = None, *, home: Path | None = None) -> Stack:
    """Return the stack of this name in ``home`` (default: this worktree's), of the requested or recorded kind.

    A stack that never ran is native. If the record is lost, running containers decide the kind; if the record is
    damaged or newer, whatever is left of the stack decides, stopped or not.
    """
    options = options or StackOptions()
    paths = StackPaths((home or default_home()).expanduser().absolute(), check_name(name or DEFAULT_NAME))
    if options.kind is None:
        # Commands that need the record report a damaged one; `down` and `reset` work without it.
        record = StackRecord.load_whole(paths)
        kind = _kind_without_record(paths) if record is None else record.kind
    else:
        kind = options.kind
    from photo_worker.devkit.stack import Stack

    return Stack(
        paths.home,
        paths.name,
        kind="compose" if kind == "compose" else "native",
        base_port=options.base_port,
        s3=options.s3,
        external=options.external,
        extras=options.extras,
        offline=options.offline,
        durable=options.durable,
    )


def _kind_without_record(paths: StackPaths) -> Kind:
    from photo_worker.devkit.containers import is_there, is_up

    if is_locked(paths.supervisor_lock):
        return "native"
    said = _kind_of_useless_record(paths)
    if said is not None:
        return said
    # A stack that has run as both kinds has data of both: only a running one decides the kind.
    only_elsewhere = paths.record.exists() and not (paths.data.is_dir() and any(paths.data.iterdir()))
    return "compose" if (is_there if only_elsewhere else is_up)(paths) else "native"


def _kind_of_useless_record(paths: StackPaths) -> Kind | None:
    """Return the kind if it can still be read from a damaged record or one of another version."""
    with suppress(DataMismatch):
        values = read_json(paths.record)
        kinds: tuple[Kind, ...] = ("native", "compose")
        return next((kind for kind in kinds if isinstance(values, dict) and values.get("kind") == kind), None)
    return None
