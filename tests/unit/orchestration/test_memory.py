"""``MemoryOrchestrator`` passes the port's contract."""

from __future__ import annotations

import pytest

from photo_worker.adapters.memory.orchestrator import MemoryOrchestrator
from tests.contracts.orchestrator import OrchestratorContract
from tests.support.waiting_workflows import PROGRAMS


class TestMemoryOrchestrator(OrchestratorContract):
    @pytest.fixture
    def orchestrator(self) -> MemoryOrchestrator:
        return MemoryOrchestrator(programs=PROGRAMS)
