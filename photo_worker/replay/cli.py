"""The group of commands, made for a project from its hooks. Everything heavy is imported when a command runs."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import click

from photo_worker.replay.cli_check import ENDS, check_command
from photo_worker.replay.cli_view import list_command, show_command
from photo_worker.replay.hooks import Hooks

_ABOUT = "Check that the current code replays recorded histories, and record new ones."


class _Group(click.Group):
    """A group that makes each command from the hooks when it is asked for."""

    def __init__(self, hooks: Hooks, name: str, epilog: str, **options: object) -> None:
        super().__init__(name, help=_ABOUT, epilog=epilog)
        self._hooks = hooks
        self._makers: dict[str, Callable[[Hooks], click.Command]] = {
            "check": check_command,
            "list": list_command,
            "show": show_command,
            "record": _record_command,
        }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._makers)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        make = self._makers.get(cmd_name)
        return None if make is None else make(self._hooks)


def _record_command(hooks: Hooks) -> click.Command:
    command: click.Command = import_module("photo_worker.replay.cli_record").record_command(hooks)
    return command


def command_group(hooks: Hooks, name: str = "replay") -> click.Group:
    """Return the commands ``check``, ``list``, ``show`` and ``record`` for a project, to be mounted in its program."""
    return _Group(hooks, name, ENDS)
