"""Histories of a running service: recent closed runs and open ones, found by visibility query.

The committed histories cover the expected cases; the service covers those that happened. Files are
written as ``temporal workflow show --output json`` writes them, with the payloads as the service stores them:
encrypted ones stay encrypted until the gate's data converter decodes them.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus, WorkflowHistory
from temporalio.service import RPCError, RPCStatusCode

from temporal_replay_gate.errors import ReplayNothingFound, ReplayQueryRefused, TemporalUnavailable

# Histories are fetched page by page; more concurrent requests only queue at the service, which limits the rate of
# requests per namespace.
_AT_ONCE = 8

# Of one request; a service that needs longer is as good as down for a deploy that waits.
_TIMEOUT = timedelta(seconds=30)

# How many open runs of unknown types are counted; one is enough to make the gate red.
_UNKNOWN_LOOKED_AT = 10_000

# The same on other task queues, which only gives a note: in a shared namespace there may be many such runs, and they
# may belong to another application.
OTHER_QUEUES_LIMIT = 1_000

# The order in which the newest runs of each status are taken in turn, so that rare statuses are not crowded out.
_ENDS = (
    WorkflowExecutionStatus.COMPLETED,
    WorkflowExecutionStatus.FAILED,
    WorkflowExecutionStatus.CANCELED,
    WorkflowExecutionStatus.CONTINUED_AS_NEW,
    WorkflowExecutionStatus.TIMED_OUT,
    WorkflowExecutionStatus.TERMINATED,
)

# Temporal's names in visibility queries.
_QUERY_NAMES = {
    WorkflowExecutionStatus.COMPLETED: "Completed",
    WorkflowExecutionStatus.FAILED: "Failed",
    WorkflowExecutionStatus.CANCELED: "Canceled",
    WorkflowExecutionStatus.CONTINUED_AS_NEW: "ContinuedAsNew",
    WorkflowExecutionStatus.TIMED_OUT: "TimedOut",
    WorkflowExecutionStatus.TERMINATED: "Terminated",
}


@dataclass(frozen=True)
class Selection:
    """Which runs to download.

    ``closed`` is the maximum number of closed runs of each type, from those that closed within
    ``window``; ``closed_by_type`` overrides it. ``opened`` is the same for open runs, whose age
    does not matter: each of them continues with the new code. ``query`` is one more condition, in
    Temporal's query language. If ``known_types`` is not empty, open runs of all other types are counted: on
    ``task_queues``; if that is empty, on the queues of the runs found; if there are none, in the whole namespace.
    """

    workflow_types: tuple[str, ...]
    window: timedelta = timedelta(days=7)
    closed: int = 50
    closed_by_type: Mapping[str, int] | None = None
    opened: int = 500
    query: str | None = None
    known_types: tuple[str, ...] = ()
    task_queues: tuple[str, ...] = ()

    def closed_of(self, workflow_type: str) -> int:
        """Return the cap of one type's closed runs."""
        return (self.closed_by_type or {}).get(workflow_type, self.closed)


@dataclass(frozen=True)
class FetchedRun:
    """One downloaded history in ``path``, with its number of ``events``. An open run is checked as far as it got."""

    path: Path
    workflow_type: str
    workflow_id: str
    run_id: str
    status: str
    is_open: bool
    events: int


