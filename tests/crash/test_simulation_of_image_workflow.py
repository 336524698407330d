"""The simulated Temporal compared with the real one: each scenario gives the same events, attempts and failures.

The product's workflow runs on both sides with activities that follow the scenario, so that only Temporal differs: the
events that it records, its retries, and its handling of timeouts, cancellations and ends.
"""

from __future__ import annotations

import asyncio

import pytest
from temporalio.client import Client

from photo_worker.adapters.temporal.connection import connect
from photo_worker.config import load_settings, read_environment
from tests.crash.contract.image_workflow import SCENARIOS, Scenario
from tests.crash.contract.image_workflow_real import played
from tests.crash.contract.image_workflow_simulated import simulated

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]


@pytest.fixture
async def client(stack_env: dict[str, str]) -> Client:
    return await connect(load_settings(read_environment(stack_env, None)), stack_env)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
async def test_simulated_temporal_behaves_as_real_service(scenario: Scenario, client: Client) -> None:
    """Compares all events of the history in order, all attempts, all failures, and the result of each start."""
    real = await played(client, scenario)
    # In a separate thread: event loops cannot be nested.
    assert await asyncio.to_thread(simulated, scenario) == real
