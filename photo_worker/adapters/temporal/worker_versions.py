"""What Temporal routes to a worker that polls with a version."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta

from temporalio.api.workflowservice.v1 import DescribeWorkerDeploymentRequest
from temporalio.client import Client
from temporalio.service import RPCError

logger = logging.getLogger(__name__)

_TIMEOUT = timedelta(seconds=10)

# Temporal creates the deployment with the first poll. Afterwards somebody changes its routing by hand or by a program.
_FIRST_LOOK_SECONDS = 1.0
_LONGEST_LOOK_SECONDS = 60.0


async def watch_version(client: Client, deployment: str, build_id: str) -> None:
    """Log whenever the version begins or ceases to get new workflows. Runs until it is cancelled.

    A worker whose version is neither current nor ramping polls, and gets nothing but what is pinned to it. Its jobs
    would wait without a word.
    """
    seconds, was_routed = _FIRST_LOOK_SECONDS, True
    while True:
        await asyncio.sleep(seconds)
        seconds = min(seconds * 2, _LONGEST_LOOK_SECONDS)
        with suppress(RPCError):
            routed = await _is_routed(client, deployment, build_id)
            if routed != was_routed:
                _tell(deployment, build_id, routed)
            was_routed = routed


def _tell(deployment: str, build_id: str, routed: bool) -> None:
    if routed:
        logger.info("worker gets new workflows: version %s of %s is current or ramping", build_id, deployment)
        return
    logger.warning(
        "worker gets no new workflows: version %s of %s is neither current nor ramping",
        build_id,
        deployment,
        extra={
            "photo": {
                "hint": "Run: temporal worker deployment set-current-version "
                f"--deployment-name {deployment} --build-id {build_id}"
            }
        },
    )


async def _is_routed(client: Client, deployment: str, build_id: str) -> bool:
    request = DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=deployment)
    described = await client.workflow_service.describe_worker_deployment(request, timeout=_TIMEOUT)
    routing = described.worker_deployment_info.routing_config
    versions = (routing.current_deployment_version, routing.ramping_deployment_version)
    return build_id in [version.build_id for version in versions]
