"""``list`` and ``show``: the recorded histories and their coverage, and the events of one."""

from __future__ import annotations

from pathlib import Path

import click

from temporal_replay_gate.cli_check import check_paths, console_of, paths_argument
from temporal_replay_gate.hooks import Hooks
from temporal_replay_gate.output import (
    ErrorReportingCommand,
    OutputFormat,
    command_name,
    echo_printable,
    emit,
    output_option,
)
from temporal_replay_gate.printable import printable


def list_command(hooks: Hooks) -> click.Command:
    """Return the command ``list`` of a project."""
    about = f"List the histories under PATH (default: {hooks.histories}) and their coverage."

    @click.command("list", cls=ErrorReportingCommand, help=about, short_help="List the histories and their coverage.")
    @paths_argument
    @output_option
    @click.pass_context
    def command(ctx: click.Context, paths: tuple[Path, ...], output: OutputFormat) -> int:
        return _list(ctx, hooks, paths, output)

    return command


def show_command(hooks: Hooks) -> click.Command:
    """Return the command ``show`` of a project."""

    @click.command("show", cls=ErrorReportingCommand, short_help="Show the events of a history.")
    @click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
    @output_option
    @click.pass_context
    def command(ctx: click.Context, file: Path, output: OutputFormat) -> int:
        """Show the events of the history in FILE, with JSON payloads decoded."""
        return _show(ctx, hooks, file, output)

    return command


def _list(ctx: click.Context, hooks: Hooks, paths: tuple[Path, ...], output: OutputFormat) -> int:
    from temporal_replay_gate.histories import search
    from temporal_replay_gate.preflight import inspect, search_findings
    from temporal_replay_gate.view import list_row, recorded_coverage

    check_paths(paths)
    there = search(paths or (hooks.histories,))
    looked = [(path, *inspect(path)) for path in there.histories]
    histories = [history for _, history, _ in looked if history is not None]
    rows = [list_row(history) for history in histories]
    found = [fault for _, _, faults_of in looked for fault in faults_of] + search_findings(there)
    faults = [fault.as_dict() for fault in found]
    coverage = recorded_coverage(histories)

    def text() -> None:
        from temporal_replay_gate.report import coverage_table, short, table

        cells = (
            (
                short(row["file"]),
                row["workflow_type"],
                row["exit"],
                str(row["events"]),
                ", ".join(row["patch_ids"]) or "-",
                f"{row['app_version']}, SDK {row['sdk_version']}" if row["app_version"] else "unknown",
                str(row["recorded_at"] or "unknown"),
            )
            for row in rows
        )
        console = console_of()
        console.print(table(("file", "workflow", "exit", "events", "patches", "recorded with", "at"), cells))
        console.print(coverage_table(coverage))

    warnings = [f"{fault['file']}: [{fault['code']}] {fault['what']}" for fault in faults]
    data = {"histories": rows, "coverage": [row.as_dict() for row in coverage], "faults": faults}
    emit(command_name(ctx), output, data=data, text=text if rows else "There are no histories.", warnings=warnings)
    return 0


def _show(ctx: click.Context, hooks: Hooks, file: Path, output: OutputFormat) -> int:
    from temporal_replay_gate.preflight import inspect
    from temporal_replay_gate.view import event_line, event_rows, list_row

    history, faults = inspect(file)
    if history is None:
        for fault in faults:
            echo_printable(f"error [{fault.code}]: {fault.file}: {fault.what}", err=True)
            echo_printable(f"hint: {fault.for_command(hooks.command).fix}", err=True)
        return 1
    rows = event_rows(history)
    facts = list_row(history) | {"workflow_id": history.workflow_id, "run_id": history.run_id}

    def text() -> None:
        for name, value in facts.items():
            echo_printable(f"{name:<14}{value if value not in (None, []) else '-'}")
        click.echo()
        width = max(len(row["type"]) for row in rows)
        for row in rows:
            at = "" if row["seconds"] is None else f"{row['seconds']:.3f} s"
            line = f"{row['id']:>5}  {at:>11}  {row['type']:<{width}}  {event_line(row)}"
            click.echo(printable(line.rstrip()))

    warnings = [f"[{fault.code}] {fault.what}" for fault in faults]
    emit(command_name(ctx), output, data={"history": facts, "events": rows}, text=text, warnings=warnings)
    return 0
