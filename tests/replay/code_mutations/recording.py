"""Runs the kitchen once on a real server and returns its history."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from gate_support.kitchen import Bell, Kitchen, Order, Oven, cut, taste, wash
from tests.support.harness import eventually
from tests.support.workers import running


async def record_kitchen(client: Client) -> str:
    """Return the history of a run that had to wait for its salt, as Temporal's JSON."""
    name = f"kitchen-{secrets.token_hex(6)}"
    with ThreadPoolExecutor(2) as threads:
        worker = Worker(
            client,
            task_queue=name,
            workflows=[Kitchen, Oven, Bell],
            activities=[wash, cut, taste],
            activity_executor=threads,
            # The recording needs no sandbox; the gate replays the history in it.
            workflow_runner=UnsandboxedWorkflowRunner(),
        )
        async with running(worker):
            await client.start_workflow(Bell.run, id=f"{name}-bell", task_queue=name)
            order = Order(dish="leek", bell=f"{name}-bell")
            handle = await client.start_workflow(Kitchen.run, order, id=name, task_queue=name)

            async def waits_for_salt() -> bool:
                events = (await handle.fetch_history()).events
                return sum(event.HasField("timer_started_event_attributes") for event in events) == 2

            await eventually(waits_for_salt)
            await handle.signal(Kitchen.salt, 2)
            await handle.result()
            history = await handle.fetch_history()
    return history.to_json()
