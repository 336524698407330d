"""Connecting to Temporal: a laptop's dev server, a cluster, or Temporal Cloud, by configuration alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from temporalio.client import Client
from temporalio.envconfig import ClientConfigProfile
from temporalio.service import RPCError

from photo_worker.config import DEFAULT_TEMPORAL_TARGET, Settings
from photo_worker.errors import ConfigurationError, TemporalUnavailable
from photo_worker.orchestration.converter import data_converter

# A server that needs longer for its first answer is as good as down for whoever waits at a prompt.
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


async def connect(settings: Settings, variables: Mapping[str, str]) -> Client:
    """Connect, or raise ``TemporalUnavailable`` within ``CONNECT_TIMEOUT_SECONDS``."""
    options = connection_options(settings, variables)
    target = str(options["target_host"])
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            return await Client.connect(data_converter=data_converter, **options)  # type: ignore[arg-type]
    except TimeoutError as error:
        raise TemporalUnavailable(target=target, reason=f"no answer in {CONNECT_TIMEOUT_SECONDS:.0f} s") from error
    except (RPCError, RuntimeError) as error:
        # The bridge reports a refused connection as RuntimeError with the transport's own words.
        raise TemporalUnavailable(target=target, reason=str(error).splitlines()[0][:300]) from error
