"""Histories of a running service: recent closed runs and open ones, found by visibility query.

The committed histories show what was thought of; the service shows what happened. Files are
written as ``temporal workflow show --output json`` writes them, payloads as the service has them:
encrypted ones stay encrypted until the gate's data converter reads them.
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

from photo_worker.replay_errors import ReplayNothingFound, ReplayQueryRefused
from photo_worker.temporal_errors import TemporalUnavailable

# Histories are fetched page by page; more at once only queue at the service, which counts requests by namespace.
_AT_ONCE = 8

# One request's answer; a service that needs longer is as good as down for a deploy that waits.
_TIMEOUT = timedelta(seconds=30)

# Open runs of unknown types that are looked at; one is enough to be red.
_UNKNOWN_LOOKED_AT = 10_000

# Those on other task queues are told of and not red: in a shared namespace they may be many, and another application's.
ELSEWHERE_LOOKED_AT = 1_000

# In what order the newest runs of each way to end are taken, so that rare ends are not crowded out.
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
    """Which runs to take.

    ``closed`` is how many closed runs of each type are taken at most, from those that closed within
    ``window``; ``closed_by_type`` goes before it. ``opened`` is the same for open runs, whose age
    does not matter: each of them goes on with the new code. ``query`` is one more condition, in
    Temporal's own query language. Where ``known_types`` are named, open runs of all other types are counted:
    those on ``task_queues``; where none is named, on those of the runs found, and in the whole namespace where
    none was found.
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
    """One history in ``path``. An open one can only be checked as far as it got."""

    path: Path
    workflow_type: str
    workflow_id: str
    run_id: str
    status: str
    is_open: bool
    events: int


@dataclass(frozen=True)
class FetchedHistories:
    """What a download brought, and what it left out.

    ``not_begun`` are runs without a workflow task: no code has run, so none can differ. ``gone`` are
    runs whose history the service deleted meanwhile. ``left_out`` counts open runs above the cap, by
    type, and ``unknown`` open runs of types that the code does not have, on ``queues``, or in the whole namespace
    where there is none. ``elsewhere`` counts those on other task queues, by type and queue, and at most
    ``ELSEWHERE_LOOKED_AT`` runs. Where no type is known, ``unknown`` and ``elsewhere`` are empty.
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

    @property
    def partly_checked(self) -> tuple[FetchedRun, ...]:
        """Return the open runs: what they will do next is in no history yet."""
        return tuple(run for run in self.runs if run.is_open)

    def lines(self) -> list[str]:
        """Say in words what was taken, by type, and what a reader must not take for checked."""
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
    folder: Path,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> FetchedHistories:
    """Write the selected runs' histories below ``folder``, one folder a type, readable by this user alone.

    Raises ``ReplayNothingFound`` where nothing is left to replay, ``ReplayQueryRefused`` for a query
    or namespace that the service does not take, and ``TemporalUnavailable``.
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
        elsewhere = await _unknown_types(client, selection, "NOT IN", queues, ELSEWHERE_LOOKED_AT) if queues else {}
        limit = asyncio.Semaphore(_AT_ONCE)
        fetched = await asyncio.gather(*(_fetch(client, run, folder, limit) for run in chosen.values()))
    except RPCError as error:
        raise _explained(client, error, asked=selection.query is not None) from error
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
    """Count the open runs that the code has no type for, by type and task queue.

    They are those on ``queues``, or not on them; without any queue, those of the whole namespace. ``limit`` is how
    many runs are looked at.
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
    """Return counts by type and queue as counts by type."""
    summed: dict[str, int] = {}
    for (workflow_type, _), count in counts.items():
        summed[workflow_type] = summed.get(workflow_type, 0) + count
    return summed


def _quoted(name: str) -> str:
    # Temporal's queries take a backslash before a quote within quotes.
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
    folder: Path,
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
    # A folder by the name of a history would not be searched.
    target = folder / _file_name(run.workflow_type).replace(".json", "_json")
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


def keep(runs: Iterable[FetchedRun], folder: Path, scrub: Callable[[Any], Mapping[str, Any]] | None) -> list[Path]:
    """Copy downloaded histories into ``folder``, one folder a type, each through ``scrub`` where there is one.

    Whatever ``scrub`` refuses comes out as it is; nothing of that history is written then.
    """
    kept = []
    for run in runs:
        text = run.path.read_text(encoding="utf-8")
        path = folder / run.path.parent.name / run.path.name
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
    """Return a name that every file system takes; ids may hold slashes and be a thousand characters long."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".")[:80] or "_"


def _explained(client: Client, error: RPCError, *, asked: bool) -> Exception:
    """Return what a refusal means; ``asked`` tells whether the user's own condition was part of the query."""
    refused = {RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.NOT_FOUND, RPCStatusCode.PERMISSION_DENIED}
    if error.status in refused or error.status == RPCStatusCode.UNAUTHENTICATED:
        refusal = ReplayQueryRefused(namespace=client.namespace, reason=error.message)
        return refusal.from_option() if asked and error.status == RPCStatusCode.INVALID_ARGUMENT else refusal
    target = client.service_client.config.target_host
    return TemporalUnavailable(target=target, reason=error.message or error.status.name)
