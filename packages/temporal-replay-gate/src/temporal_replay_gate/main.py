"""``replay-gate``: the commands for the project of the working directory."""

from __future__ import annotations

from pathlib import Path

import click

from temporal_replay_gate import __version__, supervisor
from temporal_replay_gate.cli import MAKERS
from temporal_replay_gate.cli_check import ENDS
from temporal_replay_gate.config import PYPROJECT, read_hooks
from temporal_replay_gate.defaults import COMMAND
from temporal_replay_gate.errors import ReplayError
from temporal_replay_gate.hooks import Hooks
from temporal_replay_gate.output import emit_error


class _Program(click.Group):
    """The commands with the hooks of the project; help without reading them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(MAKERS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        make = MAKERS.get(cmd_name)
        if make is None:
            return None
        if not ctx.resilient_parsing:
            supervisor.begun()
        try:
            return make(read_hooks(ctx.params.get("config") or PYPROJECT, ctx.params.get("hooks")))
        except ReplayError as error:
            emit_error(cmd_name, "text", error)
            code = 2 if error.wrong_use else 1
            supervisor.ended(code)
            ctx.exit(code)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, make(Hooks()).get_short_help_str(60)) for name, make in MAKERS.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(COMMAND, cls=_Program, epilog=ENDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"TOML file with the table [tool.replay-gate].  [default: {PYPROJECT}]",
)
@click.option(
    "--hooks",
    metavar="NAME",
    help="Hooks of the project: an entry point's name or a Python path (module:attr).  [default: the table's hooks]",
)
@click.option("--debug", is_flag=True, help="Print the traceback of an error.")
@click.version_option(__version__, prog_name=COMMAND)
@click.pass_context
def program(ctx: click.Context, config: Path | None, hooks: str | None, debug: bool) -> None:
    """Check that the workflow code of a Temporal project replays recorded histories, and record new ones."""
    ctx.obj = {"debug": debug}


def main() -> None:
    """Run one command in a supervised process, and end the process with its exit code."""
    supervisor.supervise()
    program()


if __name__ == "__main__":
    main()
