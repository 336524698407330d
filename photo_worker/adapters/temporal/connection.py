"""Connecting to Temporal: a laptop's dev server, a cluster, or Temporal Cloud, by configuration alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.envconfig import ClientConfigProfile
from temporalio.runtime import Runtime
from temporalio.service import RPCError, RPCStatusCode

from photo_worker.adapters.temporal import rpc_errors
from photo_worker.adapters.temporal.converter import data_converter
from photo_worker.config import DEFAULT_TEMPORAL_TARGET, Settings
from photo_worker.errors import ConfigurationError, TemporalUnavailable

# For a user at a prompt, a server that needs longer for its first response is as good as down.
CONNECT_TIMEOUT_SECONDS = 10.0


def connection_options(settings: Settings, variables: Mapping[str, str]) -> dict[str, object]:
    """Return ``Client.connect``'s arguments from the profile, the TEMPORAL_* variables and the target.

    ``TEMPORAL_TARGET`` goes before the profile's address. Raises ``ConfigurationError`` for an
    unknown profile or unreadable certificate.
    """
    temporal_variables = {name: value for name, value in variables.items() if name.startswith("TEMPORAL_") and value}
    try:
        # Certificates are read as the options are built, so a missing file shows here.
        options: dict[str, object] = dict(
            ClientConfigProfile.load(
                profile=temporal_variables.get("TEMPORAL_PROFILE"), override_env_vars=temporal_variables
            ).to_client_connect_config()
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise ConfigurationError(problems=f"Temporal's profile or TEMPORAL_* variables: {error}") from error
    options["target_host"] = settings.temporal_target or options.get("target_host") or DEFAULT_TEMPORAL_TARGET
    options.setdefault("namespace", "default")
    return options


async def connect(settings: Settings, variables: Mapping[str, str], runtime: Runtime | None = None) -> Client:
    """Connect, and check that the namespace exists. ``runtime`` is Temporal's default one if it is None.

    Raises ``TemporalUnavailable`` within ``CONNECT_TIMEOUT_SECONDS``, ``TemporalNamespaceMissing``, and the other
    errors into which ``rpc_errors`` translates a refusal.
    """
    options = connection_options(settings, variables)
    target, namespace = str(options["target_host"]), str(options["namespace"])
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            client = await Client.connect(data_converter=data_converter, runtime=runtime, **options)  # type: ignore[arg-type]
            await _require_namespace(client)
            return client
    except TimeoutError as error:
        raise TemporalUnavailable(target=target, reason=f"no response in {CONNECT_TIMEOUT_SECONDS:.0f} s") from error
    except RPCError as error:
        raise rpc_errors.translate(error, target=target, namespace=namespace) from error
    except RuntimeError as error:
        raise rpc_errors.translate_bridge(error, target=target, namespace=namespace) from error


async def _require_namespace(client: Client) -> None:
    """Raise ``RPCError`` if the namespace does not exist.

    Without this check the first request for a job would report that the job does not exist. Credentials that may start
    jobs but not describe the namespace pass.
    """
    try:
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
    except RPCError as error:
        if error.status is not RPCStatusCode.PERMISSION_DENIED:
            raise
