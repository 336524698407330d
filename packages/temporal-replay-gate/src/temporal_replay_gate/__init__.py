"""The replay gate: checks before a deploy that workflow code replays the histories of earlier code.

    from temporal_replay_gate import Hooks, command_group

    replay = command_group(Hooks(workflows="my_app.workflows", converter="my_app.converter:data_converter"))

Public are these names and the modules ``scenarios`` (what ``record`` runs), ``vocabulary`` (what scrubbing keeps) and
``errors``; every other module may change with any release. Names are imported when they are first used, since
temporalio takes a second to load.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from temporal_replay_gate.cli import command_group
    from temporal_replay_gate.dotted import NotImportable, imported
    from temporal_replay_gate.hooks import Hooks, TemporalService
    from temporal_replay_gate.scenario_runner import MAX_ACTIVITIES, MakeWorker, ScenarioRunner
    from temporal_replay_gate.supervisor import supervise
    from temporal_replay_gate.target import WorkerOptions

__version__ = "0.1.0"

__all__ = [
    "MAX_ACTIVITIES",
    "Hooks",
    "MakeWorker",
    "NotImportable",
    "ScenarioRunner",
    "TemporalService",
    "WorkerOptions",
    "command_group",
    "imported",
    "supervise",
]

# The module that has a name.
_MODULES = {
    "command_group": "cli",
    "NotImportable": "dotted",
    "imported": "dotted",
    "Hooks": "hooks",
    "TemporalService": "hooks",
    "MAX_ACTIVITIES": "scenario_runner",
    "MakeWorker": "scenario_runner",
    "ScenarioRunner": "scenario_runner",
    "supervise": "supervisor",
    "WorkerOptions": "target",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
