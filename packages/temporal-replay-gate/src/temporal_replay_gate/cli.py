"""The group of commands, made for a project from its hooks. Everything heavy is imported when a command runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import click

from temporal_replay_gate.cli_check import ENDS, check_command
from temporal_replay_gate.cli_record import record_command
from temporal_replay_gate.cli_view import list_command, show_command
from temporal_replay_gate.hooks import Hooks

_ABOUT = "Check that the current code replays recorded histories, and record new ones."


# Each command by its name, made from a project's hooks.
MAKERS: Mapping[str, Callable[[Hooks], click.Command]] = {
    "check": check_command,
    "list": list_command,
    "show": show_command,
    "record": record_command,
}


class _Group(click.Group):
    """A group that makes each command from the hooks when it is asked for."""

    def __init__(self, name: str, hooks: Hooks) -> None:
        super().__init__(name, help=_ABOUT, epilog=ENDS)
        self._hooks = hooks

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(MAKERS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        make = MAKERS.get(cmd_name)
        return None if make is None else make(self._hooks)


def command_group(hooks: Hooks, name: str = "replay") -> click.Group:
    """Return the commands ``check``, ``list``, ``show`` and ``record`` for a project, to be mounted in its program."""
    return _Group(name, hooks)
