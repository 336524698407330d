"""Deleting a workflow from Temporal: its runs, their histories and their entries in the visibility store."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Collection, Iterator
from uuid import UUID

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from photo_worker.contracts.references import prefix_of

# Temporal deletes an open run at once, and a closed one when its internal queues are acknowledged up to the close: that
# happens about every half minute, and Temporal retries after a growing pause.
ERASE_SECONDS = 300.0

PLAIN = re.compile(r"[\w./:@ -]+")
"""Names that a filter of the visibility store quotes as they are."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0


async def workflow_ids(client: Client, job_id: UUID, own: Collection[str]) -> set[str]:
    """Return the ids of a job's workflows: ``own``, which may not exist, and all others that are visible."""
    query = f"WorkflowId STARTS_WITH '{prefix_of(job_id)}'"
    return {*own, *{found.id async for found in client.list_workflows(query)}}


async def erase_workflows(client: Client, job_id: UUID, own: Collection[str], *, seconds: float) -> bool:
    """Delete all runs of all workflows of a job; tell if any existed.

    In the order of their ids, so that a workflow ends before those that it starts. Raises what ``erase_runs`` raises.
    """
    deadline = time.monotonic() + seconds
    erased: set[str] = set()
    found = False
    while left := await workflow_ids(client, job_id, own) - erased:
        for workflow_id in sorted(left):
            found |= await erase_runs(client, workflow_id, seconds=max(deadline - time.monotonic(), 0))
        erased |= left
    return found


async def erase_runs(client: Client, workflow_id: str, *, seconds: float) -> bool:
    """Delete all runs of a workflow id, and wait until service and visibility store know none; tell if any existed.

    Deleting an open run terminates it. There may be several runs: an operator's reset begins another one. Raises
    ``TimeoutError`` if some are left after ``seconds``, and ``RPCError``.
    """
    deadline = time.monotonic() + seconds
    asked: set[str] = set()
    pause = _FIRST_PAUSE
    while runs := await _runs(client, workflow_id):
        for run_id in sorted(runs - asked):
            with _ignore_not_found():
                await client.workflow_service.delete_workflow_execution(
                    DeleteWorkflowExecutionRequest(
                        namespace=client.namespace,
                        workflow_execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
                    )
                )
        asked |= runs
        if time.monotonic() > deadline:
            reason = f"the history of {workflow_id} is not yet deleted, {seconds:g} s after it was asked to"
            raise TimeoutError(reason)
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
    return bool(asked)


async def _runs(client: Client, workflow_id: str) -> set[str]:
    """Return the ids of all runs: the latest from the service itself, others from the visibility store.

    ``workflow_id`` begins with a job's id.
    """
    query = f"WorkflowId = '{workflow_id}'"
    if not PLAIN.fullmatch(workflow_id):
        # Servers differ in how they parse quotes and backslashes in a filter.
        query = f"WorkflowId STARTS_WITH '{workflow_id[: len(str(UUID(int=0)))]}'"
    found = {run.run_id async for run in client.list_workflows(query) if run.id == workflow_id}
    with _ignore_not_found():
        found.add((await client.get_workflow_handle(workflow_id).describe()).run_id)
    return found


@contextlib.contextmanager
def _ignore_not_found() -> Iterator[None]:
    try:
        yield
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
