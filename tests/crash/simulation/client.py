"""A client of the simulated server for any workflow: each request is a port call, and responses are waited for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from temporalio.api.common.v1 import Payload
from temporalio.converter import DefaultFailureConverter

from photo_worker.adapters.temporal.converter import ContractPayloadConverter
from tests.crash.simulation.core import TASK_TIMEOUT
from tests.crash.simulation.execution import Execution, Query, Stale, Update
from tests.crash.simulation.gate import current

if TYPE_CHECKING:
    from tests.crash.simulation.world import World

REFUSED = "refused: NOT_FOUND"
"""The response to an update whose workflow closed before it saw the update."""

_converter = ContractPayloadConverter()


def payloads(values: Sequence[Any]) -> tuple[Payload, ...]:
    """Return values as the product's converter writes them."""
    return tuple(_converter.to_payloads(values))


def value(payload: Payload | None) -> Any:
    """Return the value of a payload; None without one."""
    if payload is None or not payload.metadata:
        return None
    (found,) = _converter.from_payloads([payload])
    return found


def runs(execution: Execution) -> list[Execution]:
    """Return the runs of a workflow, from the first to this one."""
    return [*([] if execution.continued_from is None else runs(execution.continued_from)), execution]


class SimulatedClient:
    """A client. Call its methods in a strand. ``Stale`` and ``KeyError`` mean that no such workflow runs."""

    def __init__(self, world: World) -> None:
        self._world = world

    def start(self, workflow_id: str, kind: str, *args: Any, task_timeout: timedelta = TASK_TIMEOUT) -> None:
        """Start a workflow, or join the one with this id."""
        service, given = self._world.service, payloads(args)
        self._world.gate.call(
            "client.start", lambda: service.start(workflow_id, kind, given, task_timeout=task_timeout)
        )

    def signal_with_start(
        self, workflow_id: str, kind: str, args: Sequence[Any], signal: str, signal_args: Sequence[Any] = ()
    ) -> None:
        """Signal a workflow, which is started if it does not run."""
        given, told = payloads(args), payloads(signal_args)
        request_id = self._request_id()
        self._world.gate.call(
            "client.signal_with_start",
            lambda: self._world.service.signal_with_start(workflow_id, kind, given, signal, told, request_id),
        )

    def signal(self, workflow_id: str, name: str, *args: Any, request_id: str = "") -> None:
        """Signal a running workflow; a signal with the same request id has no further effect."""
        chosen = request_id or self._request_id()
        self._world.gate.call(
            "client.signal", lambda: self._world.service.signal(workflow_id, name, payloads(args), chosen)
        )

    def query(self, workflow_id: str, name: str, *args: Any) -> Any:
        """Return the response to a query, or the failure's message."""
        found: Query = self._world.gate.call(
            "client.query", lambda: self._world.service.query(workflow_id, name, payloads(args))
        )
        self._world.gate.wait(current(), lambda: found.done)
        return self._outcome(found)

    def update(self, workflow_id: str, name: str, *args: Any, update_id: str = "") -> Any:
        """Return the outcome of an update, or the failure's message; an update with the same id is joined."""
        found = self.update_later(workflow_id, name, *args, update_id=update_id)
        if found is None:
            return REFUSED
        self._world.gate.wait(current(), lambda: found.done)
        return REFUSED if found.refused else self._outcome(found)

    def update_later(self, workflow_id: str, name: str, *args: Any, update_id: str = "") -> Update | None:
        """Send an update without waiting for its outcome; return None if the workflow has closed."""
        chosen = update_id or self._request_id()

        def send() -> Update | None:
            try:
                return self._world.service.update(workflow_id, chosen, name, payloads(args))
            except Stale:
                return None

        found: Update | None = self._world.gate.call("client.update", send)
        return found

    def cancel(self, workflow_id: str) -> None:
        """Request the cancellation of a running workflow."""
        self._world.gate.call("client.cancel", lambda: self._world.service.cancel(workflow_id))

    def terminate(self, workflow_id: str, reason: str) -> None:
        """Terminate a running workflow."""
        self._world.gate.call("client.terminate", lambda: self._world.service.terminate(workflow_id, reason))

    def sleep(self, seconds: float) -> None:
        """Wait for a time."""
        self._world.gate.until(current(), self._world.now + timedelta(seconds=seconds))

    def wait(self, workflow_id: str, ready: Callable[[Execution], bool]) -> None:
        """Wait until a workflow is in a state."""
        executions = self._world.service.executions
        self._world.gate.wait(current(), lambda: workflow_id in executions and ready(executions[workflow_id]))

    def _request_id(self) -> str:
        return f"request-{self._world.service._token()}"

    def _outcome(self, found: Query | Update) -> Any:
        if found.failure is None:
            return value(found.result)
        if isinstance(found, Query):
            return f"failed: {found.failure.message}"
        return f"failed: {DefaultFailureConverter().from_failure(found.failure, _converter)}"
