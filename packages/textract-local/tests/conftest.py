"""What every test runs in: no settings of the machine's own, and no limit of time for each generated example."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from textract_support import validation

# A loaded machine is slow for reasons that are not the test's.
settings.register_profile("textract-local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("textract-local")


@pytest.fixture(autouse=True)
def _scrubbed_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    # No test reads a developer's own profiles, or asks for credentials on the network.
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session", autouse=True)
def _validated_responses() -> None:
    """Validate each response that a Textract client of a test receives."""
    validation.start()
