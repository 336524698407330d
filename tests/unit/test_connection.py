from __future__ import annotations

from pathlib import Path

import pytest

from photo_worker.adapters.temporal.connection import connection_options
from photo_worker.config import load_settings, read_environment
from photo_worker.errors import ConfigurationError


def options(variables: dict[str, str]) -> dict[str, object]:
    return connection_options(load_settings(read_environment(variables, None)), variables)


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    for name in ("client.pem", "client.key"):
        (tmp_path / name).write_text(f"contents of {name}")
    file = tmp_path / "temporal.toml"
    file.write_text(
        f"""
        [profile.cloud]
        address = "photos.a1b2c.tmprl.cloud:7233"
        namespace = "photos.a1b2c"
        [profile.cloud.tls]
        client_cert_path = "{tmp_path / "client.pem"}"
        client_key_path = "{tmp_path / "client.key"}"

        [profile.key]
        address = "us-east-1.aws.api.temporal.io:7233"
        api_key = "a-secret"
        """
    )
    return file


def test_connection_options_default_to_localhost() -> None:
    assert options({}) == {"target_host": "localhost:7233", "namespace": "default"}


def test_connection_options_target_overrides_profile(profiles: Path) -> None:
    variables = {"TEMPORAL_CONFIG_FILE": str(profiles), "TEMPORAL_PROFILE": "cloud"}
    assert options(variables)["target_host"] == "photos.a1b2c.tmprl.cloud:7233"
    assert options(variables | {"TEMPORAL_TARGET": "127.0.0.1:7"})["target_host"] == "127.0.0.1:7"


def test_connection_options_profile_reads_certificate(profiles: Path) -> None:
    found = options({"TEMPORAL_CONFIG_FILE": str(profiles), "TEMPORAL_PROFILE": "cloud"})
    assert found["namespace"] == "photos.a1b2c"
    tls = found["tls"]
    assert getattr(tls, "client_cert", None) == b"contents of client.pem"
    assert getattr(tls, "client_private_key", None) == b"contents of client.key"


def test_connection_options_api_key_turns_tls_on(profiles: Path) -> None:
    found = options({"TEMPORAL_CONFIG_FILE": str(profiles), "TEMPORAL_PROFILE": "key"})
    assert (found["api_key"], found["tls"]) == ("a-secret", True)
    by_variable = options({"TEMPORAL_API_KEY": "another", "TEMPORAL_NAMESPACE": "photos"})
    assert (by_variable["api_key"], by_variable["tls"], by_variable["namespace"]) == ("another", True, "photos")


def test_connection_options_unknown_profile_is_refused(profiles: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no-such"):
        options({"TEMPORAL_CONFIG_FILE": str(profiles), "TEMPORAL_PROFILE": "no-such"})
    with pytest.raises(ConfigurationError, match=r"absent\.pem"):
        options({"TEMPORAL_TLS_CLIENT_CERT_PATH": str(tmp_path / "absent.pem")})
