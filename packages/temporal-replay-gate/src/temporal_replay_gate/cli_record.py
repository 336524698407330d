"""``record``: records new histories of named scenarios, by hand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from temporal_replay_gate.dotted import NotImportable, imported
from temporal_replay_gate.errors import ReportedError, ScenariosNotNamed, ScenariosUnusable
from temporal_replay_gate.hooks import Hooks, Options, TemporalService
from temporal_replay_gate.output import (
    ErrorReportingCommand,
    OutputFormat,
    command_name,
    echo_printable,
    emit,
    output_option,
)
from temporal_replay_gate.service import service_of

if TYPE_CHECKING:
    from temporal_replay_gate.record import RecordedHistory
    from temporal_replay_gate.scenarios import Scenario, ScenarioSuite

_ABOUT = """Record the histories of the named scenarios, or of all of them, with the services in use.

Each scenario runs with its own worker and its own task queue. Its history is written only if the run
ends as the scenario specifies and replays, both as recorded and scrubbed. An existing history is
never overwritten: recorded histories are evidence of what earlier code did.
"""


def record_command(hooks: Hooks) -> click.Command:
    """Return the command ``record`` of a project."""
    default = f"  [default: {hooks.project}'s]" if hooks.scenarios else ""
    options: list[Any] = [
        click.argument("names", metavar="[SCENARIO]...", nargs=-1),
        click.option("--list", "only_list", is_flag=True, help="List the scenarios and record nothing."),
        click.option(
            "--missing",
            is_flag=True,
            help="Record only scenarios without a history in this release, instead of failing if one exists.",
        ),
        click.option(
            "--to",
            "root",
            type=click.Path(path_type=Path, file_okay=False),
            default=hooks.histories,
            show_default=True,
            help="Directory to write the histories to.",
        ),
        click.option(
            "--scenarios",
            "target",
            metavar="MODULE:ATTRIBUTE",
            help="Python path of the scenario suite to record (module:attr), resolved from the working directory."
            + default,
        ),
        *hooks.scenario_options,
        click.option(
            "--parallel",
            type=click.IntRange(1, 32),
            default=8,
            show_default=True,
            help="Number of scenarios to run in parallel.",
        ),
        *hooks.connection_options,
        output_option,
    ]

    @click.pass_context
    def record(ctx: click.Context, /, **given: Any) -> int:
        return _run(ctx, hooks, **given)

    for option in reversed(options):
        record = option(record)
    short = "Record the histories of scenarios."
    command = click.command("record", cls=ErrorReportingCommand, help=_ABOUT, short_help=short)(record)
    command.reported = hooks.reported
    return command


def _run(
    ctx: click.Context,
    hooks: Hooks,
    /,
    names: tuple[str, ...],
    only_list: bool,
    missing: bool,
    root: Path,
    target: str | None,
    parallel: int,
    output: OutputFormat,
    **given: Any,
) -> int:
    from temporal_replay_gate.record import choose, history_paths, refuse_existing

    name = command_name(ctx)
    suite = _suite_of(hooks, target, given)
    chosen = choose(suite.scenarios, names)
    if missing:
        chosen = [one for one in chosen if not any(path.exists() for path in history_paths(root, one, hooks.release))]
    if only_list:
        emit(
            name,
            output,
            data={"scenarios": [{"name": one.name, "workflow": one.workflow, "about": one.about} for one in chosen]},
            text="\n".join(f"{one.name:28} {one.about}" for one in chosen),
        )
        return 0
    refuse_existing(root, chosen, hooks.release)
    service = service_of(ctx, hooks, given)
    ended = asyncio.run(_record(service, hooks, suite, chosen, root, parallel, quiet=output == "json"))
    failed = [one for one in ended if one.error is not None]
    emit(
        name,
        output,
        data={"histories": [_as_dict(one) for one in ended]},
        text=f"{len(ended) - len(failed)} of {len(ended)} scenarios recorded under {root}",
        status="failed" if failed else "ok",
    )
    return 1 if failed else 0


def _suite_of(hooks: Hooks, target: str | None, given: Options) -> ScenarioSuite:
    from temporal_replay_gate.scenarios import ScenarioSuite

    if target is None:
        if hooks.scenarios is None:
            raise ScenariosNotNamed
        return hooks.scenarios(given)
    try:
        found = imported(target)
    except NotImportable as error:
        raise ScenariosUnusable(target=target, reason=str(error)) from error
    if not isinstance(found, ScenarioSuite):
        raise ScenariosUnusable(target=target, reason=f"it is {type(found).__name__}, not ScenarioSuite")
    return found


async def _record(
    service: TemporalService,
    hooks: Hooks,
    suite: ScenarioSuite,
    chosen: Sequence[Scenario],
    root: Path,
    parallel: int,
    *,
    quiet: bool,
) -> list[RecordedHistory]:
    from temporal_replay_gate.record import record as record_all

    # Most scenarios make activities fail on purpose, and their outcome is checked, so warnings would be noise.
    logging.getLogger("temporalio").setLevel(logging.CRITICAL)
    async with service.runner(suite) as runner:
        ended = []
        async for one in record_all(runner, chosen, root, hooks, parallel=parallel):
            ended.append(one)
            if not quiet:
                _say(one)
        return ended


def _say(one: RecordedHistory) -> None:
    if one.error is None:
        for path in one.paths:
            click.echo(f"recorded  {path}")
        return
    echo_printable(f"failed    {one.scenario.name} [{one.error.code}]: {one.error.message}", err=True)
    echo_printable(f"hint: {one.error.hint}", err=True)


def _as_dict(one: RecordedHistory) -> dict[str, object]:
    error: ReportedError | None = one.error
    return {
        "scenario": one.scenario.name,
        "workflow": one.scenario.workflow,
        "paths": [str(path) for path in one.paths],
        "error": None if error is None else {"code": error.code, "message": error.message, "hint": error.hint},
    }
