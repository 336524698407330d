"""A local server that speaks Amazon Textract's wire protocol and reads the documents it is given.

``run(EmulatorOptions(...))`` serves until a signal ends the process; a process that ``spawn_early`` has started before
saves the time in which it loads the OCR engine. The constants are the defaults and ranges of the options, for other
command lines; ``python -m textract_local.server`` is the same as ``textract-local serve``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textract_local.server.command import EmulatorOptions, configure_logging, run
    from textract_local.server.options import (
        DEFAULT_HOST,
        OPEN_JOBS_OPTION,
        PORT_OPTION,
        PROCESSES_OPTION,
        NumberOption,
    )
    from textract_local.server.spawning import ReadingLimits, spawn_early

__all__ = [
    "DEFAULT_HOST",
    "OPEN_JOBS_OPTION",
    "PORT_OPTION",
    "PROCESSES_OPTION",
    "EmulatorOptions",
    "NumberOption",
    "ReadingLimits",
    "configure_logging",
    "run",
    "spawn_early",
]

_MODULES = {
    "DEFAULT_HOST": "options",
    "OPEN_JOBS_OPTION": "options",
    "PORT_OPTION": "options",
    "PROCESSES_OPTION": "options",
    "NumberOption": "options",
    "EmulatorOptions": "command",
    "ReadingLimits": "spawning",
    "configure_logging": "command",
    "run": "command",
    "spawn_early": "spawning",
}


def __getattr__(name: str) -> Any:
    # Each is imported when it is first used: `spawn_early` has to start before the rest is loaded.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
