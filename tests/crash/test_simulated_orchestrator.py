"""The simulation's orchestrator does what every orchestrator does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from photo_worker.ports.orchestrator import WorkflowOrchestrator
from tests.contracts.orchestrator import OrchestratorContract
from tests.crash.simulation.orchestrator import SimulatedOrchestrator
from tests.crash.simulation.worker import Hosted
from tests.crash.simulation.world import QUEUE, World
from tests.support.waiting_workflows import WaitingFirst, WaitingSecond


class TestSimulatedOrchestrator(OrchestratorContract):
    @pytest.fixture
    def orchestrator(self) -> Iterator[WorkflowOrchestrator]:
        world = World()
        world.host(Hosted([WaitingFirst, WaitingSecond]))
        # The calls are those of a test, not of a process that may die.
        world.gate.quiet = True
        yield SimulatedOrchestrator(world, QUEUE)
        world.gate.quiet = False
        world.close()
