""".env.local and .env.prod name exactly the variables that the application reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from photo_worker.adapters.temporal.connection import connection_options
from photo_worker.config import Settings, load_settings, read_environment

ROOT = Path(__file__).resolve().parents[3]
FILES = (".env.local", ".env.prod")
# Read by botocore and temporalio.envconfig.
STANDARD = {
    "AWS_REGION", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
    "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_SNS", "AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL_TEXTRACT",
    "TEMPORAL_NAMESPACE", "TEMPORAL_PROFILE", "TEMPORAL_API_KEY", "TEMPORAL_TLS",
    "TEMPORAL_TLS_CLIENT_CERT_PATH", "TEMPORAL_TLS_CLIENT_KEY_PATH",
    "TEMPORAL_TLS_SERVER_CA_CERT_PATH", "TEMPORAL_TLS_SERVER_NAME",
}  # fmt: skip
OWN = {str(field.alias) for field in Settings.model_fields.values()}


@pytest.mark.parametrize("name", FILES)
def test_sample_env_file_loads(name: str) -> None:
    environment = read_environment({}, ROOT / name, required=True)
    settings = load_settings(environment)
    assert settings.temporal_task_queue == environment.variables["TEMPORAL_TASK_QUEUE"]
    assert settings.require_database_url().startswith("postgresql://")
    options = connection_options(settings, environment.variables)
    assert options["target_host"] == environment.variables["TEMPORAL_TARGET"]
    assert options["namespace"] == environment.variables["TEMPORAL_NAMESPACE"]
    assert bool(options.get("tls")) == (name == ".env.prod")


@pytest.mark.parametrize("name", FILES)
def test_sample_env_file_names_exactly_the_known_settings(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    named = set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", text, re.MULTILINE))
    assert named - OWN - STANDARD == set()
    assert OWN - named == set()


@pytest.mark.parametrize("name", FILES)
def test_sample_env_file_groups_have_comments(name: str) -> None:
    for paragraph in (ROOT / name).read_text(encoding="utf-8").split("\n\n"):
        assert re.match(r"# [A-Z/a-z]", paragraph), paragraph


@pytest.mark.parametrize("name", FILES)
def test_sample_env_file_has_no_empty_values(name: str) -> None:
    # botocore takes an empty AWS_PROFILE as the name of a profile.
    assert [key for key, value in read_environment({}, ROOT / name, required=True).variables.items() if not value] == []
