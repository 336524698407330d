"""The simulated Temporal compared with the real one on small workflows, one kind of commands after the other.

Each scenario gives the same events in the same order, the same results, and the same responses to clients.
"""

from __future__ import annotations

import asyncio

import pytest
from temporalio.client import Client

from photo_worker.adapters.temporal.connection import connect
from photo_worker.config import load_settings, read_environment
from tests.crash.contract.basics import BASICS
from tests.crash.contract.children import CHILDREN
from tests.crash.contract.local import LOCAL
from tests.crash.contract.real import play
from tests.crash.contract.scenario import Family, differences
from tests.crash.contract.simulated import simulate
from tests.crash.contract.updates import CONTINUED, UPDATES

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

FAMILIES = {
    "basics": BASICS,
    "children": CHILDREN,
    "updates": UPDATES,
    "continued": CONTINUED,
    "local": LOCAL,
}


@pytest.fixture
async def client(stack_env: dict[str, str]) -> Client:
    return await connect(load_settings(read_environment(stack_env, None)), stack_env)


@pytest.mark.parametrize("name", FAMILIES)
async def test_simulated_commands_give_events_of_real_service(name: str, client: Client) -> None:
    family: Family = FAMILIES[name]
    outcomes = await play(client, family)
    wrong: list[str] = []
    for scenario, real in zip(family.scenarios, outcomes, strict=True):
        # In a separate thread: event loops cannot be nested.
        found = differences(await asyncio.to_thread(simulate, family, scenario), real)
        wrong += [f"{scenario.name}:", *(f"  {line}" for line in found)] if found else []
    assert not wrong, "\n".join(wrong)
