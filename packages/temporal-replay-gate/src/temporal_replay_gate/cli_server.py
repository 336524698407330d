"""``check --from-server``: checks the histories of a running service before a deploy."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from temporal_replay_gate.hooks import Decorator, Hooks, Options
from temporal_replay_gate.service import service_of

if TYPE_CHECKING:
    from temporal_replay_gate.clock import RunClock
    from temporal_replay_gate.findings import Finding
    from temporal_replay_gate.replay_pool import CodeUnderTest
    from temporal_replay_gate.server import FetchedHistories, Selection

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class _Duration(click.ParamType):  # type: ignore[type-arg]
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"(\d{1,5})([mhdw])", str(value))
        if found is None or int(found[1]) == 0:
            self.fail(f"{value!r} is not a duration such as 90m, 12h, 7d or 4w", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


class _Cap(click.ParamType):  # type: ignore[type-arg]
    name = "cap"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        workflow_type, _, count = str(value).rpartition("=")
        if not workflow_type or not count.isdecimal():
            self.fail(f"{value!r} is not TYPE=COUNT", param, ctx)
        return workflow_type, int(count)


@dataclass(frozen=True)
class FromServerOptions:
    """The values of the options of ``--from-server``, and of the options of the hooks' connection."""

    from_server: bool
    since: timedelta
    cap: int
    cap_of: tuple[tuple[str, int], ...]
    cap_open: int
    query: str | None
    keep: Path | None
    keep_raw: bool
    task_queue: tuple[str, ...] = ()
    connection: Options = field(default_factory=dict)


def server_options(hooks: Hooks) -> Decorator:
    """Return a decorator that adds the options of ``--from-server`` to a command; ``take`` reads their values."""
    options = [
        click.option(
            "--from-server",
            is_flag=True,
            help="Check recent closed and all open runs of the Temporal service in use instead of files.",
        ),
        click.option(
            "--since",
            type=_Duration(),
            default="7d",
            show_default=True,
            help="With --from-server: maximum age of closed runs (90m, 12h, 7d, 4w).",
        ),
        click.option(
            "--cap",
            type=click.IntRange(min=0),
            default=50,
            show_default=True,
            help="With --from-server: maximum number of closed runs per type; alternates between the close statuses.",
        ),
        click.option(
            "--cap-of",
            type=_Cap(),
            metavar="TYPE=COUNT",
            multiple=True,
            help="As --cap, for one workflow type; repeatable.",
        ),
        click.option(
            "--cap-open",
            type=click.IntRange(min=0),
            default=500,
            show_default=True,
            help="With --from-server: maximum number of open runs per type.",
        ),
        click.option("--query", help="With --from-server: additional condition, as a Temporal list filter."),
        click.option(
            "--task-queue",
            metavar="NAME",
            multiple=True,
            help="With --from-server: fail for open runs of unknown types on these task queues; repeatable.  "
            "[default: those of the runs found, or the whole namespace if none is found]",
        ),
        click.option(
            "--keep",
            type=click.Path(path_type=Path, file_okay=False),
            help="With --from-server: save the scrubbed histories in this directory.",
        ),
        click.option("--keep-raw", is_flag=True, help="With --keep: save them unscrubbed, with all payload contents."),
        *hooks.connection_options,
    ]

    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def take(ctx: click.Context, given: dict[str, Any]) -> FromServerOptions:
    """Convert click's parameters to options. Raises ``click.UsageError`` for an option that would be ignored."""
    for name in given:
        set_by_hand = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if name != "from_server" and set_by_hand and not given["from_server"]:
            option = next(param.opts[0] for param in ctx.command.params if param.name == name)
            raise click.UsageError(f"{option} needs --from-server.", ctx)
    if given["task_queue"] and ctx.params.get("workflow") is not None:
        raise click.UsageError("--task-queue is for runs of unknown types, which --workflow leaves out.", ctx)
    if given["keep_raw"] and given["keep"] is None:
        raise click.UsageError("--keep-raw needs --keep DIR.", ctx)
    own = {each.name for each in fields(FromServerOptions)}
    connection = {name: value for name, value in given.items() if name not in own}
    return FromServerOptions(**{name: value for name, value in given.items() if name in own}, connection=connection)


@contextmanager
def fetched(
    ctx: click.Context,
    hooks: Hooks,
    server: FromServerOptions,
    code: CodeUnderTest,
    workflow: str | None,
    clock: RunClock,
) -> Iterator[tuple[Path, tuple[Finding, ...]]]:
    """Download the selected histories into a directory that exists during the block; print a summary on stderr.

    Yields the directory and findings: red ones for open runs of types that the code does not have, and notes about
    the queues that were searched for them. Raises what ``download`` and connecting raise, ``ReplayTargetInvalid``
    or ``ReplayTargetBroken``, ``ServerOptionInvalid``, and ``RunOver``.
    """
    from temporal_replay_gate.clock import LONGEST_SECONDS, RunOver
    from temporal_replay_gate.errors import ServerOptionInvalid
    from temporal_replay_gate.preflight import open_runs_of_unknown_type, unknown_type_notes
    from temporal_replay_gate.replay_pool import ReplayPool
    from temporal_replay_gate.server import OTHER_QUEUES_LIMIT, Selection, download

    service = service_of(ctx, hooks, server.connection)
    with ReplayPool(code, clock=clock) as engine:
        known = tuple(engine.types())
    asked = known if workflow is None else (workflow,)
    for name, _ in server.cap_of:
        if name not in asked:
            raise ServerOptionInvalid(option="--cap-of", reason=f"no run of {name} is asked for", command=hooks.command)
    selection = Selection(
        workflow_types=asked,
        window=server.since,
        closed=server.cap,
        closed_by_type=dict(server.cap_of),
        opened=server.cap_open,
        query=server.query,
        known_types=known if workflow is None else (),
        task_queues=server.task_queue,
    )

    async def run(directory: Path, chosen: Selection) -> FetchedHistories:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()

        def cancel() -> None:
            # A signal may arrive when the download has ended.
            if task is not None and not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)

        clock.on_stop(cancel)
        try:
            async with asyncio.timeout(clock.within(LONGEST_SECONDS)):
                return await download(await service.connect(), chosen, directory, unavailable=hooks.unavailable)
        except (TimeoutError, asyncio.CancelledError) as error:
            if clock.is_over():
                raise RunOver("because the service's histories were still being fetched") from error
            raise

    with TemporaryDirectory(prefix="replay-gate-") as name:
        found = asyncio.run(run(Path(name), selection))
        for line in found.lines():
            click.echo(line, err=True)
        if server.keep is not None:
            _keep(found, server.keep, hooks, raw=server.keep_raw)
        extra = [open_runs_of_unknown_type(each, count, found.namespace) for each, count in found.unknown.items()]
        if workflow is None:
            extra += unknown_type_notes(found.queues, found.elsewhere, found.namespace, OTHER_QUEUES_LIMIT)
        yield Path(name), tuple(extra)


def _keep(found: FetchedHistories, directory: Path, hooks: Hooks, *, raw: bool) -> None:
    from temporal_replay_gate.scrub import scrub
    from temporal_replay_gate.server import keep

    keep(found.runs, directory, None if raw else partial(scrub, vocabulary=hooks.vocabulary()))
    click.echo(f"kept {len(found.runs)} {'raw' if raw else 'scrubbed'} histories in {directory}", err=True)