@dataclass(frozen=True)
class FetchedHistories:
    """The result of a download.

    ``not_begun`` are runs without a completed workflow task: no code has run, so none can differ. ``gone`` are
    runs whose history the service deleted meanwhile. ``left_out`` counts open runs above the cap, by type, and
    ``unknown`` open runs of types that the code does not have, on ``queues`` or, if that is empty, in the whole
    namespace. ``elsewhere`` counts such runs on other task queues, by type and queue, and at most
    ``OTHER_QUEUES_LIMIT``. If the selection has no ``known_types``, ``unknown`` and ``elsewhere`` are empty.
    """

    runs: tuple[FetchedRun, ...]
    not_begun: tuple[str, ...]
    gone: tuple[str, ...]
    left_out: Mapping[str, int]
    selection: Selection
    namespace: str
    unknown: Mapping[str, int] = field(default_factory=dict)
    queues: tuple[str, ...] = ()
    elsewhere: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return lines of text for the user: the runs taken, by type, and what is not checked."""
        lines = []
        for workflow_type in self.selection.workflow_types:
            of_type = [run for run in self.runs if run.workflow_type == workflow_type]
            open_runs = sum(run.is_open for run in of_type)
            if of_type:
                lines.append(
                    f"{workflow_type}: {len(of_type) - open_runs} closed, "
                    f"{open_runs} open (partly checked: as far as they got)"
                )
            else:
                lines.append(f"{workflow_type}: no run found; nothing of it is checked")
            if left_out := self.left_out.get(workflow_type):
                lines.append(f"{workflow_type}: {left_out} more open runs are above the cap and not checked")
        if self.not_begun:
            lines.append(f"{len(self.not_begun)} runs have not begun: no code ran that could differ")
        if self.gone:
            lines.append(f"{len(self.gone)} runs were deleted by the service before they could be read")
        return lines


async def download(
    client: Client,
    selection: Selection,
    directory: Path,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    unavailable: Callable[..., Exception] = TemporalUnavailable,
) -> FetchedHistories:
    """Write the selected runs' histories below ``directory``, one directory per type, readable only by this user.

    Raises ``ReplayNothingFound`` if there is nothing to replay, ``ReplayQueryRefused`` if the service refuses
    the query or the namespace, and what ``unavailable`` makes of ``target`` and ``reason``.
    """
    try:
        chosen: dict[str, WorkflowExecution] = {}
        left_out: dict[str, int] = {}
        for workflow_type in selection.workflow_types:
            opened, more = await _open_runs(client, selection, workflow_type)
            left_out[workflow_type] = more
            closed = await _closed_runs(client, selection, workflow_type, now())
            chosen.update({run.run_id: run for run in (*opened, *closed)})
        queues = selection.task_queues or tuple(sorted({run.task_queue for run in chosen.values()}))
        unknown = await _unknown_types(client, selection, "IN", queues, _UNKNOWN_LOOKED_AT)
        elsewhere = await _unknown_types(client, selection, "NOT IN", queues, OTHER_QUEUES_LIMIT) if queues else {}
        limit = asyncio.Semaphore(_AT_ONCE)
        fetched = await asyncio.gather(*(_fetch(client, run, directory, limit) for run in chosen.values()))
    except RPCError as error:
        raise _explained(client, error, unavailable, asked=selection.query is not None) from error
    runs = tuple(sorted((run for run in fetched if isinstance(run, FetchedRun)), key=lambda run: str(run.path)))
    outcome = FetchedHistories(
        runs=runs,
        not_begun=tuple(run.run_id for run in fetched if isinstance(run, _NotBegun)),
        gone=tuple(run.run_id for run in fetched if isinstance(run, _Gone)),
        left_out={name: count for name, count in left_out.items() if count},
        selection=selection,
        namespace=client.namespace,
        unknown=_by_type(unknown),
        queues=queues,
        elsewhere=elsewhere,
    )
    if not runs and not outcome.unknown:
        asked = (
            f"{', '.join(selection.workflow_types)} in namespace {client.namespace}, closed within {selection.window}"
        )
        passed = f"; {len(outcome.not_begun)} have not begun" if outcome.not_begun else ""
        raise ReplayNothingFound(asked=asked + (f", and {selection.query}" if selection.query else "") + passed)
    return outcome


@dataclass(frozen=True)
class _NotBegun:
    run_id: str


@dataclass(frozen=True)
class _Gone:
    run_id: str


async def _open_runs(client: Client, selection: Selection, workflow_type: str) -> tuple[list[WorkflowExecution], int]:
    query = _query(selection, workflow_type, "ExecutionStatus = 'Running'")
    if selection.opened == 0:
        return [], (await client.count_workflows(query, rpc_timeout=_TIMEOUT)).count
    runs = await _listed(client.list_workflows(query, limit=selection.opened, rpc_timeout=_TIMEOUT))
    if len(runs) < selection.opened:
        return runs, 0
    everything = (await client.count_workflows(query, rpc_timeout=_TIMEOUT)).count
    return runs, max(0, everything - len(runs))


async def _closed_runs(
    client: Client, selection: Selection, workflow_type: str, now: datetime
) -> list[WorkflowExecution]:
    cap = selection.closed_of(workflow_type)
    if cap == 0:
        return []
    since = (now - selection.window).strftime("%Y-%m-%dT%H:%M:%SZ")
    by_end = []
    for status in _ENDS:
        condition = f"ExecutionStatus = '{_QUERY_NAMES[status]}' AND CloseTime >= '{since}'"
        query = _query(selection, workflow_type, condition)
        by_end.append(await _listed(client.list_workflows(query, limit=cap, rpc_timeout=_TIMEOUT)))
    return list(_in_turn(by_end))[:cap]


async def _unknown_types(
    client: Client, selection: Selection, which: Literal["IN", "NOT IN"], queues: Sequence[str], limit: int
) -> dict[tuple[str, str], int]:
    """Count the open runs of types that the code does not have, by type and task queue.

    Counts runs on ``queues`` or, with NOT IN, on others; if ``queues`` is empty, runs of the whole namespace.
    ``limit`` is the maximum number of runs that are counted.
    """
    if not selection.known_types:
        return {}
    condition = "ExecutionStatus = 'Running'"
    condition += "".join(f" AND WorkflowType != {_quoted(name)}" for name in selection.known_types)
    if queues:
        condition += f" AND TaskQueue {which} ({', '.join(map(_quoted, queues))})"
    if selection.query:
        condition += f" AND ({selection.query})"
    counts: dict[tuple[str, str], int] = {}
    async for run in client.list_workflows(condition, limit=limit, rpc_timeout=_TIMEOUT):
        counts[run.workflow_type, run.task_queue] = counts.get((run.workflow_type, run.task_queue), 0) + 1
    return counts


def _by_type(counts: Mapping[tuple[str, str], int]) -> dict[str, int]:
    """Sum counts by type and queue to counts by type."""
    summed: dict[str, int] = {}
    for (workflow_type, _), count in counts.items():
        summed[workflow_type] = summed.get(workflow_type, 0) + count
    return summed


def _quoted(name: str) -> str:
    # In Temporal's query language, a backslash escapes a quote within quotes.
    return "'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _query(selection: Selection, workflow_type: str, condition: str) -> str:
    extra = f" AND ({selection.query})" if selection.query else ""
    return f"WorkflowType = {_quoted(workflow_type)} AND {condition}{extra}"


async def _listed(runs: AsyncIterator[WorkflowExecution]) -> list[WorkflowExecution]:
    return [run async for run in runs]


def _in_turn(groups: Sequence[Sequence[WorkflowExecution]]) -> Iterable[WorkflowExecution]:
    """Yield the first of each group, then the second of each."""
    for index in range(max((len(group) for group in groups), default=0)):
        for group in groups:
            if index < len(group):
                yield group[index]


async def _fetch(
    client: Client,
    run: WorkflowExecution,
    directory: Path,
    limit: asyncio.Semaphore,
) -> FetchedRun | _NotBegun | _Gone:
    handle = client.get_workflow_handle(run.id, run_id=run.run_id)
    async with limit:
        try:
            history = await handle.fetch_history(rpc_timeout=_TIMEOUT)
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return _Gone(run.run_id)
            raise
    if not any(event.HasField("workflow_task_completed_event_attributes") for event in history.events):
        return _NotBegun(run.run_id)
    # The list is older than the history: a run may have closed in between.
    is_open = not _is_closed(history)
    # A directory with the name of a history would not be searched.
    target = directory / _file_name(run.workflow_type).replace(".json", "_json")
    path = target / f"{_file_name(run.id)}.{run.run_id}.json"
    await asyncio.to_thread(_write, path, history.to_json())
    return FetchedRun(
        path=path,
        workflow_type=run.workflow_type,
        workflow_id=run.id,
        run_id=run.run_id,
        status="open" if is_open else (run.status.name.lower() if run.status else "closed"),
        is_open=is_open,
        events=len(history.events),
    )


def keep(runs: Iterable[FetchedRun], directory: Path, scrub: Callable[[Any], Mapping[str, Any]] | None) -> list[Path]:
    """Copy downloaded histories into ``directory``, one directory per type; apply ``scrub`` to each if it is given.

    Raises what ``scrub`` raises; then nothing of that history is written.
    """
    kept = []
    for run in runs:
        text = run.path.read_text(encoding="utf-8")
        path = directory / run.path.parent.name / run.path.name
        _write(path, json.dumps(scrub(json.loads(text)), indent=2) + "\n" if scrub else text)
        kept.append(path)
    return kept


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


_CLOSING = frozenset(
    f"workflow_execution_{end}_event_attributes"
    for end in ("completed", "failed", "canceled", "continued_as_new", "timed_out", "terminated")
)


def _is_closed(history: WorkflowHistory) -> bool:
    return history.events[-1].WhichOneof("attributes") in _CLOSING


def _file_name(name: str) -> str:
    """Return a name that every file system accepts; ids may contain slashes and have a thousand characters."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".")[:80] or "_"


def _explained(client: Client, error: RPCError, unavailable: Callable[..., Exception], *, asked: bool) -> Exception:
    """Return the error for a refusal; ``asked`` tells whether the query contained a condition of the user."""
    refused = {RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.NOT_FOUND, RPCStatusCode.PERMISSION_DENIED}
    if error.status in refused or error.status == RPCStatusCode.UNAUTHENTICATED:
        refusal = ReplayQueryRefused(namespace=client.namespace, reason=error.message)
        return refusal.from_option() if asked and error.status == RPCStatusCode.INVALID_ARGUMENT else refusal
    target = client.service_client.config.target_host
    return unavailable(target=target, reason=error.message or error.status.name)
