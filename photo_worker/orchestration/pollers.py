"""Which workers ask Temporal for activities: DescribeTaskQueue lists them by identity."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

# A poll that finds no work lasts a minute, and only its start is noted.
RECENT_POLL = timedelta(seconds=90)

_TIMEOUT = timedelta(seconds=10)


async def last_poll(client: Client, task_queue: str, host: str | None = None) -> datetime | None:
    """Return when a worker last asked for an activity, or a worker of one host; None where none is known.

    The SDK's identity of a worker is ``PID@HOST``. Raises ``RPCError``.
    """
    answer = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=task_queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        ),
        timeout=_TIMEOUT,
    )
    polls = [
        poller.last_access_time.ToDatetime(tzinfo=UTC)
        for poller in answer.pollers
        if host is None or poller.identity.partition("@")[2] == host
    ]
    return max(polls, default=None)
