"""Which workers ask Temporal for work, and what waits for them: both are DescribeTaskQueue's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, DescribeTaskQueueResponse
from temporalio.client import Client

# A poll that finds no work lasts a minute, and only its start is noted.
RECENT_POLL = timedelta(seconds=90)

_TIMEOUT = timedelta(seconds=10)


async def last_poll(client: Client, task_queue: str, host: str | None = None) -> datetime | None:
    """Return when a worker last asked for an activity, or a worker of one host; None where none is known.

    The SDK's identity of a worker is ``PID@HOST``. Raises ``RPCError``.
    """
    answer = await _describe(client, task_queue, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY)
    polls = [
        poller.last_access_time.ToDatetime(tzinfo=UTC)
        for poller in answer.pollers
        if host is None or poller.identity.partition("@")[2] == host
    ]
    return max(polls, default=None)


async def backlog(client: Client, task_queue: str) -> tuple[int, timedelta]:
    """Return how many tasks of both types nobody has taken, and how long the oldest has waited. Raises ``RPCError``.

    Temporal keeps these counts for the partitions of a task queue that are in memory, and calls them approximate.
    """
    waiting, oldest = 0, timedelta()
    for kind in (TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY):
        answer = await _describe(client, task_queue, kind, report_stats=True)
        waiting += answer.stats.approximate_backlog_count
        oldest = max(oldest, answer.stats.approximate_backlog_age.ToTimedelta())
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
