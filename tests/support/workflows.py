"""Start and look up workflows without workers over gRPC, to test what a Temporal server keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from temporalio.api.nexus.v1 import Response, StartOperationResponse
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import PollNexusTaskQueueRequest, RespondNexusTaskCompletedRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode


def start(env: Mapping[str, str], workflow_id: str) -> None:
    """Start a workflow in a stack's namespace on a queue without workers."""

    async def started() -> None:
        client = await _client(env)
        await client.start_workflow("Kept", id=workflow_id, task_queue="unpolled")

    asyncio.run(started())


def is_kept(env: Mapping[str, str], workflow_id: str) -> bool:
    """Return whether the server has a workflow's history, beginning with its start."""

    async def looked() -> bool:
        try:
            history = await (await _client(env)).get_workflow_handle(workflow_id).fetch_history()
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return False
            raise
        return history.events[0].HasField("workflow_execution_started_event_attributes")

    return asyncio.run(looked())


def ids(env: Mapping[str, str]) -> list[str]:
    """Return the ids of the running workflows in a stack's namespace."""

    async def listed() -> list[str]:
        client = await _client(env)
        return [found.id async for found in client.list_workflows("ExecutionStatus='Running'")]

    return asyncio.run(listed())


def nexus_operations(env: Mapping[str, str], queue: str, last: str) -> list[str]:
    """Take and complete the Nexus tasks of a queue up to the operation ``last``; return the operations, in order."""

    async def taken() -> list[str]:
        client = await _client(env)
        asked = PollNexusTaskQueueRequest(
            namespace=env["TEMPORAL_NAMESPACE"], identity="worker", task_queue=TaskQueue(name=queue)
        )
        seen: list[str] = []
        while last not in seen:
            task = await client.workflow_service.poll_nexus_task_queue(asked)
            if not task.task_token:
                continue
            seen.append(task.request.start_operation.operation)
            done = Response(start_operation=StartOperationResponse(sync_success=StartOperationResponse.Sync()))
            await client.workflow_service.respond_nexus_task_completed(
                RespondNexusTaskCompletedRequest(
                    namespace=env["TEMPORAL_NAMESPACE"], identity="worker", task_token=task.task_token, response=done
                )
            )
        return seen

    return asyncio.run(taken())


async def _client(env: Mapping[str, str]) -> Client:
    return await Client.connect(env["TEMPORAL_TARGET"], namespace=env["TEMPORAL_NAMESPACE"])
