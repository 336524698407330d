"""The classes of all errors that commands report: the product's, and the replay gate's."""

from __future__ import annotations

from typing import TypeAlias

import photo_worker.devkit.errors  # noqa: F401 - a part of the tree that is walked
from photo_worker.cli.replay import HOOKS
from photo_worker.errors import PhotoWorkerError
from photo_worker.errors.base import class_tree
from temporal_replay_gate import errors as replay_errors

ErrorClass: TypeAlias = type[PhotoWorkerError] | type[replay_errors.ReplayError]

# The product connects by itself, with errors of its own, gives its hooks in code, and has scenarios.
_OF_OTHER_PROGRAMS = frozenset(
    {
        replay_errors.ConfigInvalid,
        replay_errors.ConnectionInvalid,
        replay_errors.ScenariosNotNamed,
        replay_errors.TemporalUnavailable,
    }
)


def error_classes() -> list[ErrorClass]:
    """Return the classes in the order of their codes."""
    gate = [kind for kind in class_tree(replay_errors.ReplayError) if kind not in _OF_OTHER_PROGRAMS]
    found: list[ErrorClass] = [*class_tree(PhotoWorkerError), *gate]
    return sorted(found, key=lambda kind: kind.code)


def hint_of(kind: ErrorClass) -> str:
    """Return what the user is told to do, with the name of the command as this program prints it."""
    return kind.hint.replace("{command}", HOOKS.command)


def a_job_waits(kind: ErrorClass) -> bool:
    """Tell whether a job waits until the error has passed."""
    return issubclass(kind, PhotoWorkerError) and kind.fault in {"service", "worker"}
