"""``photo-worker replay record``: records new histories of named scenarios, by hand."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from photo_worker.cli.context import CommandContext, resolve_context, stack_option
from photo_worker.cli.output import ErrorReportingCommand, OutputFormat, echo_printable, emit, output_option
from photo_worker.errors import PhotoWorkerError
from photo_worker.replay_errors import ScenariosUnusable

if TYPE_CHECKING:
    from photo_worker.replay.record import RecordedHistory
    from photo_worker.replay.scenarios import Scenario, ScenarioSuite

_HISTORIES = Path("tests/replay/histories")
_PHOTO = Path("fixtures/photos/clean-print.png")


@click.command(cls=ErrorReportingCommand)
@click.argument("names", metavar="[SCENARIO]...", nargs=-1)
@click.option("--list", "only_list", is_flag=True, help="List the scenarios and record nothing.")
@click.option(
    "--missing",
    is_flag=True,
    help="Record only scenarios without a history in this release, instead of failing if one exists.",
)
@click.option(
    "--to",
    "root",
    type=click.Path(path_type=Path, file_okay=False),
    default=_HISTORIES,
    show_default=True,
    help="Directory to write the histories to.",
)
@click.option(
    "--scenarios",
    "target",
    metavar="MODULE:ATTRIBUTE",
    help="Python path of the scenario suite to record (module:attr), resolved from the working directory.  "
    "[default: the product's]",
)
@click.option(
    "--photo",
    type=click.Path(path_type=Path, dir_okay=False),
    default=_PHOTO,
    show_default=True,
    help="PNG file that the product's scenarios process.",
)
@click.option(
    "--parallel",
    type=click.IntRange(1, 32),
    default=8,
    show_default=True,
    help="Number of scenarios to run in parallel.",
)
@stack_option
@output_option("text", "json")
@click.pass_context
def record(
    ctx: click.Context,
    names: tuple[str, ...],
    only_list: bool,
    missing: bool,
    root: Path,
    target: str | None,
    photo: Path,
    parallel: int,
    stack_name: str | None,
    output: OutputFormat,
) -> None:
    """Record the histories of the named scenarios, or of all of them, with the services in use.

    Each scenario runs with its own worker and its own task queue. Its history is written only if the run
    ends as the scenario specifies and replays, both as recorded and scrubbed. An existing history is
    never overwritten: recorded histories are evidence of what earlier code did.
    """
    from photo_worker.replay.record import choose, history_paths, refuse_existing

    suite = _suite_of(target, photo)
    chosen = choose(suite.scenarios, names)
    if missing:
        chosen = [one for one in chosen if not any(path.exists() for path in history_paths(root, one))]
    if only_list:
        emit(
            "replay record",
            output,
            data={"scenarios": [{"name": one.name, "workflow": one.workflow, "about": one.about} for one in chosen]},
            text="\n".join(f"{one.name:28} {one.about}" for one in chosen),
        )
        return
    refuse_existing(root, chosen)
    context = resolve_context(ctx, stack_name=stack_name)
    ended = asyncio.run(
        _record(context, suite, chosen, root, photo.parent.parent / "recorded", parallel, quiet=output == "json")
    )
    failed = [one for one in ended if one.error is not None]
    emit(
        "replay record",
        output,
        data={"histories": [_as_dict(one) for one in ended]},
        text=f"{len(ended) - len(failed)} of {len(ended)} scenarios recorded under {root}",
        status="failed" if failed else "ok",
    )
    ctx.exit(1 if failed else 0)


def _suite_of(target: str | None, photo: Path) -> ScenarioSuite:
    from photo_worker.replay.image_scenarios import scenario_suite
    from photo_worker.replay.scenarios import ScenarioSuite

    if target is None:
        if not photo.is_file():
            raise ScenariosUnusable(target="of the product", reason=f"there is no photo {str(photo)!r}; name one")
        return scenario_suite(photo)
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise ScenariosUnusable(target=target, reason="it is not of the form module:attribute")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(import_module(module_name), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ScenariosUnusable(target=target, reason=str(error)) from error
    finally:
        sys.path.remove(str(Path.cwd()))
    if not isinstance(found, ScenarioSuite):
        raise ScenariosUnusable(target=target, reason=f"it is {type(found).__name__}, not ScenarioSuite")
    return found


async def _record(
    context: CommandContext,
    suite: ScenarioSuite,
    chosen: Sequence[Scenario],
    root: Path,
    recorded: Path,
    parallel: int,
    *,
    quiet: bool,
) -> list[RecordedHistory]:
    from photo_worker.bootstrap import build_application
    from photo_worker.orchestration.connection import connect
    from photo_worker.replay.record import record as record_all
    from photo_worker.replay.scenario_runner import ScenarioRunner
    from photo_worker.worker import build_worker

    # Most scenarios make activities fail on purpose, and their outcome is checked, so warnings would be noise.
    logging.getLogger("temporalio").setLevel(logging.CRITICAL)
    settings = context.settings
    if settings.ocr_recorded_dir is None:
        settings = settings.model_copy(update={"ocr_recorded_dir": recorded})
    application = build_application(settings) if suite.application else None
    try:
        client = await connect(settings, context.variables)
        runner = ScenarioRunner(client, settings, build_worker, suite, application)
        ended = []
        async for one in record_all(runner, chosen, root, parallel=parallel):
            ended.append(one)
            if not quiet:
                _say(one)
        return ended
    finally:
        if application is not None:
            application.close()


def _say(one: RecordedHistory) -> None:
    if one.error is None:
        for path in one.paths:
            click.echo(f"recorded  {path}")
        return
    echo_printable(f"failed    {one.scenario.name} [{one.error.code}]: {one.error.message}", err=True)
    echo_printable(f"hint: {one.error.hint}", err=True)


def _as_dict(one: RecordedHistory) -> dict[str, object]:
    error: PhotoWorkerError | None = one.error
    return {
        "scenario": one.scenario.name,
        "workflow": one.scenario.workflow,
        "paths": [str(path) for path in one.paths],
        "error": None if error is None else {"code": error.code, "message": error.message, "hint": error.hint},
    }
