"""Which workers poll Temporal or wait for a service, and which tasks wait for them, all from DescribeTaskQueue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeTaskQueueResponse,
    PollWorkflowTaskQueueRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError

# A poll without a task lasts a minute, and Temporal records only its start.
RECENT_POLL = timedelta(seconds=90)

_TIMEOUT = timedelta(seconds=10)


# How long each poll lasts by which a waiting worker shows that it waits.
_WAITING_POLL = timedelta(seconds=15)

# Two of these polls, and some time for a busy server.
_RECENT_WAIT = timedelta(seconds=40)

_PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class WorkersState:
    """The workers of a task queue: when one was last seen, and the error codes for which waiting workers wait.

    ``take_work`` tells whether a worker has polled for activities within ``RECENT_POLL`` and does not wait.
    """

    last_seen: datetime | None
    take_work: bool
    waits_for: tuple[str, ...]

    @property
    def are_there(self) -> bool:
        """Tell whether a worker was seen within ``RECENT_POLL``."""
        return self.last_seen is not None and datetime.now(UTC) - self.last_seen < RECENT_POLL


async def workers_of(client: Client, task_queue: str, host: str | None = None) -> WorkersState:
    """Return the state of a task queue's workers, or of those on one host. Raises ``RPCError``.

    The SDK's identity of a worker is ``PID@HOST``.
    """
    kinds = (TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW)
    activities, workflows = [_polls(await _describe(client, task_queue, kind), host) for kind in kinds]
    told = _polls(await _describe(client, _waiting_queue(task_queue), kinds[1]), host)
    waiting: dict[str, str] = {}
    for identity, at in sorted(told.items(), key=lambda item: item[1]):
        worker, _, code = identity.partition(" ")
        if datetime.now(UTC) - at < _RECENT_WAIT and at > activities.get(worker, datetime.min.replace(tzinfo=UTC)):
            waiting[worker] = code
    now = datetime.now(UTC)
    return WorkersState(
        last_seen=max([*activities.values(), *workflows.values(), *told.values()], default=None),
        take_work=any(now - at < RECENT_POLL for worker, at in activities.items() if worker not in waiting),
        waits_for=tuple(sorted(set(waiting.values()))),
    )


async def announce_waiting(client: Client, task_queue: str, waits_for: Callable[[], str | None]) -> None:
    """Show ``workers_of`` what this worker waits for while ``waits_for`` returns a code. Runs until it is cancelled.

    Temporal records of a worker only its polls. So this polls a task queue without tasks, with the code in its
    identity. A waiting worker does not poll for workflows before it has been usable once: the jobs' lifetimes would
    begin, and a release whose schema is missing would write its markers into their histories.
    """
    while True:
        code = waits_for()
        if code is not None:
            request = PollWorkflowTaskQueueRequest(
                namespace=client.namespace,
                task_queue=TaskQueue(name=_waiting_queue(task_queue)),
                identity=f"{client.service_client.config.identity} {code}",
            )
            with suppress(RPCError):
                await client.workflow_service.poll_workflow_task_queue(request, timeout=_WAITING_POLL)
        await asyncio.sleep(_PAUSE_SECONDS)


def _waiting_queue(task_queue: str) -> str:
    return f"{task_queue}/photo-worker-waits"


def _polls(response: DescribeTaskQueueResponse, host: str | None) -> dict[str, datetime]:
    """Return the last poll of each identity."""
    polls = {poller.identity: poller.last_access_time.ToDatetime(tzinfo=UTC) for poller in response.pollers}
    return {
        identity: at
        for identity, at in polls.items()
        if host is None or identity.partition(" ")[0].partition("@")[2] == host
    }


async def backlog(client: Client, task_queue: str) -> tuple[int, timedelta]:
    """Return how many tasks of both types no worker has taken, and how long the oldest has waited. Raises ``RPCError``.

    Temporal keeps these counts for the partitions of a task queue that are in memory, and calls them approximate.
    """
    waiting, oldest = 0, timedelta()
    for kind in (TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY):
        response = await _describe(client, task_queue, kind, report_stats=True)
        waiting += response.stats.approximate_backlog_count
        oldest = max(oldest, response.stats.approximate_backlog_age.ToTimedelta())
    return waiting, oldest


async def _describe(
    client: Client, task_queue: str, kind: TaskQueueType.ValueType, *, report_stats: bool = False
) -> DescribeTaskQueueResponse:
    return await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=task_queue),
            task_queue_type=kind,
            report_stats=report_stats,
        ),
        timeout=_TIMEOUT,
    )
