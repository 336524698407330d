"""Temporal's refusals as the product's errors: on connecting, on a call, and at a worker's start."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from temporalio.service import RPCStatusCode

from photo_worker.adapters.temporal.connection import connect
from photo_worker.adapters.temporal.orchestrator import TemporalOrchestrator
from photo_worker.adapters.temporal.rpc_errors import translate_bridge
from photo_worker.config import load_settings, read_environment
from photo_worker.contracts.image import IMAGE_PROCESSING, ImageProcessingInput
from photo_worker.errors import PhotoWorkerError
from photo_worker.pipelines import workflow_types
from tests.support.grpc_errors import refusing

KINDS = {
    RPCStatusCode.UNAUTHENTICATED: ("temporal_unauthenticated", False),
    RPCStatusCode.PERMISSION_DENIED: ("temporal_forbidden", False),
    RPCStatusCode.INVALID_ARGUMENT: ("temporal_request_invalid", False),
    RPCStatusCode.RESOURCE_EXHAUSTED: ("temporal_throttled", True),
    RPCStatusCode.UNAVAILABLE: ("temporal_unavailable", True),
    RPCStatusCode.INTERNAL: ("temporal_unavailable", True),
    RPCStatusCode.NOT_FOUND: ("temporal_unavailable", True),
}
REASON = "the server says no"


async def client_of(target: str) -> Any:
    variables = {"TEMPORAL_TARGET": target, "TEMPORAL_NAMESPACE": "photos"}
    return await connect(load_settings(read_environment(variables, None)), variables)


AT_THE_START = [
    *((status, "GetSystemInfo") for status in KINDS if status is not RPCStatusCode.INTERNAL),
    # Credentials without the right to describe the namespace may still start jobs.
    *((status, "DescribeNamespace") for status in KINDS if status is not RPCStatusCode.PERMISSION_DENIED),
]


@pytest.mark.parametrize(("status", "first"), AT_THE_START)
async def test_connect_refused_raises_matching_error(status: RPCStatusCode, first: str) -> None:
    but = () if first == "GetSystemInfo" else ("GetSystemInfo",)
    code, retryable = KINDS[status]
    with refusing(status.value, REASON, but=but) as target, pytest.raises(PhotoWorkerError) as caught:
        await client_of(target)
    assert (caught.value.code, caught.value.retryable) == (code, retryable)
    assert REASON in caught.value.message
    assert target in caught.value.message


# The client itself retries these for a while before it raises them.
RETRIED = {RPCStatusCode.RESOURCE_EXHAUSTED, RPCStatusCode.UNAVAILABLE, RPCStatusCode.INTERNAL}


@pytest.mark.parametrize("status", [status for status in KINDS if status not in RETRIED])
async def test_start_refused_raises_matching_error(status: RPCStatusCode) -> None:
    code, retryable = KINDS[status]
    with refusing(status.value, REASON, but=("GetSystemInfo", "DescribeNamespace")) as target:
        orchestrator, job_id = TemporalOrchestrator(await client_of(target), "queue", types=workflow_types()), uuid4()
        with pytest.raises(PhotoWorkerError) as caught:
            await orchestrator.start(
                IMAGE_PROCESSING.of(job_id), ImageProcessingInput(job_id=str(job_id), bucket="photos", key="a.png")
            )
    assert (caught.value.code, caught.value.retryable) == (code, retryable)
    assert REASON in caught.value.message


async def test_connect_without_describe_permission_succeeds() -> None:
    with refusing(RPCStatusCode.PERMISSION_DENIED.value, REASON) as target:
        assert (await client_of(target)).namespace == "photos"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Worker validation failed: Namespace nope was not found or otherwise", "temporal_namespace_missing"),
        (
            'Worker validation failed: x: Status { code: PermissionDenied, message: "a \\"b\\"", m }',
            "temporal_forbidden",
        ),
        ("Failed client connect: Status { code: 'Deadline expired', message: \"late\" }", "temporal_unavailable"),
        ("Failed client connect: transport error", "temporal_unavailable"),
        ("", "temporal_unavailable"),
    ],
)
def test_translate_bridge_maps_message_to_code(text: str, code: str) -> None:
    found = translate_bridge(RuntimeError(text), target="here:1", namespace="nope")
    assert found.code == code
    assert found.message.endswith((".", '"'))
